"""Data sets, their checks, and training augmentation that a seed decides."""
from seg_kd.datasets.cached import Cached
from seg_kd.datasets.camvid import CamVidDataset
from seg_kd.datasets.check import CheckLabels, check_dataset, check_files
from seg_kd.datasets.finer import show_finer
from seg_kd.datasets.ready import classes_of, make_ready
from seg_kd.datasets.seeded import (SeededDataset, SeededDraws, SeededSampler,
                                    seed_draws)
from seg_kd.datasets.transforms import Albumentations, CropWithClassCap
from seg_kd.datasets.unlabelled import MixedSampler, WithUnlabelled, mix_in
from seg_kd.datasets.workers import with_workers

__all__ = [
    'Albumentations', 'Cached', 'CamVidDataset', 'CheckLabels',
    'CropWithClassCap', 'MixedSampler', 'SeededDataset', 'SeededDraws',
    'SeededSampler', 'WithUnlabelled', 'check_dataset', 'check_files',
    'classes_of', 'make_ready', 'mix_in', 'seed_draws', 'show_finer',
    'with_workers'
]
