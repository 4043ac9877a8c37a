"""Weights that are measured, not copied from another data set."""
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from seg_kd.errors import UserError

HALF_SCALE = 4096.


class AutoWeight(nn.Module):
    """The weight at which a term's gradient is ``ratio`` times the task's.

    Both gradients are taken at the student's tapped maps. Their norms are
    summed over the first ``iterations`` (and over all processes), in which
    the weight is the one found so far; then it stays. What was measured is in
    the checkpoint.

    Args:
        name: Of the term, for the log.
        ratio: Norm of the weighted term's gradient, per norm of the task's.
        iterations: How many to measure.
    """

    def __init__(self, name: str, ratio: float = 1., iterations: int = 50):
        super().__init__()
        if ratio <= 0 or iterations < 1:
            raise UserError('auto_ratio must be positive and auto_iters at '
                            f'least 1, not {ratio} and {iterations}')
        self.name, self.ratio, self.iterations = name, ratio, iterations
        # Sums of norms, of task and term. Checkpoints know them as "pulls".
        self.register_buffer('pulls', torch.zeros(2))
        self.register_buffer('measured', torch.zeros((), dtype=torch.long))
        # `measured`, once it is known: asking the buffer waits for a GPU
        self._count: int | None = None

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, iterations={self.iterations}'

    def measure(self,
                task: Tensor,
                term: Tensor,
                maps: Sequence[Tensor],
                labelled: Tensor | None = None) -> None:
        """Takes the norms of one iteration into account, the first ones only.

        Not in an evaluation, nor where no pixel is ``labelled``.

        Raises:
            UserError: The task has no gradient at these maps, or there are
                none.
        """
        if not (self.training and torch.is_grad_enabled()):
            return
        if not maps:
            raise UserError(f"{self.name}: weight='auto' is for a term at a "
                            'map of the student; give the weight as a number')
        if self._count is None:
            self._count = int(self.measured)
        if self._count >= self.iterations:
            return
        pull = grad_norm(task, maps)
        counts = pull.new_ones(()) if labelled is None else labelled.sum()
        norms = torch.stack([pull, grad_norm(term, maps), counts.to(pull)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(norms)
        if norms[0] == 0:
            if norms[2] == 0:
                return
            raise UserError(
                f"{self.name}: weight='auto' compares with the gradient of "
                'the task, and that is 0 at the tapped map of the student; '
                'give the weight as a number')
        self.pulls += norms[:2]
        self.measured += 1
        self._count += 1
        if self._count == self.iterations:
            weight = self.value().item()
            logging.getLogger(__name__).info(
                f'{self.name}: weight {weight:.4g}, {self.ratio:g} times the '
                f'gradient of the task over {self.iterations} iterations')

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._count = None

    def value(self) -> Tensor:
        """0 as long as the term has had no gradient at all."""
        task, term = self.pulls
        return torch.where(term > 0, self.ratio * task / term, 0.)


def grad_norm(value: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Norm of the gradient of ``value`` at all ``maps`` together.

    Float16 would round small ones to 0: there it is taken of a larger value,
    as a ``GradScaler`` does.
    """
    if not value.requires_grad:
        return maps[0].new_zeros((), dtype=torch.float)
    half = any(x.dtype == torch.float16 for x in maps)
    for scale in (HALF_SCALE, 1.) if half else (1., ):
        gradients = torch.autograd.grad(value * scale,
                                        maps,
                                        retain_graph=True,
                                        allow_unused=True)
        squares = [
            g.float().square().sum() for g in gradients if g is not None
        ]
        norm = sum(squares, maps[0].new_zeros((), dtype=torch.float)).sqrt()
        if scale == 1 or norm.isfinite():
            break
    return norm / scale


def total(losses: Mapping[str, Any]) -> Tensor:
    """The sum that is minimized, of a task's named losses.

    As MMEngine names them: what has no "loss" in its name is only logged.
    """
    values = [v for name, v in losses.items() if 'loss' in name]
    flat = [t for v in values for t in (v if isinstance(v, list) else [v])]
    return sum(t.mean() for t in flat) if flat else torch.zeros(())
