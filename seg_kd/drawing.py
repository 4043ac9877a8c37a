"""Label maps as pictures: in colour, side by side, with a legend."""
import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROW, GAP = 20, 6  # pixels: of a line of text, and around everything


def colours(label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A label map ``(H, W)`` in colour; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(palette)] = palette
    return table[label]


def some_palette(count: int) -> np.ndarray:
    """Colours for classes that have none, ``(count, 3)`` RGB."""
    found = [colorsys.hsv_to_rgb(.62 * i % 1, .75, .9) for i in range(count)]
    return (255 * np.array(found)).astype(np.uint8)


def legend(classes: Sequence[str],
           palette: np.ndarray,
           width: int = 0) -> np.ndarray:
    """The classes' names, each behind its colour, as many a line as fit.

    Args:
        classes: Their names.
        palette: ``(classes, 3)`` RGB.
        width: In pixels; by default there is one class a line.

    Returns:
        ``(H, W, 3)`` RGB.
    """
    font = ImageFont.load_default(13)
    entry = ROW + 2 * GAP + int(max(map(font.getlength, classes)))
    a_line = max(1, (width - GAP) // entry)
    lines = -(-len(classes) // a_line)
    picture = Image.new('RGB',
                        (max(width, entry + GAP), ROW * lines + 2 * GAP),
                        'white')
    draw = ImageDraw.Draw(picture)
    for i, (name, colour) in enumerate(zip(classes, palette.tolist())):
        x, y = GAP + i % a_line * entry, GAP + i // a_line * ROW
        draw.rectangle((x, y + 2, x + ROW - 6, y + ROW - 4),
                       fill=tuple(colour),
                       outline='grey')
        draw.text((x + ROW, y + 1), name, fill='black', font=font)
    return np.asarray(picture)


def side_by_side(rows: Sequence[Sequence[tuple[str, np.ndarray]]],
                 classes: Sequence[str],
                 palette: np.ndarray,
                 width: int = 320) -> np.ndarray:
    """Captioned pictures in rows, over the legend of the classes.

    Args:
        rows: Of captions with images ``(H, W, 3)`` RGB, or label maps
            ``(H, W)``. Each row may have a shape of its own.
        classes: Their names.
        palette: ``(classes, 3)`` RGB.
        width: Of each picture, in pixels.

    Returns:
        ``(H, W, 3)`` RGB.
    """
    font = ImageFont.load_default(13)
    heights = [round(width * row[0][1].shape[0] / row[0][1].shape[1])
               for row in rows]  # yapf: disable
    whole = max(map(len, rows)) * (width + GAP) + GAP
    below = legend(classes, palette, whole)
    top = [sum(heights[:i]) + i * (ROW + GAP) for i in range(len(rows) + 1)]
    sheet = Image.new('RGB', (below.shape[1], top[-1] + below.shape[0]),
                      'white')
    draw = ImageDraw.Draw(sheet)
    for y, height, row in zip(top, heights, rows):
        for k, (caption, shown) in enumerate(row):
            x = GAP + k * (width + GAP)
            while font.getlength(caption) > width and len(caption) > 4:
                caption = f'{caption[:-4]}...'
            draw.text((x, y + 3), caption, fill='black', font=font)
            cell = Image.fromarray(shown).resize(
                (width, height), Image.Resampling.BILINEAR if shown.ndim == 3
                else Image.Resampling.NEAREST)  # yapf: disable
            if shown.ndim == 2:
                cell = Image.fromarray(colours(np.asarray(cell), palette))
            sheet.paste(cell, (x, y + ROW))
    sheet.paste(Image.fromarray(below), (0, top[-1]))
    return np.asarray(sheet)
