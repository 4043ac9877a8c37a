"""From an image to its labels: by the trained model, or by an ONNX file."""
from collections.abc import Callable

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmseg.apis import inference_model

from seg_kd.datasets.check import pipeline_of
from seg_kd.engine.evaluate import last_stage, load_student
from seg_kd.errors import UserError
from seg_kd.export.card import RESIZES, classes_and_palette
from seg_kd.export.onnx_file import OnnxNetwork
from seg_kd.export.plain_config import plain_pipeline
from seg_kd.networks.classes import check_num_classes
from seg_kd.registry import TRANSFORMS

# ``(H, W, 3)`` BGR -> ``(H, W)`` class numbers
Predictor = Callable[[np.ndarray], np.ndarray]
Names = tuple[tuple[str, ...], list[list[int]]]  # classes, palette


def of_model(cfg: Config, checkpoint: str) -> tuple[Predictor, Names]:
    """The student of a config, as MMSegmentation's own inference runs it.

    Raises:
        UserError: The config has no test pipeline, or the checkpoint does not
            fill its model.
    """
    cfg = last_stage(cfg)
    model, content = load_student(cfg, checkpoint)
    names = classes_and_palette(cfg, content, checkpoint)
    check_num_classes(model, names[0], 'the student', auxiliary=False)
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if not dataset:
        raise UserError(f'{cfg.filename} has no test_dataloader, whose '
                        'pipeline says how to load an image')
    pipeline = plain_pipeline(pipeline_of(dataset))
    model.cfg = Config(dict(test_pipeline=pipeline))
    model.to(get_device())

    def predict(image: np.ndarray) -> np.ndarray:
        found = inference_model(model, image).pred_sem_seg.data[0]
        return found.cpu().numpy()

    return predict, names


def of_onnx(path: str) -> tuple[Predictor, Names]:
    """An ONNX file of ``seg-kd export``, alone.

    Raises:
        UserError: It cannot be read, or does not say its classes.
    """
    network = OnnxNetwork(path)
    card = network.card
    others = {move.get('type') for move in card.resize} - set(RESIZES)
    if others:
        raise UserError(f'{path} wants images to go through {min(others)}, '
                        'which this program does not do')
    moves = Compose([TRANSFORMS.build(move) for move in card.resize])

    def predict(image: np.ndarray) -> np.ndarray:
        size = image.shape[:2]
        given = dict(img=image, img_shape=size, ori_shape=size)
        return network.labels(moves(given)['img'], size)

    return predict, (card.classes, card.palette)
