"""Factor transfer as a hook."""
from typing import Any

from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.translator import EncodedTerm
from seg_kd.losses import FTLoss
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class FTHook(DistillHook):
    """Factor transfer (Kim et al., NeurIPS 2018), see :class:`FTLoss`.

    Args:
        student: Layer path of the student's last map.
        teacher: Layer path of the teacher's.
        paraphraser: Checkpoint of the stage that trained the paraphraser
            (:class:`ParaphraserHook`), written ``'stage:paraphraser'`` in a
            config with stages. None: the teacher's map as it is.
        settings: Of :class:`DistillHook`, and of the loss (``p``, ``form``).
    """

    loss_cls = FTLoss
    term_cls = EncodedTerm

    def __init__(self, student: str, teacher: str, paraphraser: str | None,
                 **settings: Any) -> None:
        super().__init__(student, teacher, paraphraser=paraphraser, **settings)
