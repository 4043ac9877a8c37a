"""MMEngine hooks: the teacher, and one hook a distillation method."""
from seg_kd.hooks.at import ATHook
from seg_kd.hooks.crd import CRDHook
from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.ft import FTHook
from seg_kd.hooks.gradient_ratio import GradientRatioHook
from seg_kd.hooks.hnd import HNDHook
from seg_kd.hooks.ka import KAHook
from seg_kd.hooks.methods import (ABHook, BalancedHook, CCKDHook, CWDHook,
                                  DISTHook, FitNetHook, FSPHook, ICKDHook,
                                  KDHook, LogitStdHook, PADHook, PKTHook,
                                  ReviewKDHook, RKDHook, SPHook, VIDHook)
from seg_kd.hooks.softened import SoftenedLabelsHook
from seg_kd.hooks.srd import SRDHook
from seg_kd.hooks.student import StudentHook
from seg_kd.hooks.teacher import TeacherHook
from seg_kd.hooks.translator import ParaphraserHook, TranslatorHook

__all__ = [
    'BalancedHook', 'CWDHook', 'CCKDHook', 'PKTHook', 'RKDHook', 'SPHook',
    'DISTHook', 'KDHook', 'LogitStdHook', 'ATHook', 'FitNetHook', 'SRDHook',
    'VIDHook', 'CRDHook', 'HNDHook', 'ICKDHook', 'ReviewKDHook', 'ABHook',
    'FSPHook', 'FTHook', 'GradientRatioHook', 'PADHook', 'ParaphraserHook',
    'DistillHook', 'KAHook', 'SoftenedLabelsHook', 'StudentHook',
    'TeacherHook', 'TranslatorHook'
]
