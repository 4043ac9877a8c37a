"""What losses on maps share, besides functions."""
from torch import Tensor, nn

from seg_kd.losses._functional import check_pair, full_precision


class Loss(nn.Module):
    """A module that names its settings.

    Attributes:
        shown: Which attributes ``repr`` shows.
    """

    shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        return ', '.join(f'{name}={getattr(self, name)!r}'
                         for name in self.shown)


class MapLoss(Loss):
    """Base of losses that compare two maps; a method defines ``compare``.

    Args:
        student_channels: ``Cs``; None: any number.
        teacher_channels: ``Ct``.
    """

    def __init__(self,
                 student_channels: int | None = None,
                 teacher_channels: int | None = None) -> None:
        super().__init__()
        self.channels = student_channels, teacher_channels

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None):
        check_pair(student, teacher, self.channels)
        with full_precision(teacher):
            return self.compare(student, teacher, mask)

    def compare(self, student: Tensor, teacher: Tensor, mask: Tensor | None):
        """The loss, of maps that fit; without autocast.

        Shape:
            As of ``forward``.
        """
        raise NotImplementedError


def convolution(before: int,
                after: int,
                size: int = 1,
                bias: bool = False) -> nn.Conv2d:
    """``(N, before, H, W) -> (N, after, H, W)``, for odd sizes."""
    return nn.Conv2d(before, after, size, padding=size // 2, bias=bias)


def conv_bn(before: int, after: int, size: int = 1) -> nn.Sequential:
    """A convolution and BN, which has the bias."""
    return nn.Sequential(convolution(before, after, size),
                         nn.BatchNorm2d(after))
