"""Starts a run from another run's weights, with other distillation parts."""
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from seg_kd.networks.auto_weight import AutoWeight
from seg_kd.networks.checkpoint import DISTILL
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class LoadHook(Hook):
    """Fits the ``distill.*`` weights of a ``load_from`` to the model.

    What both have is taken over, so a method goes on with the parts that an
    earlier stage trained under the same name. What only one has is no error:
    the checkpoint's is left out, the model's starts afresh, and the log says
    so in one line. A weight that was measured (:class:`AutoWeight`) belongs
    to its stage and is measured again.
    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which reads the same weights

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:  # then it is the checkpoint of this very run
            return
        model = unwrap_model(runner.model)
        parts = getattr(model, 'distill', {})
        measured = tuple(f'{DISTILL}{name}.' for name, part in parts.items()
                         if isinstance(part, AutoWeight))
        whole = model.state_dict()
        own = {k: w for k, w in whole.items() if k.startswith(DISTILL)}
        state = checkpoint.get('state_dict', checkpoint)
        found = {key for key in state if key.startswith(DISTILL)}
        kept = {k for k in found & own.keys() if not k.startswith(measured)}
        for key in found - kept:
            del state[key]
        state.update({key: own[key] for key in own.keys() - kept})
        report(kept=kept, left_out=found - kept, new=own.keys() - kept)


def report(**parts: Any) -> None:
    """One line on the modules in ``model.distill``, if there are any."""
    said = []
    for word, keys in parts.items():
        names = sorted({key.split('.')[1] for key in keys})
        if names:
            said.append(f'{word.replace("_", " ")}: {", ".join(names)}')
    if said:
        print_log(f'load_from, distillation parts {"; ".join(said)}',
                  'current')
