"""The networks of runs, where their weights and data are at hand."""
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from seg_kd.analysis.ledger import ALONE
from seg_kd.analysis.quality import (IGNORED, Agreement, Quality, class_scores,
                                     edge_band)
from seg_kd.datasets.progress import progress
from seg_kd.distiller import paths
from seg_kd.engine.evaluate import load_student, teacher_network, teacher_of
from seg_kd.errors import UserError
from seg_kd.export.card import classes_and_palette
from seg_kd.export.samples import Samples
from seg_kd.hooks import DistillHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.networks.classes import check_num_classes
from seg_kd.networks.taps import Taps
from seg_kd.report.runs import TEACHER, Found

MOST = 4  # students that are looked at


@dataclass
class Network:
    """A network with its weights, and what was measured of it.

    Attributes:
        name: On the page.
        model: In eval mode.
        checkpoint: Where its weights are from.
        run: What trained it; None of the teacher.
        quality: Over the images that were looked at.
        agreement: With the teacher; None of the teacher.
    """
    name: str
    model: nn.Module
    checkpoint: str
    run: Found | None
    quality: Quality
    agreement: Agreement | None = None

    @torch.no_grad()
    def scores(self, sample: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Of each class, at the size of the label, and what is predicted.

        Shape:
            ``(classes, H, W), (H, W)`` int64.
        """
        batch = dict(inputs=[sample['inputs']],
                     data_samples=[sample['data_samples']])
        found = self.model.test_step(batch)[0]
        return (class_scores(found.seg_logits.data),
                found.pred_sem_seg.data[0].long())

    def predict(self, sample: dict[str, Any]) -> np.ndarray:
        """Labels ``(H, W)`` uint8."""
        return self.scores(sample)[1].cpu().numpy().astype(np.uint8)

    def normalized(self, sample: dict[str, Any]) -> Tensor:
        """``(1, 3, H, W)``, as the network takes it."""
        batch = dict(inputs=[sample['inputs']])
        return self.model.data_preprocessor(batch)['inputs']

    @torch.no_grad()
    def maps(self, paths: Sequence[str],
             samples: Sequence[dict[str, Any]]) -> Iterator[dict[str, Tensor]]:
        """The maps at some layers, image by image."""
        taps = Taps(self.model, paths)
        taps.shapes(self.normalized(samples[0]))
        for sample in samples:
            yield taps.run(self.normalized(sample))


@dataclass
class Networks:
    """Those of one experiment, fold and seed.

    Attributes:
        students: The one that was trained alone first.
        teacher: None where there is none at hand.
        samples: Images of the test set.
        classes: Their names.
        palette: Their colours.
        only: By image: pixels where the teacher alone, and where
            :attr:`subject` alone, is right.
        notes: What is not at hand, and why.
    """
    students: list[Network]
    teacher: Network | None
    samples: Samples
    classes: tuple[str, ...]
    palette: list[list[int]]
    notes: list[str]
    only: list[tuple[int, int]] = field(default_factory=list)

    @property
    def all(self) -> list[Network]:
        """The teacher, then the students."""
        return [self.teacher] * bool(self.teacher) + self.students

    @property
    def subject(self) -> Network:
        """The student that is compared with the teacher in pictures."""
        distilled = [n for n in self.students if n.run.method != ALONE]
        return (distilled or self.students)[0]

    def measure(self) -> None:
        """Fills in quality and agreement, from one pass over the images."""
        for network in self.all:
            network.model.to(get_device())
        for sample in progress(self.samples, 'report', len(self.samples)):
            truth = self.truth(sample)
            band = edge_band(truth)
            seen = []
            for network in self.all:
                scores, guess = network.scores(sample)
                if scores.shape[1:] != truth.shape:
                    raise UserError(
                        f'labels have the shape {truth.shape}, predictions '
                        f'{tuple(scores.shape[1:])}: in the test pipeline, '
                        'put LoadAnnotations behind what resizes')
                seen.append(network.quality.add(scores, truth, band, guess))
            if self.teacher is None:
                continue
            for network, guess in zip(self.students, seen[1:]):
                only = network.agreement.add(guess, seen[0], truth)
                if network is self.subject:
                    self.only.append(only)

    def truth(self, sample: dict[str, Any]) -> np.ndarray:
        """Labels ``(H, W)`` uint8, :data:`IGNORED` where nothing is scored."""
        found = sample['data_samples'].gt_sem_seg.data[0].numpy()
        ignored = getattr(self.samples.dataset, 'ignore_index', IGNORED)
        return np.where(found == ignored, IGNORED, found).astype(np.uint8)

    def tapped(self) -> dict[str, str]:
        """A layer of each network, by its name: where a term compares them.

        The last pair of the first term that names one; the last map of the
        backbone where none does.
        """
        student = teacher = ''
        for hook in hooks_of(self.subject.run.cfg, DistillHook):
            if hook.get('student') and hook.get('teacher'):
                student, teacher = (paths(hook[key])[-1]
                                    for key in ('student', 'teacher'))
                break
        found = {n.name: student or last_map(n.model) for n in self.students}
        if self.teacher:
            found[self.teacher.name] = teacher or last_map(self.teacher.model)
        return found


def last_map(model: nn.Module) -> str:
    """The path of what the backbone returns last."""
    several = getattr(model.backbone, 'out_indices', 0)
    count = 1 if isinstance(several, int) else len(several)
    return f'backbone[{count - 1}]'


def choose(runs: Sequence[Found]) -> list[Found]:
    """Runs whose networks can be compared: one experiment, fold and seed.

    That with most methods, and one run of each; the student alone is first.
    """
    groups: dict[tuple, dict[str, Found]] = {}
    for run in sorted(runs, key=lambda run: run.iterations):
        if run.method != TEACHER and run.cfg and run.checkpoint:
            key = (run.experiment, run.fold, run.seed)
            groups.setdefault(key, {})[run.method] = run
    if not groups:
        return []
    best = max(groups.values(), key=lambda g: (ALONE in g, len(g)))
    return sorted(best.values(), key=lambda run: run.method != ALONE)


def load(runs: Sequence[Found], checkpoints: Mapping[str, str],
         count: int) -> Networks:
    """The networks of some of the runs, with the images to look at.

    Args:
        runs: See :func:`choose`.
        checkpoints: Others than the newest of a run, by its name, the name
            of its folder, or ``'teacher'``.
        count: Images of the test set; fewer where it has fewer.

    Raises:
        UserError: No network can be had, or the data is not here.
    """
    chosen = choose(runs)
    if not chosen:
        reasons = {run.problem for run in runs} - {''}
        raise UserError('no run has a checkpoint and a config that can be '
                        f'read {"; ".join(sorted(reasons))}'.strip())
    init_default_scope('mmseg')
    notes = [f'{len(chosen) - MOST} more runs are not looked at'
             ] * (len(chosen) > MOST)
    contents, students = [], []
    for run in chosen[:MOST]:
        path = checkpoint_of(run, checkpoints)
        try:
            model, content = load_student(run.cfg, path)
        except (UserError, TypeError, KeyError) as error:
            notes.append(f'{run.name}: {error}')
            continue
        contents.append((run, path, content))
        students.append((run, path, model))
    if not students:
        raise UserError('; '.join(notes))
    run, path, content = contents[0]
    samples = Samples(run.cfg, 'test', count, labels=True)
    classes, palette = classes_and_palette(run.cfg, content, path)
    names = dict(zip(itertools.count(), short_names([s[0] for s in students])))
    made = [
        Network(names[i], model, path, run, Quality(len(classes)))
        for i, (run, path, model) in enumerate(students)
    ]
    teacher = load_teacher(made, classes, checkpoints, notes)
    if teacher:
        for network in made:
            network.agreement = Agreement()
    return Networks(made, teacher, samples, classes, palette, notes)


def short_names(runs: Sequence[Found]) -> list[str]:
    """Of runs that differ by their method alone."""
    return [
        'student alone' if run.method == ALONE else run.method for run in runs
    ]


def checkpoint_of(run: Found, checkpoints: Mapping[str, str]) -> str:
    for name in run.called:
        if name in checkpoints:
            return checkpoints[name]
    assert run.checkpoint is not None  # choose() sees to that
    return run.checkpoint


def load_teacher(students: Sequence[Network], classes: Sequence[str],
                 checkpoints: Mapping[str, str],
                 notes: list[str]) -> Network | None:
    """The teacher of the first student that has one at hand."""
    problems = []
    distilled_first = sorted(students, key=lambda n: n.run.method == ALONE)
    for network in distilled_first:
        cfg = network.run.cfg
        try:
            hook = teacher_of(cfg, trained=False)
            if TEACHER in checkpoints:
                hook['checkpoint'] = checkpoints[TEACHER]
            model, _ = teacher_network(cfg)
            check_num_classes(model, classes, 'the teacher', auxiliary=False)
        except (UserError, TypeError, KeyError) as error:
            problems.append(str(error))
            continue
        return Network(TEACHER, model.eval(), hook.get('checkpoint'), None,
                       Quality(len(classes)))
    notes.append(f'a teacher: {problems[0]}')
    return None
