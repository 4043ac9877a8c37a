"""From one network's normalization of images to another's."""
from torch import Tensor, nn, ones, zeros


class Renormalize:
    """From the student's image normalization to the teacher's.

    Images of equal pre-processing pass untouched.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        mean, std, flip = normalization(student)
        to_mean, to_std, to_flip = normalization(teacher)
        self.flip = flip != to_flip
        if self.flip:
            mean, std = mean.flip(0), std.flip(0)
        self.scale, self.shift = std / to_std, (mean - to_mean) / to_std
        self.same = not self.flip and bool(
            (self.scale == 1).all() and (self.shift == 0).all())

    def __call__(self, images: Tensor) -> Tensor:
        if self.same:
            return images
        images = images.flip(1) if self.flip else images
        self.scale, self.shift = self.scale.to(images), self.shift.to(images)
        return images * self.scale + self.shift


def normalization(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Mean, deviation ``(C, 1, 1)``, and whether channels are swapped.

    ``C`` is 1 where images are left as they are.
    """
    mean, std = zeros(1, 1, 1), ones(1, 1, 1)
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.cpu(), preprocessor.std.cpu()
    return mean, std, getattr(preprocessor, '_channel_conversion', False)


def image_channels(network: nn.Module) -> int:
    """Channels of the images that a network takes.

    As its pre-processing says, or else its first convolution.
    """
    preprocessor = getattr(network, 'data_preprocessor', None)
    if getattr(preprocessor, '_enable_normalize', False) and \
            len(preprocessor.mean) > 1:
        return len(preprocessor.mean)
    convs = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    return next((conv.in_channels for conv in convs), 3)
