"""What networks cost: parameters, operations, time; as a table."""
import os
import time
from statistics import median

import torch
from prettytable import PrettyTable
from torch import nn

from seg_kd.analysis.trained import Trained
from seg_kd.networks.costs import flops, parameters


@torch.no_grad()
def latencies(models: dict[str, nn.Module],
              image: torch.Tensor,
              runs: int = 20) -> dict[str, float]:
    """Median milliseconds of one forward each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for i in range(runs + 3):  # three to warm up
        for name, model in models.items():
            start = time.perf_counter()
            model(image)
            if i >= 3:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: median(taken) for name, taken in times.items()}


def compare(models: dict[str, Trained], path: str) -> str:
    """One table of quality and cost; kept in ``path`` as well."""
    sample = next(iter(models.values())).samples(1)[0]
    size = tuple(sample['inputs'].shape[-2:])
    image = torch.zeros(1, 3, *size)
    # before the metrics, which take the networks to the GPU
    speed = latencies({k: m.model for k, m in models.items()}, image)
    work = {k: flops(m.model, image) / 1e9 for k, m in models.items()}
    table = PrettyTable(
        ['network', 'mIoU', 'aAcc', 'parameters', 'GFLOPs', 'ms an image'])
    table.align = 'r'
    table.align['network'] = 'l'
    for name, trained in models.items():
        got = trained.metrics(os.path.join(os.path.dirname(path), 'test'),
                              name)
        table.add_row([
            name, f'{got["mIoU"]:.2f}', f'{got["aAcc"]:.2f}',
            f'{parameters(trained.model) / 1e6:.2f} M', f'{work[name]:.2f}',
            f'{speed[name]:.1f}'
        ])
    text = (f'{table}\n(images of {size[1]}x{size[0]}, batch 1, on '
            f'{torch.get_num_threads()} CPU threads)')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text + '\n')
    return text
