"""Makes every iteration reproducible by itself."""
import random

import numpy as np
import torch
from mmengine.hooks import Hook

from seg_kd.registry import HOOKS


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds the generators before each iteration from (seed, iteration, rank).

    What an iteration draws (dropout, say) then depends on nothing that came
    before it: not on validation, not on whether the run was cut off and
    resumed, not on the number of loader workers. So no generator state has to
    be saved. :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, **_) -> None:
        key = (runner.seed, runner.iter, runner.rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
