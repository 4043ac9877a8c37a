"""TensorBoard, Weights & Biases and MLflow, for trainings of several stages.

MMEngine's backends by their own names, ``vis_backends=[dict(type=
'WandbVisBackend')]``. What a config leaves open is filled in: each stage is a
run of its own, in a group (an experiment) that is named like the work
directory. So steps are those of the stage, and nothing collides.
"""
import importlib.util
import os
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.visualization import MLflowVisBackend, WandbVisBackend

from seg_kd.errors import UserError
from seg_kd.registry import as_list, type_name

# Backend: its package, which is also the name of our extra.
PACKAGES = dict(TensorboardVisBackend='tensorboard',
                WandbVisBackend='wandb',
                MLflowVisBackend='mlflow')
LOGS = '.json', '.log', '.py', '.yaml'
# As the process got it: MLflow writes there what a former stage has set.
_MLFLOW_URI = os.environ.get('MLFLOW_TRACKING_URI')


class WandbBackend(WandbVisBackend):
    """MMEngine's, that logs at the iteration, and uploads no code unasked."""

    def _init_env(self) -> None:
        import wandb
        try:
            super()._init_env()
        except wandb.errors.Error as error:
            raise UserError(
                f'Weights & Biases: {error}; log in with `wandb login`, or '
                'set the environment variable WANDB_MODE=offline') from error

    def add_config(self, config: Config, **_: Any) -> None:
        if self._log_code_name is not None:
            super().add_config(config)
        else:
            self.experiment.config.update(config.to_dict(),
                                          allow_val_change=True)

    def add_image(self, name: str, image, step: int = 0, **_: Any) -> None:
        wandb = self.experiment
        wandb.log({name: wandb.Image(image)}, step=step)

    def add_scalar(self, name: str, value, step: int = 0, **_: Any) -> None:
        self.experiment.log({name: value}, step=step)

    def add_scalars(self,
                    scalar_dict: dict,
                    step: int = 0,
                    file_path: str | None = None,
                    **_: Any) -> None:
        self.experiment.log(scalar_dict, step=step)

    def close(self) -> None:
        if hasattr(self, '_wandb'):
            self._wandb.finish()


class MLflowBackend(MLflowVisBackend):
    """MMEngine's, with pictures at their iteration.

    Of the files, those of this run's log folder are kept with it.
    """

    def _init_env(self) -> None:
        if (self._tracking_uri or '').startswith('file:'):
            # newer versions refuse a store of files that is not asked for
            os.environ.setdefault('MLFLOW_ALLOW_FILE_STORE', 'true')
        super()._init_env()

    def add_config(self, config: Config, **more: Any) -> None:
        self.cfg = config
        experiment = self.experiment
        try:
            super().add_config(config, **more)
        except experiment.MlflowException as error:  # too long a value, say
            print_log(f'MLflow takes not all of the config: {error}',
                      'current')
            experiment.log_text(config.pretty_text, 'config.py')

    def add_image(self, name: str, image, step: int = 0, **_: Any) -> None:
        self.experiment.log_image(image, f'{name}/{step:06d}.png')

    def close(self) -> None:
        if not hasattr(self, '_mlflow'):
            return
        folder = os.path.dirname(self._save_dir)
        for place, _, files in os.walk(folder):
            for name in files:
                if name.endswith(LOGS):
                    under = os.path.relpath(place, folder)
                    self._mlflow.log_artifact(os.path.join(place, name),
                                              '' if under == '.' else under)
        self._mlflow.end_run()


def filled_in(visualizer: dict[str, Any], work_dir: str,
              stage: str) -> dict[str, Any]:
    """The config of a visualizer, with what names this run.

    Args:
        visualizer: As a config has it.
        work_dir: Of the stage, or of the run without stages.
        stage: Its name, or ''.

    Raises:
        UserError: A backend's package is not installed.
    """
    backends = as_list(visualizer.get('vis_backends'))
    whole = os.path.abspath(work_dir)
    if stage:
        whole = os.path.dirname(whole)
    found = [_filled_in(backend, whole, stage) for backend in backends]
    return {**visualizer, 'vis_backends': found}


def _filled_in(backend: Any, whole: str, stage: str) -> Any:
    kind, name = type_name(backend), os.path.basename(whole)
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise UserError(f"vis_backends: {kind} needs the package {package}: "
                        f"pip install 'seg_kd[{package}]'")
    if not isinstance(backend, dict):
        return backend
    if kind == 'WandbVisBackend':
        run = dict(project='seg_kd', group=name, name=stage or name)
        given = backend.get('init_kwargs') or {}
        return dict(backend,
                    name=kind,
                    type=WandbBackend,
                    init_kwargs={
                        **run,
                        **given
                    })
    if kind == 'MLflowVisBackend':
        run = dict(exp_name=name,
                   run_name=stage or name,
                   tracking_uri=_MLFLOW_URI or f'file://{whole}/mlruns')
        return {**run, **backend, 'name': kind, 'type': MLflowBackend}
    return backend
