"""What brings a student's map to the teacher's channels, and is trained."""
from torch import nn

from seg_kd.losses._functional import check_choice
from seg_kd.losses._maps import conv_bn, convolution


def connector_layers(kind: str,
                     student_channels: int,
                     teacher_channels: int,
                     kernel_size: int = 1,
                     bias: bool = False) -> nn.Sequential:
    """A connector ``(N, Cs, H, W) -> (N, Ct, H, W)``.

    Args:
        kind: ``'linear'``: a convolution. ``'bn'``: batch norm after it.
            ``'mlp'``: ReLU and a 1x1 convolution after it, with ``Ct``
            channels between: for a student much narrower than the teacher.
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        kernel_size: Of the first convolution, odd.
        bias: Of the last convolution; before batch norm there is none.

    Raises:
        ValueError: For another ``kind`` or an even kernel.
    """
    check_choice('connector', kind, 'linear', 'bn', 'mlp')
    if kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd, not {kernel_size}')
    if kind == 'bn':
        return conv_bn(student_channels, teacher_channels, kernel_size)
    if kind == 'linear':
        return nn.Sequential(
            convolution(student_channels, teacher_channels, kernel_size, bias))
    return nn.Sequential(
        convolution(student_channels, teacher_channels, kernel_size, True),
        nn.ReLU(inplace=True),
        convolution(teacher_channels, teacher_channels, bias=bias))


def make_connector(kind: str,
                   student_channels: int,
                   teacher_channels: int,
                   bias: bool = False) -> nn.Module:
    """The same; a linear one does nothing where the channels agree."""
    layers = connector_layers(kind,
                              student_channels,
                              teacher_channels,
                              bias=bias)
    if len(layers) > 1:
        return layers
    equal = student_channels == teacher_channels
    return nn.Identity() if equal else layers[0]
