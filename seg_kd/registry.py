"""The registries that configs look names up in, in one place.

They are MMEngine's and MMSegmentation's own: what is registered here works in
any of their configs, and everything of theirs works in ours.
"""
from mmengine.registry import DATA_SAMPLERS, HOOKS, OPTIM_WRAPPERS, RUNNERS
from mmseg.registry import DATASETS, MODELS, TRANSFORMS

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'MODELS', 'OPTIM_WRAPPERS',
    'RUNNERS', 'TRANSFORMS'
]
