"""A GPU that is not there: what a step of each loss makes it wait for.

    python tests/stand_in_gpu.py [LOSS ...]     prints JSON, see `measure`

A tensor "on the GPU" holds one on the CPU, so that all numbers are real. Each
operation that torch dispatches is looked at: does the host need a number, or
a size that depends on numbers, before it can go on? Then the GPU has run dry
when the next kernel comes. What is no view counts as a kernel: fused ones of
a real GPU may be fewer, those inside of an operation more.

Run as a process of its own, as torch knows but one such device.
"""
import inspect
import json
import os
import sys
import traceback
import types
import warnings
from functools import lru_cache
from unittest import mock

import torch
from torch.utils._python_dispatch import (TorchDispatchMode,
                                          return_and_correct_aliasing)
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import \
    _setup_privateuseone_for_python_backend as set_up

DEVICE = 'gpu'
set_up(
    DEVICE,
    types.SimpleNamespace(is_available=lambda: True,
                          is_initialized=lambda: True,
                          current_device=lambda: 0,
                          device_count=lambda: 1,
                          _is_in_bad_fork=lambda: False,
                          manual_seed_all=lambda seed: None,
                          get_amp_supported_dtype=lambda: [torch.half]))
torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) copies

PACKAGES = 'seg_kd', 'mmseg', 'mmengine', 'mmcv'
READS = '_local_scalar_dense', 'equal'
SIZES = ('nonzero', 'unique', '_unique2', 'unique_consecutive', 'unique_dim',
         'masked_select', 'bincount', 'repeat_interleave')


class OnGpu(torch.Tensor):
    """Says that it is on the GPU; ``held`` has its numbers."""
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        made = cls._make_wrapper_subclass(cls,
                                          held.shape,
                                          held.stride(),
                                          held.storage_offset(),
                                          dtype=held.dtype,
                                          device=f'{DEVICE}:0')
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, kinds, args=(), kwargs=None):
        raise RuntimeError(f'{func} outside of Watch')

    def tolist(self):
        return self.cpu().tolist()


def on_gpu(x):
    return isinstance(x, OnGpu) or (isinstance(x, torch.device)
                                    and x.type == DEVICE)


class Watch(TorchDispatchMode):
    """Counts kernels, and notes what the host waits for and where.

    Attributes:
        kernels: How many operations there were that are no views.
        waits: What was waited for: ``'item at seg_kd/...py:12'``.
    """

    def __init__(self):
        super().__init__()
        self.kernels, self.waits = 0, []

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, spec = tree_flatten((args, kwargs))
        if not any(map(on_gpu, flat)):
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        wait, result_here = crossing(name, args, kwargs)
        wait = wait or number_needed(name, args)
        if wait:
            self.waits.append(f'{wait} at {place()}')
        if wait is None and name not in ('copy_', '_to_copy'):
            check_together(func, flat)
        held_args, held_kwargs = tree_unflatten([
            x.held if isinstance(x, OnGpu) else
            torch.device('cpu') if on_gpu(x) else x for x in flat
        ], spec)
        found, shape = tree_flatten(func(*held_args, **held_kwargs))
        self.kernels += works(func, held_args)
        found = [
            OnGpu(x) if isinstance(x, torch.Tensor) and result_here else x
            for x in found
        ]
        return return_and_correct_aliasing(func, args, kwargs,
                                           tree_unflatten(found, shape))


def works(func, args):
    """Whether an operation needs a kernel."""
    same = func.overloadpacket.__name__ == 'copy_' and alike(args[0]) == alike(
        args[1])  # x[i] += 1
    return not same and makes_numbers(func)


@lru_cache(maxsize=None)
def makes_numbers(func):
    """Is it neither a view nor room?"""
    name = func.overloadpacket.__name__
    view = name == '_unsafe_view' or any(
        r.alias_info is not None and not r.alias_info.is_write
        for r in func._schema.returns)
    return not view and 'empty' not in name


def alike(x):
    return x.data_ptr(), x.shape, x.stride(), x.dtype


def crossing(name, args, kwargs):
    """Whether a copy between host and GPU blocks; is the result there?"""
    if name == '_to_copy':
        target = kwargs.get('device') or args[0].device
        across = on_gpu(args[0]) != on_gpu(target)
        found = None
        if across and not kwargs.get('non_blocking'):
            found = f'copy to {target.type}'
        elif across and on_gpu(target):
            found = not_pinned(args[0])
        return found, on_gpu(target)
    if name == 'copy_':
        across = on_gpu(args[0]) != on_gpu(args[1])
        blocking = across and args[1].dim() and args[2:] != (True, )
        return 'copy' if blocking else None, on_gpu(args[0])
    return None, True


def not_pinned(tensor):
    """A large copy that blocks all the same; one place pins what it sends."""
    small = tensor.numel() * tensor.element_size() <= 2**16
    sends = place().startswith('seg_kd/networks/transfer.py')
    return None if small or sends else 'copy from memory not pinned'


def number_needed(name, args):
    if name in READS:
        return 'item'
    if name in SIZES:
        return name
    if name in ('index', 'index_put', 'index_put_', '_index_put_impl_'):
        for index in args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                return 'boolean index'
            if index is not None and not on_gpu(index):
                return 'index on the CPU'
    return None


def check_together(func, flat):
    """Raises RuntimeError for tensors of the CPU among those of the GPU."""
    apart = [
        tuple(x.shape) for x in flat
        if isinstance(x, torch.Tensor) and x.dim() and not on_gpu(x)
    ]
    if apart:
        raise RuntimeError(f'{func} at {place()}: tensors {apart} on the CPU')


def place():
    """The innermost line of these packages that is running."""
    for frame, line in traceback.walk_stack(sys._getframe()):
        path = frame.f_code.co_filename
        for package in PACKAGES:
            if f'{os.sep}{package}{os.sep}' in path:
                short = path[path.rindex(f'{os.sep}{package}{os.sep}') + 1:]
                return f'{short}:{line}'
    return 'the backward pass'


LEVELS = 'ABLoss', 'FSPLoss', 'HCLLoss', 'ReviewKDLoss'
SAME = 'AdaptationLoss', 'HCLLoss', 'HNDLoss'  # as many channels
CLASSES = 'DISTLoss', 'KDLoss', 'LogitStdLoss'
# in float64 on a GPU that is fast in it, on others in float32
PRODUCTS = 'AffinityLoss', 'CCKDLoss', 'KALoss', 'SPLoss'
FORMS = dict(ATLoss=[{}, dict(form='paper')],
             CCKDLoss=[{}, dict(kernel='bilinear')],
             CRDLoss=[{},
                      dict(instances='class'),
                      dict(negatives='instance'),
                      dict(instances='image', n_data=64)],
             DISTLoss=[{}, dict(grid='mask')],
             FSPLoss=[{}, dict(pool='max')],
             FTLoss=[{}, dict(form='paper', p=2)],
             HNDLoss=[{}, dict(reduction='sum')],
             ICKDLoss=[{}, dict(grid=(8, 8)),
                       dict(grid=(3, 5))],
             KDLoss=[{}, dict(grid='mask'),
                     dict(activation='sigmoid')],
             PADLoss=[{}, dict(warm=True),
                      dict(per='position')],
             PKTLoss=[{}, dict(instances='class')],
             RKDLoss=[{},
                      dict(angle_weight=0),
                      dict(instances='region', angle_instances=None)],
             SPLoss=[{}, *(dict(instances=kind)
                           for kind in ('image', 'map', 'region', 'class'))],
             SRDLoss=[{},
                      dict(form='paper', projector='mlp'),
                      dict(norm='l2', correlate=True)],
             VIDLoss=[{}, dict(form='paper')])


def forms():
    """Names of all losses and trained parts, with arguments to try."""
    from seg_kd import losses
    bases = 'LogitLoss', 'MapLoss', 'RelationLoss'
    endings = 'Loss', 'Translator', 'Paraphraser'
    for kind in losses.__all__:
        if kind.endswith(endings) and kind not in bases:
            for form in FORMS.get(kind, [{}]):
                yield kind, form


def make(kind, form, images):
    """A loss, and what it takes: maps, labels, mask, index."""
    from seg_kd import losses
    torch.manual_seed(0)
    student, teacher = (19, 19) if kind in CLASSES else (
        16, 16) if kind in SAME else (12, 16)
    count = 3 if kind in LEVELS else 1
    known = dict(student_channels=student,
                 teacher_channels=teacher,
                 channels=16,
                 translator=losses.Translator(16, 2),
                 paraphraser=losses.Paraphraser(16))
    if kind in LEVELS:
        known = {name: [value] * count for name, value in known.items()}
    accepted = inspect.signature(getattr(losses, kind)).parameters
    known = {name: value for name, value in known.items() if name in accepted}
    loss = getattr(losses, kind)(**known, **form)

    def maps(channels, side):
        found = [
            torch.randn(images, channels, side >> i, 2 * side >> i)
            for i in range(count)
        ]
        return found if kind in LEVELS else found[0]

    labels = torch.randint(5, (images, 64, 128))
    labels[0, :20] = 255
    given = dict(student=maps(student, 8),
                 teacher=maps(teacher, 16),
                 labels=labels,
                 index=torch.arange(images),
                 mask=labels != 255)
    accepted = inspect.signature(loss.forward).parameters
    return loss, {k: v for k, v in given.items() if k in accepted}


def step(loss, given):
    """Value, and gradients of the student's maps, of one step."""
    torch.manual_seed(1)
    value = loss(**given)
    value = sum(value.values()) if isinstance(value, dict) else value
    value.backward()
    student = given.get('student', [])
    maps = student if isinstance(student, list) else [student]
    found = [value.detach(), *(x.grad for x in maps)]
    for x in [*maps, *loss.parameters()]:
        x.grad = None
    return found


def numbers(found):
    return [x.held if isinstance(x, OnGpu) else x for x in found]


def learns(given):
    if 'student' in given:
        for x in given['student'] if isinstance(given['student'],
                                                list) else [given['student']]:
            x.requires_grad_()
    return given


def fast_in_float64(fast):
    """A CPU is; the GPU as asked."""
    return mock.patch('seg_kd.losses._gram.fast_doubles',
                      lambda device: fast or device.type == 'cpu')


def measure(kind, form, images):
    """Two steps on the CPU and on the GPU.

    Returns:
        ``kernels`` and ``waits`` of the second step there, and ``gap``: how
        far the first one's value and gradients are from those of the CPU,
        relative to these. (Later ones may have drawn other instances.)
    """
    loss, given = make(kind, form, images)
    learns(given)
    wanted = step(loss, given)
    loss, given = make(kind, form, images)
    watches = Watch(), Watch()
    with Watch():
        loss = loss.to(DEVICE)
        given = learns(tree_map(lambda x: x.to(DEVICE), given))
    with watches[0]:
        found = numbers(step(loss, given))
    with Watch():  # what is known of these maps and masks is not, of others
        given = learns(tree_map(lambda x: x.detach().clone(), given))
    with watches[1]:
        step(loss, given)
    gap = max(
        float((a.double() - b.double()).norm() / (b.double().norm() + 1e-30))
        for a, b in zip(found, wanted))
    return dict(kernels=watches[1].kernels, waits=watches[1].waits, gap=gap)


def main():
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    found = {}
    for kind, form in forms():
        for fast in [True, False][:1 + (kind in PRODUCTS)]:
            name = ' '.join([kind, *(f'{k}={v}' for k, v in form.items())])
            name += '' if fast else ' in float32'
            if len(sys.argv) == 1 or kind in sys.argv[1:]:
                print(name, file=sys.stderr)
                with fast_in_float64(fast):
                    found[name] = [
                        measure(kind, form, images) for images in (2, 5)
                    ]
    print(json.dumps(found, indent=1), flush=True)
    os._exit(0)  # torch's threads do not survive the device's end


if __name__ == '__main__':
    main()
