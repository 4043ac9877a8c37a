"""What brings a student's map to the teacher's channels, and is trained."""
from torch import nn

KINDS = ('linear', 'bn', 'mlp')


def connector_layers(kind: str,
                     student_channels: int,
                     teacher_channels: int,
                     kernel_size: int = 1,
                     bias: bool = False) -> list[nn.Module]:
    """The layers of a connector ``(N, Cs, H, W) -> (N, Ct, H, W)``.

    Args:
        kind: ``'linear'``: a convolution. ``'bn'``: batch norm after it.
            ``'mlp'``: ReLU and a 1x1 convolution after it, with ``Ct``
            channels between: for a student much narrower than the teacher.
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        kernel_size: Of the first convolution, odd.
        bias: Of the last convolution.

    Raises:
        ValueError: For another ``kind`` or an even kernel.
    """
    if kind not in KINDS:
        raise ValueError(f'connector must be one of {KINDS}, not {kind!r}')
    if kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd, not {kernel_size}')
    first = nn.Conv2d(student_channels,
                      teacher_channels,
                      kernel_size,
                      padding=kernel_size // 2,
                      bias=bias or kind == 'mlp')
    if kind == 'linear':
        return [first]
    if kind == 'bn':
        return [first, nn.BatchNorm2d(teacher_channels)]
    last = nn.Conv2d(teacher_channels, teacher_channels, 1, bias=bias)
    return [first, nn.ReLU(inplace=True), last]


def make_connector(kind: str, student_channels: int, teacher_channels: int,
                   bias: bool) -> nn.Module:
    """The same as one module; nothing is done to equal channels if linear."""
    layers = connector_layers(kind,
                              student_channels,
                              teacher_channels,
                              bias=bias)
    if len(layers) > 1:
        return nn.Sequential(*layers)
    equal = student_channels == teacher_channels
    return nn.Identity() if equal else layers[0]
