"""The student as an ONNX file, and an ONNX file as a network.

``onnx`` and ``onnxruntime`` are an extra, and imported where they are needed.
"""
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

import seg_kd
from seg_kd.errors import UserError
from seg_kd.export.card import LABELS, Card
from seg_kd.export.files import require_onnx
from seg_kd.export.network import INPUT, Deployed
from seg_kd.networks.classes import labels_of

OPSET = 18
_AXES = {'N': 'batch', 'H': 'height', 'W': 'width'}


def write_onnx(program: torch.export.ExportedProgram, network: Deployed,
               path: str) -> None:
    """Writes an exported program as ONNX, with its card as metadata.

    Raises:
        UserError: ONNX has no like of one of its operations.
    """
    import onnx
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter('ignore')  # of torch's own exporter
            made = torch.onnx.export(program, (),
                                     input_names=[INPUT],
                                     output_names=[network.card.output_name],
                                     opset_version=OPSET,
                                     dynamo=True,
                                     optimize=True,
                                     verbose=False)
    except Exception as error:  # the exporter can fail in any way
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'the network cannot be written as ONNX: '
                        f'{type(error).__name__}: {reason}') from error
    model = made.model_proto
    rename_axes(model, network.card)
    model.producer_name = 'seg_kd'
    model.producer_version = seg_kd.__version__
    describe(model, network.card)
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words on operations of torchvision."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def rename_axes(model: Any, card: Card) -> None:
    """Gives the free axes of the input, and of the output, their names."""
    graph = model.graph
    named = {}
    for letter, dim in zip(card.layout, shape_of(graph.input[0])):
        if dim.dim_param:
            named[dim.dim_param] = _AXES[letter]
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in shape_of(value):
            if dim.dim_param in named:  # to write '' would drop a number
                dim.dim_param = named[dim.dim_param]


def shape_of(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def describe(model: Any, card: Card) -> None:
    """Puts the card into the metadata of an ONNX model."""
    import onnx
    onnx.helper.set_model_props(model, card.metadata())
    model.doc_string = (f'Semantic segmentation in {len(card.classes)} '
                        f'classes. Takes {card.describe()}; gives '
                        f'{card.output} of the same size.')


class OnnxNetwork:
    """An ONNX file that ``seg-kd export`` has written, run by onnxruntime.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, does not say its classes, or has other
            ones than it says.
    """

    def __init__(self, path: str) -> None:
        require_onnx(['onnxruntime'])
        import onnxruntime
        if not os.path.isfile(path):
            raise UserError(f'{path} does not exist')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors, which are raised as well
        usable = onnxruntime.get_available_providers()
        wanted = ['CUDAExecutionProvider', 'CPUExecutionProvider']
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=[p for p in wanted if p in usable])
        except Exception as error:  # its errors have no common base
            reason = ' '.join(str(error).split())[:200]
            raise UserError(f'{path} is not an ONNX file that can be run: '
                            f'{reason}') from error
        meta = self.session.get_modelmeta().custom_metadata_map
        self.card = Card.read(meta, path)
        self._check(path)

    def _check(self, path: str) -> None:
        outputs = self.session.get_outputs()
        count = len(self.card.classes)
        names = [output.name for output in outputs]
        if names != [self.card.output_name]:
            raise UserError(f'{path} gives {", ".join(names)}, its metadata '
                            f'says {self.card.output}')
        channels = outputs[0].shape[1]
        if self.card.output != LABELS and channels not in (count,
                                                           1) and isinstance(
                                                               channels, int):
            raise UserError(f'{path} gives {channels} classes, its metadata '
                            f'names {count}')
        if channels == 1 and self.card.output != LABELS and \
                self.card.threshold is None:
            raise UserError(f'{path} gives one output and does not say its '
                            'threshold, as files of older versions: export '
                            'it again')

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Output for a batch that is as the card says."""
        name = self.session.get_inputs()[0].name
        return self.session.run(None, {name: batch})[0]

    def labels(self, image: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Labels at another size, of an image as the test pipeline makes it.

        Shape:
            ``(h, w, 3)`` BGR -> ``size``, integers.
        """
        output = self(self.card.batch(image[None]))
        given = torch.from_numpy(np.ascontiguousarray(output))
        if self.card.output == LABELS:
            if given.shape[1:] == tuple(size):
                return output[0]
            given = interpolate(given[None].float(), tuple(size))[0, 0]
            return given.numpy().astype(output.dtype)
        if given.shape[2:] != tuple(size):
            given = interpolate(given,
                                tuple(size),
                                mode='bilinear',
                                align_corners=self.card.align_corners)
        return labels_of(given, self.card.threshold)[0].numpy()
