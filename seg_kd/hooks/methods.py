"""The methods whose hook is nothing but its loss and its usual taps."""
from typing import Any

from seg_kd.distiller import Path
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import (ABLoss, BalancedLoss, CCKDLoss, CWDLoss, DISTLoss,
                           FitNetLoss, FSPLoss, ICKDLoss, KDLoss, LogitStdLoss,
                           PADLoss, PKTLoss, ReviewKDLoss, RKDLoss, SPLoss,
                           VIDLoss)
from seg_kd.registry import HOOKS

LOGITS = 'decode_head.conv_seg'  # of every head of MMSegmentation


class LogitHook(DistillHook):
    """Base of methods on logits: tapped where the heads classify.

    Args:
        student: Layer path of the student's logits.
        teacher: Of the teacher's.
        settings: Of :class:`DistillHook`, and of the loss.
    """

    def __init__(self,
                 student: Path = LOGITS,
                 teacher: Path = LOGITS,
                 **settings: Any) -> None:
        super().__init__(student, teacher, **settings)


@HOOKS.register_module()
class KDHook(LogitHook):
    """Knowledge distillation (Hinton et al., 2014), see :class:`KDLoss`."""

    loss_cls = KDLoss


@HOOKS.register_module()
class DISTHook(LogitHook):
    """DIST (Huang et al., NeurIPS 2022), see :class:`DISTLoss`."""

    loss_cls = DISTLoss


@HOOKS.register_module()
class LogitStdHook(LogitHook):
    """Logit standardization (Sun et al., 2024), see :class:`LogitStdLoss`."""

    loss_cls = LogitStdLoss
    term_name = 'logit_std'


@HOOKS.register_module()
class ABHook(DistillHook):
    """Activation boundaries (Heo et al., AAAI 2019), see :class:`ABLoss`.

    Of one layer or of several, first to last. The student is tapped before
    its ReLU: a layer path ending in ``:input`` is what that layer receives.
    """

    loss_cls = ABLoss


@HOOKS.register_module()
class FSPHook(DistillHook):
    """FSP (Yim et al., CVPR 2017), see :class:`FSPLoss`.

    ``student`` and ``teacher`` are lists of layers, first to last.
    """

    loss_cls = FSPLoss


@HOOKS.register_module()
class PADHook(DistillHook):
    """PAD (Zhang et al., ECCV 2020), see :class:`PADLoss`."""

    loss_cls = PADLoss


@HOOKS.register_module()
class FitNetHook(DistillHook):
    """FitNets (Romero et al., 2015), see :class:`FitNetLoss`."""

    loss_cls = FitNetLoss


@HOOKS.register_module()
class VIDHook(DistillHook):
    """VID (Ahn et al., CVPR 2019), see :class:`VIDLoss`."""

    loss_cls = VIDLoss


@HOOKS.register_module()
class ReviewKDHook(DistillHook):
    """ReviewKD (Chen et al., CVPR 2021), see :class:`ReviewKDLoss`.

    ``student`` and ``teacher`` are lists of layers, shallow to deep.
    """

    loss_cls = ReviewKDLoss


@HOOKS.register_module()
class ICKDHook(DistillHook):
    """ICKD (Liu et al., ICCV 2021), see :class:`ICKDLoss`."""

    loss_cls = ICKDLoss


@HOOKS.register_module()
class SPHook(DistillHook):
    """Similarity-preserving distillation (ICCV 2019), see :class:`SPLoss`."""

    loss_cls = SPLoss


@HOOKS.register_module()
class PKTHook(DistillHook):
    """PKT (Passalis and Tefas, ECCV 2018), see :class:`PKTLoss`."""

    loss_cls = PKTLoss


@HOOKS.register_module()
class RKDHook(DistillHook):
    """RKD (Park et al., CVPR 2019), see :class:`RKDLoss`.

    Logs ``loss_rkd_distance`` and ``loss_rkd_angle``, both weighted.
    """

    loss_cls = RKDLoss


@HOOKS.register_module()
class CCKDHook(DistillHook):
    """CCKD (Peng et al., ICCV 2019), see :class:`CCKDLoss`."""

    loss_cls = CCKDLoss


@HOOKS.register_module()
class CWDHook(DistillHook):
    """Channel-wise distillation (Shu et al., ICCV 2021), see :class:`CWDLoss`.

    Of maps, or of logits: ``student=teacher='decode_head.conv_seg'``.
    """

    loss_cls = CWDLoss


@HOOKS.register_module()
class BalancedHook(DistillHook):
    """The balanced map loss of AM-RADIO, see :class:`BalancedLoss`."""

    loss_cls = BalancedLoss
