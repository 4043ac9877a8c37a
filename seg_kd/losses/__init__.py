"""Distillation losses. They need torch only; see README.md here."""
from ._functional import prepare
from .adaptation import AdaptationLoss
from .affinity import AffinityLoss
from .ka import KALoss
from .translator import Encoder, Translator

__all__ = [
    'AdaptationLoss', 'AffinityLoss', 'Encoder', 'KALoss', 'Translator',
    'prepare'
]
