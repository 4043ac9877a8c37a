"""A report as one HTML page that needs nothing else, and as Markdown."""
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

import jinja2
import pandas as pd
from markupsafe import Markup
from prettytable import PrettyTable, TableStyle

import seg_kd


@dataclass
class Note:
    """One line of text; a missing part is one."""
    text: str
    missing: bool = False


@dataclass
class Table:
    """What a table shows, as text; the first column names the rows."""
    title: str
    frame: pd.DataFrame

    @property
    def html(self) -> Markup:
        made = self.frame.to_html(index=False,
                                  border=0,
                                  escape=True,
                                  na_rep='-',
                                  justify='unset')
        return Markup(made)  # pandas has escaped it

    @property
    def markdown(self) -> str:
        shown = PrettyTable([plain(x) for x in self.frame.columns])
        shown.set_style(TableStyle.MARKDOWN)
        shown.align = 'r'
        shown.align[shown.field_names[0]] = 'l'
        for row in self.frame.astype(object).fillna('-').values.tolist():
            shown.add_row([plain(x) for x in row])
        return str(shown)


@dataclass
class Chart:
    """A drawing of :mod:`seg_kd.report.charts`, and what it shows."""
    svg: Markup
    alt: str


@dataclass
class Charts:
    """Drawings beside each other, with one legend: names and colours."""
    title: str
    charts: list[Chart]
    legend: dict[str, str] = field(default_factory=dict)


@dataclass
class Picture:
    """A data URI, and what is in it."""
    uri: str
    alt: str
    caption: str


@dataclass
class Row:
    """Pictures of one image."""
    title: str
    pictures: list[Picture]
    legend: dict[str, str] = field(default_factory=dict)


@dataclass
class Choice:
    """Maps of which a click on the image chooses one.

    Attributes:
        image: Behind the points.
        grid: Rows and columns of points.
        sprites: All maps of a network in one picture, ``grid`` of them.
        first: The point that is shown at first: row and column.
    """
    title: str
    image: Picture
    grid: tuple[int, int]
    sprites: list[Picture]
    first: tuple[int, int]
    ratio: float  # width to height of the image


Part = Note | Table | Charts | Row | Choice


@dataclass
class Section:
    """A part of the page: what it shows is said in ``intro``."""
    key: str
    title: str
    intro: str
    parts: list[Part] = field(default_factory=list)

    def missing(self, text: str) -> 'Section':
        """With a line that says what is not there, and why."""
        self.parts.append(Note(text, missing=True))
        return self


def kind(part: Part) -> str:
    return type(part).__name__.lower()


def render_html(title: str, sections: Sequence[Section]) -> str:
    """The whole page; names and paths in it are escaped."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader(
        'seg_kd.report', 'templates'),
                                     autoescape=True,
                                     trim_blocks=True,
                                     lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.tests['kind'] = lambda part, name: kind(part) == name
    return environment.get_template('page.html').render(title=title,
                                                        sections=sections,
                                                        made=made())


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """Text and tables; the charts and pictures are named only."""
    lines = [f'# {plain(title)}', '', made()]
    for section in sections:
        lines += ['', f'## {section.title}', '', section.intro]
        for part in section.parts:
            if isinstance(part, Note):
                missing = 'Not here: ' if part.missing else ''
                lines += ['', missing + plain(part.text)]
            elif isinstance(part, Table):
                lines += ['', f'**{plain(part.title)}**', '', part.markdown]
            else:
                lines += ['', f'*On the page: {plain(part.title)}*']
    return '\n'.join(lines) + '\n'


def made() -> str:
    now = datetime.datetime.now().strftime('%Y-%m-%d %H:%M')
    return f'Made by seg-kd report {seg_kd.__version__} on {now}.'


def plain(value: object) -> str:
    """Text in which Markdown, and HTML in it, sees nothing of its own."""
    text = ' '.join(str(value).split())
    text = text.replace('&', '&amp;').replace('<', '&lt;')
    for sign in '\\`*_[]|':
        text = text.replace(sign, f'\\{sign}')
    return text
