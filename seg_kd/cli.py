"""The command line: ``seg-kd COMMAND``, and what its commands share.

Each command is a module in :mod:`seg_kd.commands`. What it needs beyond its
help is imported when it runs.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from seg_kd import shipped
from seg_kd.errors import UserError
from seg_kd.opencv import require_opencv

if TYPE_CHECKING:
    from mmengine.config import Config

COMMANDS = dict([
    ('doctor', 'look at an experiment before hours are spent on it'),
    ('train', 'train a student, or a teacher'),
    ('test', 'evaluate a student, and its teacher'),
    ('compare', 'train with one method after the other, all else equal'),
    ('configs', 'list the configs that come with the package'),
    ('prepare-data', 'convert, draw or check a data set'),
    ('gradients', 'show how hard each loss term pulls at the student'),
    ('benchmark', 'measure what a step or a network costs here'),
    ('cache-deviation', "compare cached teacher's maps with computed ones"),
    ('export', 'write the student for use elsewhere'),
    ('export-split', 'write the two halves of a split network'),
    ('predict', 'label images, folders and videos'),
    ('report', 'make a page of what runs came to'),
    ('demo', 'run the main job on embedded data'),
])
LIGHT = ('configs', )  # need nothing that takes long to import
GO_ON = ('train', 'compare', 'demo')  # what a second call goes on with


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ('-h', '--help'):
        print(usage())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        return _say(f'seg-kd has no command {name!r}'
                    f'{shipped.nearest(name, COMMANDS)}')
    command = importlib.import_module(
        f'seg_kd.commands.{name.replace("-", "_")}')
    args = parser_of(name, command).parse_args(rest)
    if name not in LIGHT:
        require_opencv()
    again = ['--resume'] if name == 'train' and '--resume' not in rest else []
    go_on = f'go on with: seg-kd {shlex.join([*argv, *again])}' \
        if name in GO_ON else ''

    def work() -> None:
        if os.getcwd() not in sys.path:  # for custom_imports of a user's own
            sys.path.append(os.getcwd())
        if name not in LIGHT:
            importlib.import_module('seg_kd.register')
        command.run(args)

    return run(work, args.traceback, go_on)


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f'  {name:{width}}  {text}' for name, text in COMMANDS.items()]
    return '\n'.join([
        'usage: seg-kd COMMAND ...', '',
        'Knowledge distillation for semantic segmentation.', '', *lines, '',
        'seg-kd COMMAND --help says more; --traceback after any command '
        'shows\nwhat an error of one line leaves out.'
    ])


def parser_of(name: str, command: Any) -> argparse.ArgumentParser:
    """The parser of a command, from its module's docstring and arguments."""
    text, _, example = command.__doc__.partition('\n\n')
    parser = argparse.ArgumentParser(f'seg-kd {name}',
                                     description=' '.join(text.split()),
                                     epilog=example.rstrip(),
                                     formatter_class=ShortHelp)
    command.add_arguments(parser)
    add_traceback(parser)
    return parser


class ShortHelp(argparse.RawDescriptionHelpFormatter):
    """A usage that lists no options, and metavars that are said once."""

    def add_usage(self,
                  usage: Any,
                  actions: Iterable,
                  groups: Iterable,
                  prefix: str | None = None) -> None:
        named = [a for a in actions if not a.option_strings]
        prog = self._prog
        if len(named) < len(list(actions)):
            self._prog = f'{prog} [OPTIONS]'
        super().add_usage(usage, named, [], prefix)

    def _format_args(self, action: argparse.Action, default: str) -> str:
        if action.nargs in ('+', '*') and action.option_strings:
            return f'{action.metavar or default} ...'
        return super()._format_args(action, default)


def add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--traceback',
                        action='store_true',
                        help='show where an error comes from')


def tool(name: str) -> None:
    """For ``tools/*.py``: the command of that name, then the exit."""
    sys.exit(main([name, *sys.argv[1:]]))


# -- errors ----------------------------------------------------------------


def run(work: Callable[[], None],
        traceback_too: bool = False,
        go_on: str = '') -> int:
    """Exit status of the work: a user's mistake is one line, and 2."""
    try:
        work()
        _end_processes()
        return 0
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:  # it may say where
        message = f'interrupted{stop}' + (f'; {go_on}' if go_on else '')
    except Exception as error:
        found = explained(error)
        if found is None:
            raise
        if traceback_too:
            traceback.print_exc()
        message = found
    return _say(message)  # only here have the progress bars ended


def _end_processes() -> None:
    torch = sys.modules.get('torch')
    if torch is not None and torch.distributed.is_initialized():
        # gloo's threads would outlive the interpreter, and abort it
        torch.distributed.destroy_process_group()


def explained(error: Exception) -> str | None:
    """One line for what the user can mend; None for what he cannot."""
    import urllib.error
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, urllib.error.URLError):
        return (f'a download failed ({error.reason}); fetch the weights by '
                'hand, or start without: model.backbone.init_cfg=None')
    if isinstance(error, OSError) and error.filename and error.strerror:
        return (f'{os.fsdecode(error.filename)}: {error.strerror}; '
                '--traceback shows where')
    found = None
    if isinstance(error, KeyError):
        found = _unknown_type(str(error))
    if isinstance(error, TypeError):
        found = _wrong_arguments(error)
    if isinstance(error, ImportError) and 'pip install' in str(error):
        return str(error)  # of an optional part, such as TensorBoard
    return found or _not_built(error)


def _not_built(error: Exception) -> str | None:
    """What to say where a constructor did not take what a config says."""
    kind = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == 'build_from_cfg':
            kind = frame.f_locals.get('obj_cls') or kind
    if kind is None:
        return None
    said = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
    return (f'{getattr(kind, "__name__", kind)} in the config cannot be '
            f'built: {type(error).__name__}: {said}; --traceback shows where')


def _wrong_arguments(error: TypeError) -> str | None:
    """What to say where a config gives a type other arguments than it takes.

    Any other TypeError is one of the code, not of the config.
    """
    match = re.search(
        r'(\w+)\.__init__\(\) (missing \d+ required .*|'
        'got an unexpected keyword argument .*)', str(error), re.DOTALL)
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    called = last.f_code.co_filename
    if match is None or not called.endswith('build_functions.py'):
        return None
    kind = last.f_locals.get('obj_cls')  # match[1] may be a class below it
    name = getattr(kind, '__name__', match[1])
    message = f'{name} in the config: {match[2]}'
    if isinstance(kind, type) and 'unexpected' in match[2]:
        import inspect
        wanted = match[2].split("'")[1]
        message += shipped.nearest(wanted, inspect.signature(kind).parameters)
    return message


def _say(message: str) -> int:
    if 'in DataLoader worker process' in message:  # with that one's traceback
        message = message.rsplit('UserError: ', 1)[-1]
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    return 2


def _unknown_type(message: str) -> str | None:
    """What to say where a config names a type that no registry knows."""
    match = re.search(r'(\S+) is not in the \S+?::(.+?) registry', message)
    if match is None:
        return None
    import difflib

    from seg_kd.registry import names_in
    wanted, kind = match[1].strip('"\''), match[2]
    near = difflib.get_close_matches(wanted, names_in(kind), n=4, cutoff=0.4)
    hint = f'; the nearest are: {", ".join(near)}' if near else ''
    return (f'unknown {kind} {wanted!r}{hint}; what you wrote yourself must '
            'be imported by custom_imports')


# -- configs ---------------------------------------------------------------


def add_config_arguments(parser: argparse.ArgumentParser,
                         many: bool = False,
                         work_dir: bool = True) -> None:
    """The config, and what changes it: see :func:`load_config`."""
    if not many:
        parser.add_argument(
            'config',
            help='a shipped config by name (seg-kd configs), or a '
            'file')
    parser.add_argument('--cfg-options',
                        nargs='+',
                        metavar='KEY=VALUE',
                        help='override settings, such as '
                        'train_cfg.max_iters=1000 or '
                        'custom_hooks.KAHook.affinity_weight=2')
    if work_dir:
        parser.add_argument('--work-dir',
                            type=folder,
                            metavar='DIR',
                            help="default: the config's work_dir, or "
                            'work_dirs/<config>')
    parser.add_argument('--fold',
                        metavar='NAME',
                        help='one of the splits that the data set defines')
    parser.set_defaults(launcher='none', local_rank=0)


def add_launcher(parser: argparse.ArgumentParser) -> None:
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


def add_amp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16, or float16 on a GPU without it')


def _number(kind: type, wanted: str, fits: Callable[[Any], bool],
            text: str) -> Any:
    with contextlib.suppress(ValueError):
        number = kind(text)
        if fits(number):
            return number
    raise argparse.ArgumentTypeError(f'{wanted} is wanted, not {text!r}')


def positive(text: str) -> int:
    """For ``type=``: a whole number from 1 on."""
    return _number(int, 'a whole number from 1 on', lambda n: n >= 1, text)


def from_0(text: str) -> int:
    """For ``type=``: a seed."""
    return _number(int, 'a whole number from 0 to 2**32 - 1',
                   lambda n: 0 <= n < 2**32, text)


def above_0(text: str) -> float:
    """For ``type=``: a finite number above 0."""
    return _number(float, 'a finite number above 0',
                   lambda n: 0 < n < float('inf'), text)


def folder(text: str) -> str:
    """For ``type=``: one to write into, which may not be there yet."""
    try:
        named = text and '\0' not in text and text.encode()
    except UnicodeEncodeError:
        named = False
    if not named:
        raise argparse.ArgumentTypeError(f'{text!r} cannot name a folder: a '
                                         'text in UTF-8 is wanted')
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f'{text} is a file, not a folder')
    return text


def new_file(text: str) -> str:
    """For ``type=``: one to write, in a folder that is there."""
    if os.path.isdir(text) or not os.path.isdir(os.path.dirname(text) or '.'):
        raise argparse.ArgumentTypeError(
            f'{text} is a folder, or in one that is not there')
    return text


def add_number(parser: argparse.ArgumentParser,
               name: str,
               default: int,
               text: str,
               kind: Callable[[str], int] = positive) -> None:
    """An option for a whole number."""
    parser.add_argument(name,
                        type=kind,
                        default=default,
                        metavar='N',
                        help=f'{text}, default %(default)s')


def load_config(args: argparse.Namespace) -> Config:
    """The config that the arguments name, with their changes.

    Raises:
        UserError: It is missing or cannot be read, or an option fits nothing.
    """
    from seg_kd.engine.folds import choose_fold
    from seg_kd.engine.settings import check_launcher
    os.environ.setdefault('LOCAL_RANK', local_rank(args))
    cfg = read_config(args.config)
    if args.fold:
        choose_fold(cfg, args.fold)
    for option in args.cfg_options or []:
        set_option(cfg, option)
    cfg.launcher = check_launcher(args.launcher)
    return cfg


def local_rank(args: argparse.Namespace) -> str:
    """Which process of its machine this one is, by what has started it.

    Raises:
        UserError: It was not started as ``--launcher`` says.
    """
    names = dict(mpi='OMPI_COMM_WORLD_LOCAL_RANK', slurm='SLURM_LOCALID')
    name = names.get(args.launcher)
    if name is None:
        return str(args.local_rank)
    if name not in os.environ:
        starter = dict(mpi="Open MPI's mpirun", slurm='srun')[args.launcher]
        raise UserError(f'--launcher {args.launcher}: {name} is not set; '
                        f'start the processes with {starter}')
    return os.environ[name]


def read_config(name: str) -> Config:
    """The config of a file, or a shipped one by its name.

    Raises:
        UserError: It is missing or cannot be read.
    """
    from seg_kd import registry
    from seg_kd.engine.complete import apply_changes
    cfg = registry.config_of_file(shipped.find(name))
    try:
        apply_changes(cfg)
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f'config {name}: its changes= do not fit it: '
                        f'{error}') from error
    return cfg


def set_option(cfg: Config, option: str) -> None:
    """Sets ``KEY=VALUE``; hooks, stages and transforms may go by name.

    Raises:
        UserError: It fits nothing in the config.
    """
    from seg_kd.engine.complete import assign, locate, look_up_or
    from seg_kd.engine.settings import check_option
    key, sign, text = option.partition('=')
    if not sign or not all(key.split('.')):
        raise UserError(f'--cfg-options {option}: KEY=VALUE is wanted')
    try:
        check_option(cfg, key)
        path, value = locate(cfg, key), _value(text)
        if value == {} and look_up_or(cfg, path):
            raise UserError(f'--cfg-options {option}: an empty dict changes '
                            f'nothing; {key}=None leaves it out')
        assign(cfg, path, value)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError,
            SyntaxError, AssertionError) as error:
        raise UserError(f'--cfg-options {option}: {type(error).__name__}: '
                        f'{error}') from error


def _value(text: str) -> Any:
    import ast

    from mmengine.config import DictAction
    if text.lstrip().startswith('{'):
        return ast.literal_eval(text.strip())
    return DictAction._parse_iterable(text)


def default_work_dir(args: argparse.Namespace, cfg: Config) -> str:
    """``--work-dir``, or the config's own, or one by the config's name."""
    if args.work_dir:
        return args.work_dir
    folder = cfg.get('work_dir') or os.path.join('work_dirs',
                                                 shipped.stem(args.config))
    return f'{folder}_{args.fold}' if args.fold else folder


if __name__ == '__main__':
    sys.exit(main())
