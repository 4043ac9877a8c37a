"""Evaluates a network that is not the runner's own model."""
import torch
from mmengine.dist import is_main_process
from torch import nn

from seg_kd.datasets.progress import progress
from seg_kd.errors import UserError


@torch.no_grad()
def evaluate_model(network: nn.Module,
                   runner,
                   scale: int = 1) -> dict[str, float]:
    """The validation metrics of ``network`` on the runner's validation set.

    Its images are ``scale`` times as high and wide as the student's. Hooks
    are not called: neither EMA nor the best checkpoint sees it.

    Raises:
        UserError: The config has no validation set.
    """
    if runner.val_loop is None:
        raise UserError('TeacherHook(evaluate=True) needs a validation set: '
                        'set val_dataloader, val_cfg and val_evaluator')
    loader = runner.val_dataloader
    if scale != 1:
        loader = dict(runner.cfg.val_dataloader,
                      finer=dict(scale=scale, instead=True))
    if isinstance(loader, dict):
        loader = runner.build_dataloader(loader, seed=runner.seed)
    evaluator = runner.build_evaluator(runner.cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    modes = {module: module.training for module in network.modules()}
    network.eval()
    shown = progress(loader, 'teacher') if is_main_process() else loader
    for batch in shown:
        outputs = network.val_step(batch)
        evaluator.process(data_samples=outputs, data_batch=batch)
    for module, mode in modes.items():  # not all of them need be alike
        module.training = mode
    return evaluator.evaluate(len(loader.dataset))
