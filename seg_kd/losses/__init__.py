"""Distillation losses. They need torch only; see README.md here."""
from seg_kd.losses._functional import prepare
from seg_kd.losses.ab import ABLoss
from seg_kd.losses.adaptation import AdaptationLoss
from seg_kd.losses.affinity import AffinityLoss
from seg_kd.losses.at import ATLoss
from seg_kd.losses.balanced import BalancedLoss
from seg_kd.losses.cckd import CCKDLoss
from seg_kd.losses.crd import CRDLoss
from seg_kd.losses.cwd import CWDLoss
from seg_kd.losses.dist import DISTLoss
from seg_kd.losses.fitnet import FitNetLoss
from seg_kd.losses.fsp import FSPLoss
from seg_kd.losses.ft import FTLoss, Paraphraser
from seg_kd.losses.hcl import HCLLoss
from seg_kd.losses.hnd import HNDLoss
from seg_kd.losses.ickd import ICKDLoss
from seg_kd.losses.ka import KALoss
from seg_kd.losses.kd import KDLoss
from seg_kd.losses.logit_std import LogitStdLoss
from seg_kd.losses.pad import PADLoss
from seg_kd.losses.pkt import PKTLoss
from seg_kd.losses.reviewkd import ReviewKDLoss
from seg_kd.losses.rkd import RKDLoss
from seg_kd.losses.sp import SPLoss
from seg_kd.losses.srd import SRDLoss
from seg_kd.losses.translator import Encoder, Translator
from seg_kd.losses.vid import VIDLoss

__all__ = [
    'CCKDLoss', 'PKTLoss', 'RKDLoss', 'SPLoss', 'DISTLoss', 'KDLoss',
    'LogitStdLoss', 'HNDLoss', 'HCLLoss', 'ICKDLoss', 'ReviewKDLoss',
    'CRDLoss', 'ATLoss', 'FitNetLoss', 'SRDLoss', 'VIDLoss', 'ABLoss',
    'FSPLoss', 'FTLoss', 'PADLoss', 'Paraphraser', 'AdaptationLoss',
    'AffinityLoss', 'BalancedLoss', 'CWDLoss', 'Encoder', 'KALoss',
    'Translator', 'prepare'
]
