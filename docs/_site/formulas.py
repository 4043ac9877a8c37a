"""Formulas as SVG, drawn by matplotlib: a page needs no script for them."""
import re
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextToPath

DRAWN = TextToPath()
FONT = FontProperties(size=DRAWN.FONT_SCALE, math_fontfamily='stix')
SIMPLER = [  # what mathtext calls otherwise, or does by itself
    (r'\\begin\{cases\}(.*?)&(.*?)\\\\(.*?)&(.*?)\\end\{cases\}',
     r'\1\\;(\2),\\quad\3\\;(\4)'),
    (r'\\[tc]frac', r'\\frac'),
    (r'\\(d?)frac\s*(\w)', r'\\\1frac{\2}'),
    (r'(\\frac\{\w\})\s*(\w)', r'\1{\2}'),
    (r'\\sqrt\s*(\w)', r'\\sqrt{\1}'),
    (r'\\[bB]ig+[lr]?(?![a-z])\s*|\\textstyle', ''),
    (r'\\le(?![a-z])', r'\\leq'),
    (r'\\operatorname\{(\w+)\}', r'\\,\\mathrm{\1}'),
    (r'(?<=\S)\s*\\(log|cos|max)(?![a-z])', r'\\,\\\1\\,'),
    (r'&=', '='),
]


@cache
def svg(formula: str, display: bool = False) -> str:
    """A formula of LaTeX as inline ``<svg>``, one for each of its lines."""
    text = ' '.join(formula.split())
    if display:
        text = text.replace('\\frac', '\\dfrac')
    for pattern, simpler in SIMPLER:
        text = re.sub(pattern, simpler, text)
    return '<br>'.join(drawing(line, formula) for line in text.split('\\\\'))


def drawing(text: str, formula: str) -> str:
    """One line; it stands on the base of the text around it."""
    text = f'${text.strip()}$'
    width, height, depth = DRAWN.get_text_width_height_descent(
        text, FONT, True)
    path = Path(*DRAWN.get_text_path(FONT, text, ismath=True))
    strokes = []
    for points, code in path.iter_segments(simplify=False):
        letter = 'Z' if code == Path.CLOSEPOLY else 'MLQC'[code - 1]
        numbers = [] if letter == 'Z' else points * ([1, -1] *
                                                     (len(points) // 2))
        strokes.append(letter + ' '.join(f'{x:.0f}' for x in numbers))
    em = DRAWN.FONT_SCALE
    return (f'<svg class="formula" role="img" aria-label="'
            f'{spelled(formula)}" '
            f'viewBox="0 {depth - height:.0f} {width:.0f} {height:.0f}" '
            f'style="width:{width / em:.2f}em;height:{height / em:.2f}em;'
            f'vertical-align:{-depth / em:.2f}em">'
            f'<path d="{"".join(strokes)}"/></svg>')


def spelled(formula: str) -> str:
    """Its LaTeX, with nothing in it that Markdown would take for its own."""
    text = ' '.join(formula.split())
    return ''.join(c if c.isalnum() or c == ' ' else f'&#{ord(c)};'
                   for c in text)
