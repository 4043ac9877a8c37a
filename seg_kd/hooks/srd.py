"""The projector study as a hook."""
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import SRDLoss
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class SRDHook(DistillHook):
    """The projector's recipe (Miles, Mikolajczyk, 2024): :class:`SRDLoss`.

    Beside ``loss_srd`` it logs ``srd_correlation``, how strongly the channels
    behind the projector still correlate with those before it.
    """

    loss_cls = SRDLoss

    def compute(self, loss, student, teacher, mask):
        terms = super().compute(loss, student, teacher, mask)
        return {**terms, f'{self.name}_correlation': loss.correlation}
