"""The head of a split network: layers that squeeze an image through a link."""
from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import interpolate

from seg_kd.errors import UserError
from seg_kd.registry import MODELS

_NORM = dict(type='BN')
_INIT = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', layer='_BatchNorm', val=1.)
]


class Decoder(nn.Module):
    """The imitated map, of a given size, from what was received."""

    def __init__(self, coarse: nn.Module, fine: nn.Module) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine

    def forward(self, sent: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.coarse(sent)
        if x.shape[2:] != size:
            x = interpolate(x, size, mode='bilinear', align_corners=False)
        return self.fine(x)


@MODELS.register_module()
class BottleneckHead(BaseModule):
    """An encoder to few channels, the link, and a decoder from them.

    The encoder runs on the device that has the camera: 3x3 convolutions of
    stride 2, the last of them to ``bottleneck_channels``, batch norm and no
    activation. What it returns is sent. The decoder runs on the server and
    gives the map that the teacher's tail goes on from: three 3x3 convolutions
    and a 1x1 one, the last 3x3 on the grid of that map. After the heads of
    yoshitomo-matsubara/head-network-distillation, whose bottlenecks have 3 to
    12 channels at stride 8 too; their kernels are 2x2 and made for 224x224.

    Args:
        out_channels: Of the map to imitate. :class:`SplitSegmentor` finds it.
        stride: Of the map to imitate. :class:`SplitSegmentor` finds it.
        bottleneck_channels: What is sent of each position.
        encoder_channels: Of the convolutions before the bottleneck's; the
            bottleneck's stride is 2 to the power of their number plus 1.
        decoder_channels: Of the decoder's 3x3 convolutions.
        norm_cfg: Normalization.
        in_channels: Of the images. :class:`SplitSegmentor` finds it.
        init_cfg: Initialization, Kaiming's by default.

    Shape:
        ``(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ...)``;
        ``encoder``: ``-> (N, bottleneck_channels, ...)``.

    Raises:
        UserError: There are no channels to send or to compute.
    """

    def __init__(self,
                 out_channels: int,
                 stride: int,
                 bottleneck_channels: int = 12,
                 encoder_channels: Sequence[int] = (32, 64),
                 decoder_channels: int = 128,
                 norm_cfg: dict = _NORM,
                 init_cfg: dict | None = None,
                 in_channels: int = 3) -> None:
        super().__init__(init_cfg or _INIT)
        widths = (*encoder_channels, bottleneck_channels)
        if min(*widths, decoder_channels) < 1:
            raise UserError('BottleneckHead needs channels: encoder_channels '
                            f'{tuple(encoder_channels)}, bottleneck_channels '
                            f'{bottleneck_channels}, decoder_channels '
                            f'{decoder_channels}')
        self.stride = stride

        def conv(inputs: int, outputs: int, **settings) -> ConvModule:
            return ConvModule(inputs,
                              outputs,
                              3,
                              padding=1,
                              norm_cfg=norm_cfg,
                              **settings)

        *layers, link = zip((in_channels, *widths), widths)
        self.encoder = nn.Sequential(
            *(conv(*pair, stride=2) for pair in layers),
            conv(*link, stride=2, act_cfg=None))
        coarse = nn.Sequential(conv(bottleneck_channels, decoder_channels),
                               conv(decoder_channels, decoder_channels))
        fine = nn.Sequential(conv(decoder_channels, decoder_channels),
                             nn.Conv2d(decoder_channels, out_channels, 1))
        self.decoder = Decoder(coarse, fine)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images), self.grid(images.shape[2:]))

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Size of the imitated map for images of this size."""
        height, width = (-(-side // self.stride) for side in size)
        return height, width
