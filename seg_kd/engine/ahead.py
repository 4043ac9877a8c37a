"""What a later stage would fail at, found before an earlier one trains."""
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd.datasets import check_files
from seg_kd.engine.checks import check_teacher
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
