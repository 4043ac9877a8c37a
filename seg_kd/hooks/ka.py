"""Knowledge adaptation as a hook."""
from typing import Any, Optional

from torch import nn

from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.translator import load_encoder, stride
from seg_kd.losses import KALoss, Translator
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class KAHook(DistillHook):
    """Knowledge adaptation (He et al., CVPR 2019), see :class:`KALoss`.

    Logs ``loss_ka_adaptation`` and ``loss_ka_affinity``, both weighted.

    Args:
        student: Layer path of the student's last map.
        teacher: Layer path of the teacher's last convolutional map.
        translator: Checkpoint of the stage that trained the translator
            (:class:`TranslatorHook`), written ``'stage:translator'`` in a
            config with stages. None: the teacher's map as it is.
        settings: Of :class:`DistillHook` (``weight``, ``start``, ``warmup``,
            ...) and of the loss (``adaptation_weight``, ``affinity_weight``,
            ``p``, ``q``, ...).
    """

    loss_cls = KALoss

    def __init__(self, student: str, teacher: str, translator: Optional[str],
                 **settings: Any) -> None:
        super().__init__(student, teacher, **settings)
        self.translator = translator

    def build_loss(self, student, teacher) -> nn.Module:
        if self.translator is not None:
            self.loss['translator'] = load_encoder(self.translator, Translator,
                                                   teacher[1],
                                                   stride(student, teacher))
        return super().build_loss(student, teacher)
