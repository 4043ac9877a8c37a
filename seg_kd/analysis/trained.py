"""A trained network with the config that it came from."""
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from seg_kd import shipped
from seg_kd.engine.evaluate import evaluate, last_stage, load_student
from seg_kd.registry import DATASETS


class Trained:
    """A network with its trained weights and the config it came from.

    Args:
        config: A config file, or the name of a shipped one.
        checkpoint: Weights; distillation parts in it are left out.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        self.cfg = last_stage(Config.fromfile(shipped.find(config)))
        self.model, _ = load_student(self.cfg, checkpoint)

    def metrics(self, work_dir: str, name: str) -> dict[str, float]:
        """mIoU, aAcc and mAcc on the config's test set; ``name`` its log."""
        cfg = self.cfg.copy()
        cfg.work_dir, cfg.log_level = work_dir, 'WARNING'
        return evaluate(cfg, self.model, name)

    def samples(self, count: int) -> list[dict[str, Any]]:
        """Images of the test set, evenly spread over it."""
        dataset = DATASETS.build(self.cfg.test_dataloader.dataset)
        return [dataset[i * len(dataset) // count] for i in range(count)]

    @torch.no_grad()
    def predict(self, sample: dict[str, Any]) -> np.ndarray:
        """Labels ``(H, W)`` of one sample of :meth:`samples`."""
        batch = dict(inputs=[sample['inputs']],
                     data_samples=[sample['data_samples']])
        result = self.model.test_step(batch)[0]
        return result.pred_sem_seg.data[0].cpu().numpy()
