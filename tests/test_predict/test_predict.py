"""Predictions on files, folders and videos; values known by hand."""
import shutil

import cv2
import numpy as np
import onnx
import pytest
import torch
from conftest import CLASSES, PALETTE, run_tool
from mmengine.config import Config
from mmseg.apis import inference_model
from onnx import TensorProto, helper
from PIL import Image

from seg_kd.engine.evaluate import load_student
from seg_kd.errors import UserError
from seg_kd.export.card import Card
from seg_kd.export.onnx_file import describe
from seg_kd.predict.pictures import painted
from seg_kd.predict.predictors import of_onnx

COLOURS = np.array(PALETTE, np.uint8)  # RGB


def nearest_colour(path, **changes) -> str:
    """Each pixel to the nearest colour."""
    # -|x - c|^2 is 2 x c - |c|^2 but for what all classes share
    weight = 2. * COLOURS.astype(np.float32)
    bias = -(COLOURS.astype(np.float32)**2).sum(1)
    return one_convolution(path, weight, bias, **changes)


def one_convolution(path, weight, bias, **changes) -> str:
    """An ONNX file of one of a single pixel; weights ``(C, 3)``, ``(C,)``."""
    outputs = len(bias)
    shape = ['batch', 'height', 'width']
    graph = helper.make_graph([
        helper.make_node('Cast', ['images'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['x'], ['y'], perm=[0, 3, 1, 2]),
        helper.make_node('Conv', ['y', 'w', 'b'], ['logits'])
    ], 'nearest', [
        helper.make_tensor_value_info('images', TensorProto.UINT8, [*shape, 3])
    ], [
        helper.make_tensor_value_info('logits', TensorProto.FLOAT,
                                      [shape[0], outputs, *shape[1:]])
    ], [
        helper.make_tensor('w', TensorProto.FLOAT,
                           (outputs, 3, 1, 1), weight.ravel()),
        helper.make_tensor('b', TensorProto.FLOAT, (outputs, ), bias)
    ])
    model = helper.make_model(graph,
                              opset_imports=[helper.make_opsetid('', 18)],
                              ir_version=10)
    options = dict(classes=CLASSES,
                   palette=PALETTE,
                   layout='NHWC',
                   dtype='uint8',
                   channels='RGB',
                   mean=None,
                   std=None,
                   output='logits',
                   align_corners=False,
                   resize=[])
    describe(model, Card(**{**options, **changes}))
    onnx.save(model, str(path))
    return str(path)


@pytest.fixture
def network(tmp_path) -> str:
    return nearest_colour(tmp_path / 'net.onnx')


@pytest.fixture
def scene(tmp_path) -> np.ndarray:
    """Labels of ``street.png``, which shows them in their colours."""
    labels = np.random.default_rng(0).integers(0, 4, (6, 8), np.uint8)
    labels = labels.repeat(8, 0).repeat(8, 1)
    cv2.imwrite(str(tmp_path / 'street.png'), COLOURS[labels][..., ::-1])
    return labels


@pytest.fixture
def predict(monkeypatch, tmp_path, capsys):

    def call(*arguments):
        status = run_tool('predict', arguments, monkeypatch, tmp_path)
        shown = capsys.readouterr()
        return status, shown.out, shown.err.splitlines()

    return call


def read(path) -> np.ndarray:
    with Image.open(path) as file:
        assert file.mode == 'P'
        colours = np.array(file.getpalette()).reshape(-1, 3)[:4]
        assert np.array_equal(colours, COLOURS)
        return np.array(file)


def test_an_image(predict, network, scene, tmp_path):
    status, out, _ = predict(network, 'street.png', '--out', 'seen')
    assert status == 0 and '1 images and frames in seen' in out
    assert np.array_equal(read(tmp_path / 'seen/labels/street.png'), scene)
    shown = cv2.imread(str(tmp_path / 'seen/overlays/street.jpg'))
    expected = COLOURS[scene][..., ::-1]  # its own colours over it
    assert np.abs(shown.astype(int) - expected).mean() < 12  # a JPEG
    assert cv2.imread(str(tmp_path / 'seen/legend.png')) is not None
    again, _, errors = predict(network, 'street.png', '--out', 'seen')
    assert again == 2 and 'seen exists' in errors[-1]
    assert predict(network, 'street.png', '--out', 'seen', '--force')[0] == 0


def test_a_folder_keeps_its_order(predict, network, scene, tmp_path):
    for place in ('a/x.png', 'a/b/x.png'):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / 'street.png', tmp_path / place)
    status, _, _ = predict(network, 'a', '--out', 'seen', '--only', 'labels')
    assert status == 0
    found = sorted(
        str(p.relative_to(tmp_path / 'seen'))
        for p in (tmp_path / 'seen').glob('**/*.*'))
    assert found == ['labels/b/x.png', 'labels/x.png', 'legend.png']


def test_a_video(predict, network, scene, tmp_path):
    codec = cv2.VideoWriter_fourcc(*'mp4v')
    file = cv2.VideoWriter(str(tmp_path / 'drive.mp4'), codec, 5, (64, 48))
    for k in range(3):
        file.write(np.roll(COLOURS[scene][..., ::-1], 8 * k, 1))
    file.release()
    status, out, _ = predict(network, 'drive.mp4', '--out', 'seen')
    assert status == 0 and '3 images and frames' in out
    for k in range(3):
        labels = read(tmp_path / f'seen/labels/drive/{k:06d}.png')
        assert (labels == np.roll(scene, 8 * k, 1)).mean() > 0.8  # MP4
    video = cv2.VideoCapture(str(tmp_path / 'seen/overlays/drive.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert video.get(cv2.CAP_PROP_FPS) == 5


def test_images_go_through_the_resize_and_back(tmp_path, scene):
    resize = [dict(type='Resize', scale=(32, 24), keep_ratio=False)]
    path = nearest_colour(tmp_path / 'small.onnx', resize=resize)
    found, (classes, _) = of_onnx(path)
    labels = found(COLOURS[scene][..., ::-1])
    assert classes == CLASSES and labels.shape == scene.shape
    assert (labels == scene).mean() > 0.7


def test_painted():
    image = np.full((1, 2, 3), 100, np.uint8)
    palette = np.array([[0, 50, 200], [255, 0, 0]], np.uint8)
    found = painted(image, np.array([[0, 1]]), palette)
    assert found.tolist() == [[[150, 75, 50], [50, 50, 178]]]  # BGR, halves


def test_a_trained_model(predict, plain_config, student_checkpoint, tmp_path,
                         data_root):
    plain_config.dump(str(tmp_path / 'plain.py'))
    image = data_root / 'val/images/0.png'
    status, _, _ = predict('plain.py', image, '--checkpoint',
                           student_checkpoint, '--out', 'seen')
    assert status == 0
    model, _ = load_student(plain_config, student_checkpoint)
    model.cfg = Config(
        dict(test_pipeline=plain_config.test_dataloader.dataset.pipeline))
    expected = inference_model(model, str(image)).pred_sem_seg.data[0]
    assert torch.equal(torch.from_numpy(read(tmp_path / 'seen/labels/0.png')),
                       expected.byte())


@pytest.mark.parametrize('arguments, words', [
    (['net.onnx', 'nothing.png'], 'nothing.png does not exist'),
    (['net.onnx', 'empty'], 'no image or video in empty'),
    (['net.onnx', 'net.onnx'], 'net.onnx is neither an image nor a video'),
    (['net.onnx', 'bad.jpg'], 'bad.jpg: not a readable image'),
    (['net.onnx', 'bad.mp4'], 'bad.mp4: not a readable video'),
    (['net.onnx', 'street.png', 'empty/../street.png'], 'of the same name'),
    (['bad.onnx', 'street.png'], 'bad.onnx is not an ONNX file that can be'),
    (['no.onnx', 'street.png'], 'no.onnx does not exist'),
    (['mute.onnx', 'street.png'], 'mute.onnx does not say its classes'),
    (['other.onnx', 'street.png'], 'gives 4 classes, its metadata names 2'),
    (['net.onnx', 'street.png', '--fold', 'a'], 'holds its weights'),
    (['ka_deeplab', 'street.png'], 'give the checkpoint of ka_deeplab'),
])
def test_a_mistake_is_one_line(predict, network, scene, tmp_path, arguments,
                               words):
    (tmp_path / 'empty').mkdir()
    for name in ('bad.jpg', 'bad.mp4', 'bad.onnx'):
        (tmp_path / name).write_bytes(b'nothing of the kind')
    nearest_colour(tmp_path / 'other.onnx', classes=CLASSES[:2])
    mute = onnx.load(network)
    del mute.metadata_props[:]
    onnx.save(mute, str(tmp_path / 'mute.onnx'))
    status, out, errors = predict(*arguments, '--out', 'seen')
    assert status == 2 and not out
    assert words in errors[-1]
    assert [x for x in errors if x and '%|' not in x] == errors[-1:]
    assert not (tmp_path / 'seen').exists()


def test_the_others_are_seen_all_the_same(predict, network, scene, tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'nothing of the kind')
    status, out, errors = predict(network, 'bad.jpg', 'street.png', '--out',
                                  'seen')
    assert status == 2 and '1 images and frames in seen' in out
    assert errors[-1] == 'error: bad.jpg: not a readable image'


def test_a_network_with_one_output(tmp_path):
    """The second of two classes, from a probability of 0.3."""
    weight, bias = np.full((1, 3), .01, np.float32), np.float32([-3.8])
    two = dict(classes=CLASSES[:2], palette=PALETTE[:2])
    path = one_convolution(tmp_path / 'one.onnx',
                           weight,
                           bias,
                           threshold=.3,
                           **two)
    predict, (_, palette) = of_onnx(path)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([grey] * 3, -1)
    expected = 1 / (1 + np.exp(3.8 - .03 * grey.astype(float))) > .3
    labels = predict(image)
    assert np.array_equal(labels, expected) and 0 < expected.mean() < 1
    painted(image, labels, np.array(palette, np.uint8))

    old = one_convolution(tmp_path / 'old.onnx', weight, bias, **two)
    with pytest.raises(UserError, match='does not say its threshold'):
        of_onnx(old)
