"""An ONNX file in 8 bits, and what that costs in mIoU."""
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmseg.evaluation import IoUMetric

from seg_kd.datasets.progress import progress
from seg_kd.export.card import Card
from seg_kd.export.onnx_file import OnnxNetwork, describe
from seg_kd.export.samples import Samples, as_array

LOSS = 1.  # mIoU that 8 bits may cost without a word
IGNORED = 255  # the label that is not scored
Labels = Callable[[np.ndarray, Sequence[int]], np.ndarray]


class Calibration:
    """Batches of one image, as onnxruntime's calibration reads them."""

    def __init__(self, card: Card, name: str, images: Iterable) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = ({
            name:
            card.batch(image[None])
        } for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize(path: str, target: str, cfg: Config, count: int) -> None:
    """Writes a float ONNX file in 8 bits: weights and maps.

    One scale for each output channel of a convolution's weights, which keep 7
    of the 8 bits, and one for each map, from the extremes over ``count``
    images of the training set, which go through the test pipeline.

    Args:
        path: The float file, of ``write_onnx``.
        target: The file to write.
        cfg: A complete config.
        count: Number of images to calibrate on.

    Raises:
        UserError: The training set is not here.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process
    network = OnnxNetwork(path)
    name = network.session.get_inputs()[0].name
    samples = progress(Samples(cfg, 'train', count), 'calibrate')
    images = (as_array(sample['inputs']) for sample in samples)
    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, 'prepared.onnx')
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            Calibration(network.card, name, images),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # 7 bits of weights: with 8, sums overflow on processors without
            # instructions for them (VNNI)
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8)
    model = onnx.load(target)
    del model.metadata_props[:]
    describe(model, network.card)
    onnx.save(model, target)


def miou(networks: Mapping[str, Labels], cfg: Config, split: str,
         classes: int) -> tuple[dict[str, float], int]:
    """mIoU in percent of each network on a data set, and its images.

    Args:
        networks: From an image ``(H, W, 3)`` BGR and a size to labels.
        cfg: A complete config.
        split: ``'val'`` or ``'test'``.
        classes: How many there are.

    Raises:
        UserError: The data set is not here.
    """
    found = {name: torch.zeros(2, classes) for name in networks}
    samples = Samples(cfg, split, labels=True)
    for sample in progress(samples, split):
        truth = sample['data_samples'].gt_sem_seg.data[0]
        image = as_array(sample['inputs'])
        for name, labels in networks.items():
            seen = labels(image, tuple(truth.shape)).astype(np.int64)
            both, either, *_ = IoUMetric.intersect_and_union(
                torch.from_numpy(seen), truth, classes, IGNORED)
            found[name] += torch.stack([both, either])
    return {
        name: 100 * float((both / either).nanmean())
        for name, (both, either) in found.items()
    }, len(samples)
