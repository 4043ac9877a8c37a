"""How hard each term pulls at the student, in the log."""
from mmengine.hooks import Hook

from seg_kd.errors import UserError
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class GradientRatioHook(Hook):
    """Has every ``interval``-th iteration log ``<term>_gradient_ratio``.

    That is :meth:`~seg_kd.distiller.Distiller.gradient_ratios`, as
    ``weight='auto'`` measures it: 0.1 means that at the tapped map the task's
    gradient is ten times the term's. It takes one backward pass from the
    task, and one from each term, down to the tapped map; the weights are
    trained as without it. On several GPUs it is that of the first. With
    ``compile`` nothing is measured: every iteration has to be the same.

    Args:
        interval: In iterations.
    """

    def __init__(self, interval: int = 100) -> None:
        if interval < 1:
            raise UserError('GradientRatioHook(interval=) is at least 1, not '
                            f'{interval}; default_hooks.gradient_ratio=None '
                            'measures nothing')
        self.interval = interval

    def before_train(self, runner) -> None:
        distiller = getattr(runner, 'distiller', None)
        self.distiller = None if runner.cfg.get('compile') else distiller

    def before_train_iter(self, runner, **_) -> None:
        if self.distiller is not None:
            self.distiller.measuring = self.every_n_train_iters(
                runner, self.interval)

    def after_train(self, runner) -> None:
        if self.distiller is not None:
            self.distiller.measuring = False
