"""For mkdocstrings: docstrings of Sphinx's kind, as Markdown has it."""
import re
import sys
from pathlib import Path

import griffe

sys.path.insert(0, str(Path(__file__).parent))

from formulas import svg  # noqa: E402


class Docstrings(griffe.Extension):
    """Formulas are drawn, and names of the package lead to where they are."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    text = re.sub(r'^( *)\.\. math::(.*?)(?=\n *\n|\n\1\S|\Z)',
                  block,
                  text,
                  flags=re.S | re.M)
    text = re.sub(r':math:`(.*?)`', lambda m: svg(m[1]), text, flags=re.S)
    text = re.sub(r':(?:class|func|meth|mod|data|attr):`(~?)([\w.]+)`', name,
                  text)
    return re.sub(r'::$', ':', text, flags=re.M)


def block(match: re.Match) -> str:
    formula = svg(match[2], display=True)
    return f'{match[1]}<span class="display">{formula}</span>\n'


def name(match: re.Match) -> str:
    short = match[2].rpartition('.')[2] if match[1] else match[2]
    return (f'<autoref identifier="{match[2]}" optional><code>{short}</code>'
            '</autoref>')
