"""What is where in the pictures."""
import numpy as np

from seg_kd.drawing import GAP, ROW, legend, side_by_side, some_palette

PALETTE = np.array([[200, 0, 0], [0, 200, 0]], np.uint8)


def test_labels_are_in_the_colours_of_the_legend():
    image = np.full((10, 20, 3), (7, 8, 9), np.uint8)
    label = np.full((10, 20), 1, np.uint8)
    label[:, 10:] = 255
    rows = [[('image', image), ('a name that is too long for it', label)]] * 2
    sheet = side_by_side(rows, ['sky', 'road'], PALETTE, width=40)
    assert sheet.shape[1] == max(2 * (40 + GAP) + GAP,
                                 legend(['sky', 'road'], PALETTE).shape[1])
    for top in (ROW, ROW + 20 + GAP + ROW):  # of 20 rows each
        assert (sheet[top:top + 20, GAP:GAP + 40] == (7, 8, 9)).all()
        seen = sheet[top:top + 20, 2 * GAP + 40:2 * GAP + 80]
        assert (seen[:, :20] == PALETTE[1]).all()
        assert not seen[:, 20:].any()
    below = sheet[2 * (ROW + 20 + GAP):].reshape(-1, 3).tolist()
    assert all(colour in below for colour in PALETTE.tolist())


def test_a_legend_takes_the_width_that_it_is_given():
    one, wide = (legend(['sky'] * 6, some_palette(6), width)
                 for width in (0, 400))
    assert one.shape[0] == 6 * ROW + 2 * GAP > 3 * wide.shape[0] / 2
    assert wide.shape[1] == 400
    assert len(np.unique(some_palette(30), axis=0)) == 30
