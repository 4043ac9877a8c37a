"""MMEngine hooks: the teacher, and one hook a distillation method."""
from .at import ATHook
from .crd import CRDHook
from .data_share import DataShareHook
from .distill import DistillHook
from .finite import FiniteLossHook
from .ft import FTHook
from .hnd import HNDHook
from .ka import KAHook
from .load import LoadHook
from .methods import (ABHook, CCKDHook, DISTHook, FitNetHook, FSPHook,
                      ICKDHook, KDHook, LogitStdHook, PADHook, PKTHook,
                      ReviewKDHook, RKDHook, SPHook, VIDHook)
from .seed import SeedHook
from .srd import SRDHook
from .teacher import TeacherHook
from .translator import ParaphraserHook, TranslatorHook

__all__ = [
    'CCKDHook', 'PKTHook', 'RKDHook', 'SPHook', 'DISTHook', 'KDHook',
    'LogitStdHook', 'ATHook', 'FitNetHook', 'SRDHook', 'VIDHook', 'CRDHook',
    'HNDHook', 'ICKDHook', 'ReviewKDHook', 'ABHook', 'FSPHook', 'FTHook',
    'PADHook', 'ParaphraserHook', 'DataShareHook', 'DistillHook',
    'FiniteLossHook', 'KAHook', 'LoadHook', 'SeedHook', 'TeacherHook',
    'TranslatorHook'
]
