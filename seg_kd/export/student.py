"""The plain student: a config and a checkpoint for MMSegmentation alone."""
import os
import re
import textwrap

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from seg_kd.errors import UserError
from seg_kd.export.files import written_whole
from seg_kd.export.plain_config import plain_config
from seg_kd.export.samples import logits_of
from seg_kd.networks.checkpoint import student_only
from seg_kd.registry import MODELS


def write_student(cfg: Config, model: nn.Module, classes: tuple[str, ...],
                  palette: list, image: np.ndarray, config: str,
                  checkpoint: str) -> list[str]:
    """Writes a config in one file, and a checkpoint.

    Nothing is written unless both, read back, give the very logits that the
    model gives.

    Args:
        cfg: A complete config.
        model: The student, in eval mode.
        classes: Their names.
        palette: Their colours.
        image: ``(H, W, 3)`` BGR, to compare on.
        config: File of the config.
        checkpoint: File of the weights.

    Returns:
        What the user should know, a line each.

    Raises:
        UserError: MMSegmentation alone cannot have this student.
    """
    notes: list[str] = []
    made = plain_config(cfg, notes)
    title = os.path.basename(cfg.filename or 'a config')
    comment = [
        f'The student of {title}: train, test and infer with '
        f'MMSegmentation, weights in {os.path.basename(checkpoint)}.', *notes
    ]
    with written_whole(config) as text, written_whole(checkpoint) as weights:
        with open(text, 'w', encoding='utf-8') as f:
            f.writelines(f'# {line}\n' for line in comment)
            f.write(compact(made.pretty_text))
        torch.save(student_only(model.state_dict(), classes, palette), weights)
        check(model, text, weights, image)
    return notes


def compact(text: str) -> str:
    """A config's text with the numbers of a list side by side."""

    def joined(match: re.Match) -> str:
        indent = re.search(r'\n( +)', match[2])
        numbers = ' '.join(match[2].split())
        if numbers.count(',') > 1:
            numbers = numbers.rstrip(',')
        space = indent[1] if indent else ''
        lines = textwrap.wrap(numbers, max(79 - len(space), 20))
        if len(lines) == 1:
            return match[1] + numbers + match[3]
        return f'{match[1]}\n{textwrap.indent(chr(10).join(lines), space)}' \
            + match[3]

    number = r'\s*-?\d[\d.e+-]*,'
    return re.sub(rf'([(\[])((?:{number})+)\s*([)\]])', joined, text)


def check(model: nn.Module, config: str, checkpoint: str,
          image: np.ndarray) -> None:
    """Raises UserError where the two files give other logits."""
    plain = MODELS.build(Config.fromfile(config).model)
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    plain.load_state_dict(state)
    if not torch.equal(logits_of(plain.eval(), [image]),
                       logits_of(model, [image])):
        raise UserError('the plain student gives other logits than the '
                        'trained one: a part of it depends on more than its '
                        'config and its weights; nothing was written')
