"""Data sets, their checks, and training augmentation that a seed decides."""
from .cached import Cached
from .camvid import CamVidDataset
from .check import CheckLabels, check_dataset, check_files
from .seeded import SeededDataset, SeededSampler
from .transforms import Albumentations, CropWithClassCap

__all__ = [
    'Albumentations', 'Cached', 'CamVidDataset', 'CheckLabels',
    'CropWithClassCap', 'SeededDataset', 'SeededSampler', 'check_dataset',
    'check_files'
]
