"""From one network's normalisation of images to another's."""
from typing import Tuple

import torch
from torch import Tensor, nn


class Renormalise:
    """From the student's image normalisation to the teacher's.

    Images of equal pre-processing pass untouched.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        mean, std, flip = normalisation(student)
        to_mean, to_std, to_flip = normalisation(teacher)
        self.flip = flip != to_flip
        if self.flip:
            mean, std = mean.flip(0), std.flip(0)
        self.scale, self.shift = std / to_std, (mean - to_mean) / to_std
        self.same = not self.flip and bool(
            (self.scale == 1).all() and (self.shift == 0).all())

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.same:
            return inputs
        inputs = inputs.flip(1) if self.flip else inputs
        self.scale, self.shift = self.scale.to(inputs), self.shift.to(inputs)
        return inputs * self.scale + self.shift


def normalisation(preprocessor: nn.Module) -> Tuple[Tensor, Tensor, bool]:
    """Mean, deviation ``(3, 1, 1)``, and whether channels are swapped."""
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.cpu(), preprocessor.std.cpu()
    return mean, std, getattr(preprocessor, '_channel_conversion', False)
