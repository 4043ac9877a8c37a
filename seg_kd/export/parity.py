"""Whether an exported network gives what the student gives, and how fast."""
import dataclasses
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from seg_kd.benchmark.timing import in_turn
from seg_kd.errors import UserError
from seg_kd.export.card import LABELS
from seg_kd.export.network import Deployed
from seg_kd.export.samples import Images, logits_of

AGREE = 0.9999  # of the pixels
Run = Callable[[np.ndarray], np.ndarray]  # batch as the card says -> output


@dataclasses.dataclass
class Parity:
    """How an exported network differs from the student.

    Args:
        images: Number of them.
        real: Whether they are of the test set; noise otherwise.
        same: Share of pixels of the same class.
        error: Largest difference of a logit; None where labels come out.
        largest: Largest logit.
    """
    images: int
    real: bool
    same: float = 1.
    error: float | None = None
    largest: float = 0.

    def __str__(self) -> str:
        kind = 'test images' if self.real else 'images of noise (no test set)'
        text = f'{self.same:.4%} of the pixels of {self.images} {kind} agree'
        if self.error is not None:
            text += (f', logits up to {self.largest:.3g} differ by at most '
                     f'{self.error:.2g}')
        return text


def compare(run: Run, network: Deployed, images: Images,
            fixed: bool) -> Parity:
    """Runs both on the images, each by itself and, where it may, in a batch.

    Args:
        run: The exported network.
        network: What was exported.
        images: To run them on.
        fixed: Whether the exported network takes their size only; otherwise
            a part of an image, of odd size, is tried as well.

    Raises:
        UserError: Fewer than 99.99 % of the pixels agree.
    """
    batches = [[image] for image in images.arrays]
    image = images.arrays[0]
    if not fixed:
        height, width = image.shape[0] - 13, image.shape[1] - 7
        image = image[:height, :width]
    batches.append([image, image[:, ::-1], image[::-1]])
    found = Parity(len(images.arrays), images.real)
    same = count = 0
    for batch in batches:
        output = run(network.card.batch(np.stack(batch)))
        logits = logits_of(network.model, batch)
        expected = network.labels(logits).numpy()
        if network.card.output == LABELS:
            labels = output
        else:
            given = torch.from_numpy(output)
            labels = network.labels(given).numpy()
            _note(found, given, logits)
        same += int((labels == expected).sum())
        count += expected.size
    found.same = same / count
    if not found.same >= AGREE:
        how = '' if fixed else '; one size of images, --size, may go'
        raise UserError(f'the exported network is not the student: {found}; '
                        f'{AGREE:.2%} are expected, and it was not written'
                        f'{how}')
    return found


def _note(found: Parity, given: Tensor, logits: Tensor) -> None:
    error = float((given - logits).abs().max())
    found.error = max(found.error or 0., error)
    found.largest = max(found.largest, float(logits.abs().max()))


def latency(runs: dict[str, Run],
            batch: np.ndarray,
            count: int = 10) -> dict[str, float]:
    """Median milliseconds of each for this batch, in turns."""
    works = {name: lambda run=run: run(batch) for name, run in runs.items()}
    return {k: median(times) for k, times in in_turn(works, count).items()}


def torch_run(network: Callable[[Tensor], Tensor]) -> Run:
    """A torch function as one of arrays."""

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(batch)).numpy()

    return run
