"""Distillation losses. They need torch only; see README.md here."""
from ._functional import prepare
from .ab import ABLoss
from .adaptation import AdaptationLoss
from .affinity import AffinityLoss
from .at import ATLoss
from .cckd import CCKDLoss
from .crd import CRDLoss
from .dist import DISTLoss
from .fitnet import FitNetLoss
from .fsp import FSPLoss
from .ft import FTLoss, Paraphraser
from .hcl import HCLLoss
from .hnd import HNDLoss
from .ickd import ICKDLoss
from .ka import KALoss
from .kd import KDLoss
from .logit_std import LogitStdLoss
from .pad import PADLoss
from .pkt import PKTLoss
from .reviewkd import ReviewKDLoss
from .rkd import RKDLoss
from .sp import SPLoss
from .srd import SRDLoss
from .translator import Encoder, Translator
from .vid import VIDLoss

__all__ = [
    'CCKDLoss', 'PKTLoss', 'RKDLoss', 'SPLoss', 'DISTLoss', 'KDLoss',
    'LogitStdLoss', 'HNDLoss', 'HCLLoss', 'ICKDLoss', 'ReviewKDLoss',
    'CRDLoss', 'ATLoss', 'FitNetLoss', 'SRDLoss', 'VIDLoss', 'ABLoss',
    'FSPLoss', 'FTLoss', 'PADLoss', 'Paraphraser', 'AdaptationLoss',
    'AffinityLoss', 'Encoder', 'KALoss', 'Translator', 'prepare'
]
