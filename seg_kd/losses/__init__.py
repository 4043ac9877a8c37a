"""Distillation losses. They need torch only; see README.md here.

Besides the losses: what one of your own is made of.
"""
from seg_kd.losses._functional import (as_list, check_channels, check_map,
                                       check_norm, full_precision,
                                       mask_invalid, mask_nonfinite,
                                       match_size, number_of, prepare,
                                       resize_mask, valid_positions,
                                       with_gradient)
from seg_kd.losses._logits import LogitLoss
from seg_kd.losses._maps import MapLoss
from seg_kd.losses._relation import RelationLoss
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
from seg_kd.losses.instances import (Classes, Images, Instances, Maps, Pixels,
                                     Regions)
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
    'ABLoss', 'ATLoss', 'AdaptationLoss', 'AffinityLoss', 'BalancedLoss',
    'CCKDLoss', 'CRDLoss', 'CWDLoss', 'Classes', 'DISTLoss', 'Encoder',
    'FSPLoss', 'FTLoss', 'FitNetLoss', 'HCLLoss', 'HNDLoss', 'ICKDLoss',
    'Images', 'Instances', 'KALoss', 'KDLoss', 'LogitLoss', 'LogitStdLoss',
    'MapLoss', 'Maps', 'PADLoss', 'PKTLoss', 'Paraphraser', 'Pixels',
    'RKDLoss', 'Regions', 'RelationLoss', 'ReviewKDLoss', 'SPLoss', 'SRDLoss',
    'Translator', 'VIDLoss', 'as_list', 'check_channels', 'check_map',
    'check_norm', 'full_precision', 'mask_invalid', 'mask_nonfinite',
    'match_size', 'number_of', 'prepare', 'resize_mask', 'valid_positions',
    'with_gradient'
]
