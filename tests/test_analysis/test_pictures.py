"""What is in the pictures, not only that there is one."""
import numpy as np
import pytest

from seg_kd.analysis import pictures
from seg_kd.analysis.pictures import colours, draw_curves


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, with their axes."""
    found = []
    monkeypatch.setattr(pictures.plt.Figure, 'savefig',
                        lambda figure, path, **kw: found.append(figure))
    return found


def test_ignored_pixels_are_black():
    palette = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    shown = colours(np.array([[1, 255]]), palette)
    assert shown.tolist() == [[[40, 50, 60], [0, 0, 0]]]


def test_curves_have_one_axis_a_term_and_one_line_a_run(
        tmp_path, monkeypatch, drawn):
    logs = dict(a=dict(loss=[(1, 3.), (2, 2.)], mIoU=[(2, 5.)]),
                b=dict(loss=[(1, 4.), (3, 1.)], loss_ka=[(1, 7.)]))
    monkeypatch.setattr(pictures, 'read_scalars', lambda folder: logs[folder])
    draw_curves(dict(first='a', second='b'), str(tmp_path / 'curves.png'))
    axes = {axis.get_title(): axis for axis in drawn[0].axes}
    assert list(axes) == ['loss', 'loss_ka', 'mIoU']
    assert axes['mIoU'].lines[0].get_marker() == 'o'  # a line of one point
    lines = {
        line.get_label(): list(zip(*line.get_data()))
        for line in axes['loss'].lines
    }
    assert lines == dict(first=[(1, 3.), (2, 2.)], second=[(1, 4.), (3, 1.)])
    assert [x.get_label() for x in axes['loss_ka'].lines] == ['second']


class FakeNetwork:
    """Sees class ``guess`` everywhere."""

    class cfg:
        test_dataloader = type('', (), dict(dataset='any'))

    def __init__(self, guess):
        self.guess = guess

    def samples(self, count):
        import torch
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample
        label = PixelData(data=torch.tensor([[[0, 1, 255]] * 2]))
        sample = SegDataSample(gt_sem_seg=label)
        image = torch.arange(18, dtype=torch.uint8).reshape(3, 2, 3)
        return [dict(inputs=image, data_samples=sample)] * count

    def predict(self, sample):
        return np.full((2, 3), self.guess)


def test_predictions_are_beside_the_image_and_the_truth(
        tmp_path, monkeypatch, drawn):
    palette = [[10, 20, 30], [40, 50, 60]]
    built = type('', (),
                 dict(metainfo=dict(classes=('sky', 'road'), palette=palette)))
    monkeypatch.setattr(pictures.DATASETS, 'build', lambda cfg: built)
    models = dict(small=FakeNetwork(0), large=FakeNetwork(1))
    pictures.draw_predictions(models, str(tmp_path / 'p.png'), count=2)
    axes = drawn[0].axes
    assert [axis.get_title()
            for axis in axes[:4]] == ['image', 'truth', 'small', 'large']
    assert len(axes) == 8
    image, truth, small, large = (axis.images[0].get_array()
                                  for axis in axes[:4])
    assert image[0, 0].tolist() == [12, 6, 0]  # BGR as RGB
    assert truth[0].tolist() == [*palette, [0, 0, 0]]
    assert (small == palette[0]).all() and (large == palette[1]).all()
    legend, = drawn[0].legends
    assert [x.get_text() for x in legend.get_texts()] == ['sky', 'road']
    assert legend.get_patches()[1].get_facecolor()[:3] == pytest.approx(
        np.array(palette[1]) / 255)
