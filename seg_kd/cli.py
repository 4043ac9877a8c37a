"""What the command-line tools share: configs, errors, the end of a run."""
import argparse
import difflib
import os
import re
import sys
import urllib.error
from typing import Callable, Iterable, Optional

import mmengine.registry
import mmseg.registry
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import Registry

import seg_kd.register  # noqa: F401
from seg_kd.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Runs a tool: a mistake of the user becomes one line and status 2."""
    try:
        main()
        if torch.distributed.is_initialized():
            # gloo's threads would outlive the interpreter, and abort it
            torch.distributed.destroy_process_group()
    except UserError as error:
        _fail(str(error))
    except urllib.error.URLError as error:
        _fail(f'a download failed ({error.reason}); fetch the weights by '
              'hand, or start without: model.backbone.init_cfg=None')
    except KeyError as error:
        message = _unknown_type(str(error))
        if message is None:
            raise
        _fail(message)
    except KeyboardInterrupt:
        _fail('interrupted; go on with --resume')


def _fail(message: str) -> None:
    if 'in DataLoader worker process' in message:  # with that one's traceback
        message = message.rsplit('UserError: ', 1)[-1]
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    sys.exit(2)


def _unknown_type(message: str) -> Optional[str]:
    """What to say where a config names a type that no registry knows."""
    match = re.search(r'(\S+) is not in the \S+?::(.+?) registry', message)
    if match is None:
        return None
    wanted, kind = match[1].strip('"\''), match[2]
    near = difflib.get_close_matches(wanted, _known(kind), n=4, cutoff=0.4)
    hint = f'; the nearest are: {", ".join(near)}' if near else ''
    return (f'unknown {kind} {wanted!r}{hint}; what you wrote yourself must '
            'be imported by custom_imports')


def _known(kind: str) -> Iterable[str]:
    found = set()
    for package in (mmengine.registry, mmseg.registry):
        for registry in vars(package).values():
            if isinstance(registry, Registry) and registry.name == kind:
                found.update(registry.module_dict)
    return sorted(found)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'train_cfg.max_iters=1000 or custom_hooks.0.checkpoint=teacher.pth')
    parser.add_argument('--work-dir', help='default: work_dirs/<config>')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started')
    # torchrun's predecessors pass it; torchrun sets the environment.
    parser.add_argument('--local_rank',
                        '--local-rank',
                        type=int,
                        default=0,
                        help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config that the arguments name, with their changes.

    Raises:
        UserError: It is missing or cannot be read.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not os.path.isfile(args.config):
        raise UserError(f'config file {args.config} does not exist')
    try:
        cfg = Config.fromfile(args.config)
        if args.cfg_options:
            cfg.merge_from_dict(args.cfg_options)
    except (FileNotFoundError, SyntaxError, KeyError, TypeError, ImportError,
            AttributeError, IndexError) as error:
        raise UserError(f'config {args.config} cannot be read: '
                        f'{type(error).__name__}: {error}') from error
    cfg.launcher = args.launcher
    return cfg


def default_work_dir(args: argparse.Namespace) -> str:
    name = os.path.splitext(os.path.basename(args.config))[0]
    return args.work_dir or os.path.join('work_dirs', name)
