"""Knowledge adaptation as a hook."""
from typing import Any

from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.translator import EncodedTerm
from seg_kd.losses import KALoss
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
    term_cls = EncodedTerm

    def __init__(self, student: str, teacher: str, translator: str | None,
                 **settings: Any) -> None:
        super().__init__(student, teacher, translator=translator, **settings)
