"""The projector study as a hook."""
from seg_kd.distiller import Term
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import SRDLoss
from seg_kd.registry import HOOKS


class CorrelationTerm(Term):
    """Logs what the loss knows of its projector."""

    def compute(self, loss, student, teacher, step):
        terms = super().compute(loss, student, teacher, step)
        step.logged[f'{self.name}_correlation'] = loss.correlation
        return terms


@HOOKS.register_module()
class SRDHook(DistillHook):
    """The projector's recipe (Miles, Mikolajczyk, 2024): :class:`SRDLoss`.

    Besides ``loss_srd`` it logs ``srd_correlation``, how strongly the
    channels behind the projector still correlate with those before it.
    """

    loss_cls = SRDLoss
    term_cls = CorrelationTerm
