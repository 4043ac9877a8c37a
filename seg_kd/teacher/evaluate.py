"""Evaluates a network that is not the runner's own model."""
from typing import Dict

import torch
from mmengine.dist import is_main_process
from mmengine.utils import ProgressBar
from torch import nn

from seg_kd.errors import UserError


@torch.no_grad()
def evaluate_model(network: nn.Module, runner) -> Dict[str, float]:
    """The validation metrics of ``network`` on the runner's validation set.

    Hooks are not called: neither EMA nor the best checkpoint sees it.

    Raises:
        UserError: The config has no validation set.
    """
    if runner.val_dataloader is None:
        raise UserError('TeacherHook(evaluate=True) needs a validation set: '
                        'set val_dataloader, val_cfg and val_evaluator')
    loader = runner.val_dataloader
    if isinstance(loader, dict):
        loader = runner.build_dataloader(loader, seed=runner.seed)
    evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    mode, progress = network.training, None
    network.eval()
    if is_main_process():
        progress = ProgressBar(len(loader))
    for batch in loader:
        outputs = network.val_step(batch)
        evaluator.process(data_samples=outputs, data_batch=batch)
        if progress:
            progress.update()
    network.train(mode)
    return evaluator.evaluate(len(loader.dataset))
