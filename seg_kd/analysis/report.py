"""What trained networks cost and give: a table, a picture, curves."""
import glob
import json
import os
import time
from statistics import median
from typing import Any, Dict, List

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seg_kd.engine.evaluate import evaluate, last_stage
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.registry import DATASETS, MODELS

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


class Trained:
    """A network with its trained weights and the config it came from.

    Args:
        config: Config file.
        checkpoint: Weights; distillation parts in it are left out.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        self.cfg = last_stage(Config.fromfile(config))
        init_default_scope(self.cfg.default_scope)
        self.cfg.model.backbone.init_cfg = None
        self.model = MODELS.build(self.cfg.model)
        load_weights(self.model, read_checkpoint(checkpoint), checkpoint)
        self.model.eval()

    def metrics(self, work_dir: str, name: str) -> Dict[str, float]:
        """mIoU, aAcc and mAcc on the config's test set; ``name`` its log."""
        cfg = self.cfg.copy()
        cfg.work_dir, cfg.log_level = work_dir, 'WARNING'
        return evaluate(cfg, self.model, name)

    def samples(self, count: int) -> List[Dict[str, Any]]:
        """Images of the test set, evenly spread over it."""
        dataset = DATASETS.build(self.cfg.test_dataloader.dataset)
        return [dataset[i * len(dataset) // count] for i in range(count)]

    @torch.no_grad()
    def predict(self, sample: Dict[str, Any]) -> np.ndarray:
        """Labels ``(H, W)`` of one sample of :meth:`samples`."""
        batch = dict(inputs=[sample['inputs']],
                     data_samples=[sample['data_samples']])
        result = self.model.test_step(batch)[0]
        return result.pred_sem_seg.data[0].cpu().numpy()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def flops(model: nn.Module, image: torch.Tensor) -> int:
    """Floating-point operations of one forward; a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops()


@torch.no_grad()
def latencies(models: Dict[str, nn.Module],
              image: torch.Tensor,
              runs: int = 20) -> Dict[str, float]:
    """Median milliseconds of one forward each, taken in turn."""
    times: Dict[str, List[float]] = {name: [] for name in models}
    for i in range(runs + 3):  # three to warm up
        for name, model in models.items():
            start = time.perf_counter()
            model(image)
            if i >= 3:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(taken) for name, taken in times.items()}


def compare(models: Dict[str, Trained], path: str) -> str:
    """One table of quality and cost; kept in ``path`` as well."""
    sample = next(iter(models.values())).samples(1)[0]
    size = tuple(sample['inputs'].shape[-2:])
    image = torch.zeros(1, 3, *size)
    speed = latencies({k: m.model for k, m in models.items()}, image)
    table = PrettyTable(
        ['network', 'mIoU', 'aAcc', 'parameters', 'GFLOPs', 'ms an image'])
    table.align = 'r'
    table.align['network'] = 'l'
    for name, trained in models.items():
        got = trained.metrics(os.path.join(os.path.dirname(path), 'test'),
                              name)
        table.add_row([
            name, f'{got["mIoU"]:.2f}', f'{got["aAcc"]:.2f}',
            f'{parameters(trained.model) / 1e6:.2f} M',
            f'{flops(trained.model, image) / 1e9:.2f}', f'{speed[name]:.1f}'
        ])
    text = (f'{table}\n(images of {size[1]}x{size[0]}, batch 1, on '
            f'{torch.get_num_threads()} CPU threads)')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text + '\n')
    return text


def draw_predictions(models: Dict[str, Trained],
                     path: str,
                     count: int = 4) -> None:
    """Rows of image, truth, and what each network sees in the image."""
    first = next(iter(models.values()))
    dataset = DATASETS.build(first.cfg.test_dataloader.dataset)
    palette = np.array(dataset.metainfo['palette'], np.uint8)
    columns = ['image', 'truth', *models]
    samples = first.samples(count)
    height, width = samples[0]['inputs'].shape[-2:]
    figure, axes = plt.subplots(count,
                                len(columns),
                                figsize=(2.6 * len(columns),
                                         2.6 * count * height / width + 0.4),
                                squeeze=False,
                                layout='constrained')
    for row, sample in zip(axes, samples):
        truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
        image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
        shown = [image, colours(truth, palette)]
        shown += [colours(m.predict(sample), palette) for m in models.values()]
        for axis, picture in zip(row, shown):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], columns):
        axis.set_title(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def colours(label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A label map ``(H, W)`` in colour; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = palette
    return table[label]


def read_scalars(folder: str) -> Dict[str, List[tuple]]:
    """``name -> [(iteration, value), ...]`` out of a run's logs.

    A resumed run has several logs: of an iteration the last one counts.
    """
    found: Dict[str, Dict[int, float]] = {}
    logs = os.path.join(folder, '*', 'vis_data', 'scalars.json')
    for log in sorted(glob.glob(logs)):
        with open(log, encoding='utf-8') as f:
            for line in f:
                entry = json.loads(line)
                for name, value in entry.items():
                    if isinstance(value, (int, float)):
                        found.setdefault(name, {})[entry['step']] = value
    return {name: sorted(values.items()) for name, values in found.items()}


def draw_curves(folders: Dict[str, str], path: str) -> None:
    """One plot a logged loss term, one line a run."""
    runs = {name: read_scalars(folder) for name, folder in folders.items()}
    terms = sorted({
        term
        for scalars in runs.values()
        for term in scalars if 'loss' in term
    })
    figure, axes = plt.subplots(1,
                                len(terms),
                                figsize=(3.6 * len(terms), 3.2),
                                squeeze=False,
                                layout='constrained')
    for axis, term in zip(axes[0], terms):
        for name, scalars in runs.items():
            if term in scalars:
                axis.plot(*zip(*scalars[term]), label=name)
        axis.set_title(term)
        axis.set_xlabel('iteration')
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
