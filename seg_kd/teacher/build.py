"""Builds the teacher's network: config, weights, mode."""
import copy
import os
import warnings
from typing import Any

from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd import shipped
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.registry import MODELS, config_of_file


def build_teacher(model: str | dict, checkpoint: str | None, trust: bool,
                  preprocessor: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The teacher with all its weights, and the checkpoint they came from.

    A model config that says nothing of pre-processing gets the student's.
    """
    config, found = teacher_config(model, checkpoint)
    content = read_checkpoint(found, trust)
    if config.get('data_preprocessor') is None:
        config['data_preprocessor'] = preprocessor
    network = build_network(config)
    load_weights(network, content, f'the checkpoint {found} of the teacher')
    return network.requires_grad_(False), content


def model_of(path: str) -> dict[str, Any]:
    """The ``model`` of a config file.

    Raises:
        UserError: It cannot be read, or has none.
    """
    found = config_of_file(path).get('model')
    if not isinstance(found, dict):
        raise UserError(f'the config {path} describes no model')
    return found


def build_network(config: dict) -> nn.Module:
    with warnings.catch_warnings():  # of losses that a teacher never computes
        warnings.filterwarnings('ignore', message='.*avg_non_ignore')
        return revert_sync_batchnorm(MODELS.build(config))


def teacher_config(model: str | dict,
                   checkpoint: str | None) -> tuple[dict, str]:
    """Model config and checkpoint of what ``TeacherHook(model=)`` names."""
    init_default_scope('mmseg')
    checkpoint = shipped.weights(model, checkpoint)
    if isinstance(model, str) and model.startswith(shipped.SCOPE):
        model = shipped.find(model)
    if not isinstance(model, str):
        config = model
    elif '::' in model:
        try:
            found = get_config(model, pretrained=checkpoint is None)
        except (FileNotFoundError, ValueError, KeyError,
                AssertionError) as error:
            raise UserError(
                f'no config or no weights are known for {model}: '
                f'{error}; see the model zoo of MMSegmentation') from error
        config, checkpoint = found.model, checkpoint or found.model_path
        if 'data_preprocessor' in found:
            config.setdefault('data_preprocessor', found.data_preprocessor)
    elif not os.path.isfile(model):
        raise UserError(f'the config file {model} of the teacher does not '
                        'exist')
    else:
        config = model_of(model)
    if checkpoint is None:
        raise UserError('TeacherHook needs checkpoint=, the weights of the '
                        'teacher: an untrained teacher teaches nothing')
    config = ConfigDict(copy.deepcopy(config))
    config.pop('pretrained', None)
    return config, checkpoint
