"""What every loss costs, next to its naive form and that of torchdistill.

Examples: python benchmarks/losses.py --threads 1
          python benchmarks/losses.py kd rkd --chart losses.png
"""
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import charts
import command
import naive
import peers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd import cli
from seg_kd.benchmark import (Rows, Work, announced, in_turn, peak_mib,
                              summary, times_sign)
from seg_kd.commands.benchmark import show
from seg_kd.errors import UserError
from seg_kd.losses import (ABLoss, AdaptationLoss, AffinityLoss, ATLoss,
                           BalancedLoss, CCKDLoss, CRDLoss, CWDLoss, DISTLoss,
                           FitNetLoss, FSPLoss, FTLoss, HCLLoss, HNDLoss,
                           ICKDLoss, KALoss, KDLoss, LogitStdLoss, PADLoss,
                           Paraphraser, PKTLoss, ReviewKDLoss, RKDLoss, SPLoss,
                           SRDLoss, Translator, VIDLoss)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# Entries of a matrix; naive forms hold up to ten like it.
MOST = 1 << 28 if DEVICE == 'cpu' else (
    torch.cuda.get_device_properties(0).total_memory // 48)
IMAGES = 2975  # of the data set, for the banks of CRD: those of Cityscapes
FORMS = ('ours', 'naive', 'peer')
EXTREMES = [f'{form} {end}' for form in FORMS[1:] for end in ('min', 'max')]

# -- inputs: student, teacher, and what else the loss is given -------------

Given = tuple[Any, Any, dict[str, Tensor]]


class Size(NamedTuple):
    """Of the maps, and the number of classes."""
    n: int
    c: int
    h: int
    w: int
    classes: int


def random_maps(*shape: int, noise: float = .5) -> tuple[Tensor, Tensor]:
    """What comes out of a ReLU; the student deviates by ``noise``."""
    teacher = torch.randn(*shape, device=DEVICE).relu()
    student = (teacher + noise * torch.randn_like(teacher)).relu()
    return student.requires_grad_(), teacher


def maps(size: Size, noise: float = .5) -> Given:
    return *random_maps(*size[:4], noise=noise), {}


def pyramid(size: Size) -> Given:
    """Three layers, each half as high and wide as the one before."""
    n, c, h, w, _ = size
    layers = [
        random_maps(n, c, -(-h // 2**k), -(-w // 2**k)) for k in range(3)
    ]
    return *map(list, zip(*layers)), {}


def logits(size: Size) -> Given:
    shape = size.n, size.classes, size.h, size.w
    student, teacher = 3 * torch.randn(2, *shape, device=DEVICE)
    return student.requires_grad_(), teacher, {}


def full_logits(size: Size) -> Given:
    """To be compared at the size of the labels, at stride 8."""
    student, teacher, _ = logits(size)
    mask = teacher.new_ones((size.n, 8 * size.h, 8 * size.w), dtype=torch.bool)
    return student, teacher, dict(mask=mask)


def labelled(size: Size) -> Given:
    student, teacher, _ = maps(size)
    labels = torch.randint(size.classes, (size.n, size.h, size.w),
                           device=teacher.device)
    return student, teacher, dict(labels=labels)


def numbered(size: Size) -> Given:
    student, teacher, _ = maps(size)
    return student, teacher, dict(
        index=torch.arange(size.n, device=teacher.device))


near = partial(maps, noise=.02)  # so near that float64 is needed

# -- matrices: entries of the largest one of a form, where it may not fit --


def none(size: Size) -> int:
    return 0


def each_image(size: Size) -> int:
    return size.n * (size.h * size.w)**2


def each_channel(size: Size) -> int:
    return size.c * each_image(size)


def batch(size: Size) -> int:
    return (size.n * size.h * size.w)**2


def row_by_row(size: Size, most: float = float('inf')) -> int:
    """The gradient of all instances once for each: torchdistill's CCKD."""
    return size.c * min(size.n * size.h * size.w, most)**2


# -- the losses ------------------------------------------------------------


class Case(NamedTuple):
    """A loss, from the channels of both maps, and what it is measured on."""
    ours: Callable[[int], nn.Module]
    naive: Callable | None = None
    peer: Callable | None = None
    given: Callable[[Size], Given] = maps
    naive_entries: Callable[[Size], int] = none
    peer_entries: Callable[[Size], int] = none


def two(loss: Callable) -> Callable[[int], nn.Module]:
    """With the channels of student and teacher."""
    return lambda c: loss(c, c)


def three(loss: Callable) -> Callable[[int], nn.Module]:
    """With those of three layers of each."""
    return lambda c: loss([c] * 3, [c] * 3)


def plain(loss: Callable, *args, **kwargs) -> Callable[[int], nn.Module]:
    """Without."""
    return lambda c: loss(*args, **kwargs)


def crd(channels: int) -> nn.Module:
    """With its queue full, as after the first iterations."""
    loss = CRDLoss(channels, channels)
    queue = loss.contrast
    for buffer in (queue.student, queue.teacher):
        buffer.copy_(F.normalize(torch.randn_like(buffer)))
    queue.classes.random_(19)
    queue.written.fill_(len(queue.classes))
    return loss


def on_batch(ours, naive_form, peer) -> Case:
    """Whose naive form and peer relate all positions of a batch."""
    return Case(ours, naive_form, peer, maps, batch, batch)


# 'method' or 'method variant'; all: of all positions as instances
WORKS: dict[str, Case] = {
    'ab':
    Case(three(ABLoss), naive.ab, peers.ab, pyramid),
    'adaptation':
    Case(plain(AdaptationLoss), naive.adaptation, peers.adaptation),
    'affinity':
    Case(plain(AffinityLoss), naive.affinity, peers.affinity, maps, each_image,
         each_channel),
    'affinity near':
    Case(plain(AffinityLoss), given=near),
    'at':
    Case(plain(ATLoss), naive.at, peers.at, pyramid),
    'balanced':
    Case(two(BalancedLoss)),
    'cckd':
    Case(plain(CCKDLoss),
         naive.cckd,
         peers.cckd,
         peer_entries=partial(row_by_row, most=2048)),
    'cckd all':
    Case(plain(CCKDLoss, max_instances=None), naive.cckd, peers.cckd, maps,
         batch, row_by_row),
    'cckd bilinear':
    on_batch(plain(CCKDLoss, 'bilinear'), naive.cckd, peers.cckd),
    'crd':
    Case(crd, naive.crd, given=labelled),
    'crd image':
    Case(lambda c: CRDLoss(c, c, 'image', n_data=IMAGES), naive.crd_image,
         peers.crd_image, numbered),
    'cwd':
    Case(two(CWDLoss)),
    'dist':
    Case(plain(DISTLoss), naive.dist, peers.dist, logits),
    'dist full':
    Case(plain(DISTLoss, grid='mask'), naive.dist, peers.dist, full_logits),
    'fitnet':
    Case(two(FitNetLoss)),
    'fsp':
    Case(three(FSPLoss), None, peers.fsp, pyramid),
    'ft':
    Case(lambda c: FTLoss(c, c, Paraphraser(c)), None, peers.ft),
    'hcl':
    Case(plain(HCLLoss), naive.hcl, peers.hcl, pyramid),
    'hnd':
    Case(plain(HNDLoss)),
    'ickd':
    Case(two(ICKDLoss)),
    'ickd whole':
    Case(lambda c: ICKDLoss(c, c, grid=(1, 1)), None, peers.ickd),
    'ka':
    Case(lambda c: KALoss(c, c, Translator(c, stride=1)), naive.ka, peers.ka,
         maps, each_image, each_channel),
    'kd':
    Case(plain(KDLoss), naive.kd, peers.kd, logits),
    'kd full':
    Case(plain(KDLoss, grid='mask'), naive.kd, peers.kd, full_logits),
    'logit_std':
    Case(plain(LogitStdLoss), naive.logit_std, peers.logit_std, logits),
    'logit_std full':
    Case(plain(LogitStdLoss, grid='mask'), naive.logit_std, peers.logit_std,
         full_logits),
    'pad':
    Case(two(PADLoss), None, peers.pad),
    'pkt':
    Case(plain(PKTLoss), naive.pkt, peers.pkt),
    'pkt all':
    on_batch(plain(PKTLoss, max_instances=None), naive.pkt, peers.pkt),
    'reviewkd':
    Case(three(ReviewKDLoss), naive.reviewkd, peers.reviewkd, pyramid),
    'rkd':
    Case(plain(RKDLoss), naive.rkd, peers.rkd),
    'rkd all':
    on_batch(plain(RKDLoss, max_instances=None), naive.rkd, peers.rkd),
    'sp':
    Case(plain(SPLoss, max_instances=2048), naive.sp, peers.sp),
    'sp all':
    on_batch(plain(SPLoss), naive.sp, peers.sp),
    'srd':
    Case(two(SRDLoss), None, peers.srd),
    'vid':
    Case(two(VIDLoss), None, peers.vid),
}


def methods() -> list[str]:
    return sorted({name.split()[0] for name in WORKS})


# -- measuring -------------------------------------------------------------


def bench_losses(size: Sequence[int],
                 classes: int,
                 runs: int,
                 chosen: Sequence[str] = (),
                 limit: float = 60.) -> tuple[str, Rows, list[str]]:
    """Title, rows, and what was left out: forward and backward of each.

    Args:
        size: Of the maps, ``(N, C, H, W)``; logits have other channels.
        classes: Of the logits and labels.
        runs: Of each form of a loss; the forms of one take turns.
        chosen: Names of methods; all by default.
        limit: Seconds. A naive form or peer that took longer to warm up is
            left out.

    Raises:
        UserError: There is no such method, or the maps are too small.
    """
    for name in chosen:
        if name not in methods():
            raise UserError(f'no loss is called {name!r}; there are '
                            f'{", ".join(methods())}')
    td = peers.torchdistill()
    size, rows = Size(*size, classes), {}
    notes = [] if td else [
        'no peers: torchdistill is not installed (its losses need torch only: '
        'pip install --no-deps torchdistill)'
    ]
    title = (f'losses on {times_sign(size[:4])}, forward + backward; '
             'x: times ours')
    names = [n for n in WORKS if not chosen or n.split()[0] in chosen]
    for name in announced(names):
        case = WORKS[name]
        works, trained = forms(case, size, td)
        fit(case, size, works, name, notes)
        try:
            memory = warm_up(works, limit, name, notes)
        except ValueError as error:
            raise UserError(f'{title}: {name} fails, take larger ones: '
                            f'{error}') from error
        rows[name] = dict(trained=trained, **measure(works, memory, runs))
    return title, rows, notes


def forms(case: Case, size: Size, td: Any) -> tuple[dict[str, Work], int]:
    """Of one loss, on the same input; and how many numbers are trained."""
    torch.manual_seed(0)
    loss = case.ours(size.c).to(DEVICE)
    student, teacher, extra = case.given(size)
    calls = dict(ours=loss)
    if case.naive:
        calls['naive'] = partial(case.naive, loss)
    if case.peer and td:
        calls['peer'] = partial(case.peer, td, loss)
    works = {
        form: training(partial(call, student, teacher, **extra), loss, student)
        for form, call in calls.items()
    }
    return works, sum(p.numel() for p in loss.parameters() if p.requires_grad)


def training(call: Callable, loss: nn.Module, student: Any) -> Work:
    """Forward and backward; no gradient stays."""

    def work() -> None:
        total(call()).backward()
        loss.zero_grad()
        for x in student if isinstance(student, list) else [student]:
            x.grad = None

    return work


def total(value: Any) -> Tensor:
    return sum(value.values()) if isinstance(value, dict) else value


def fit(case: Case, size: Size, works: dict[str, Work], name: str,
        notes: list[str]) -> None:
    """Leaves out whose matrix would not fit into memory."""
    for form in FORMS[1:]:
        entries = getattr(case, f'{form}_entries')(size)
        if entries > MOST and works.pop(form, None):
            notes.append(f'{name}, {form}: left out, a matrix of '
                         f'{entries / 2**28:.0f} GiB would not fit')


def warm_up(works: dict[str, Work], limit: float, name: str,
            notes: list[str]) -> dict[str, float]:
    """MiB of each form; leaves out what needs too much of time or memory."""
    memory = {}
    for form, work in list(works.items()):
        start, reason = time.perf_counter(), ''
        try:
            memory[form] = peak_mib(work)
        except RuntimeError as error:
            if form == 'ours' or 'memory' not in str(error):
                raise
            reason = 'out of memory'
            torch.cuda.empty_cache()
        seconds = time.perf_counter() - start
        if seconds > limit and not reason:
            reason = f'one run took {seconds:.0f} s, {memory[form]:.0f} MiB'
        if reason and form != 'ours':
            del works[form]
            notes.append(f'{name}, {form}: left out, {reason}')
    return memory


def measure(works: dict[str, Work], memory: dict[str, float],
            runs: int) -> dict[str, float | None]:
    """One row: all forms of one loss."""
    times = summary(in_turn(works, runs, 1), ['ours'])
    row: dict[str, float | None] = {}
    for form in FORMS:
        found = times.get(form, {})
        mib = memory[form] if found else None
        row[f'{form} ms'] = found.get('median ms')
        row[f'{form} min'] = found.get('min ms')
        row[f'{form} max'] = found.get('max ms')
        row[f'{form} MiB'] = mib
        if form != 'ours':
            row[f'{form} x time'] = found.get('time / ours')
            row[f'{form} x MiB'] = mib and mib / memory['ours']
    return row


# -- the command -----------------------------------------------------------


def main() -> None:
    parser = command.make_parser(__doc__, runs=5)
    parser.add_argument('methods',
                        nargs='*',
                        metavar='METHOD',
                        help='default: all of ' + ', '.join(methods()))
    parser.add_argument('--size',
                        nargs=4,
                        type=command.positive,
                        metavar=('N', 'C', 'H', 'W'),
                        default=(2, 256, 64, 128),
                        help='default %(default)s')
    parser.add_argument('--classes',
                        type=command.positive,
                        default=19,
                        help='channels of logits, default %(default)s')
    parser.add_argument('--limit',
                        type=float,
                        default=60.,
                        metavar='SECONDS',
                        help='leave a naive form or peer out of which one run '
                        'takes longer, default %(default)s')
    args = command.parse(parser)
    found = bench_losses(args.size, args.classes, args.runs, args.methods,
                         args.limit)
    show(args, found, charts.draw_losses)


if __name__ == '__main__':
    raise SystemExit(cli.run(main))
