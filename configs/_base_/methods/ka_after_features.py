# KA after features: first the student up to FitNets' hint learns the teacher's
# middle map, without labels, then all of it the task and KA's terms. On CamVid
# it gains; without the first stage, ka_camvid.py, it does not.
_base_ = './ka_camvid.py'

stages = dict(_delete_=True,
              features=dict(task=False,
                            train_cfg=dict(max_iters=.25),
                            param_scheduler=None,
                            custom_hooks=dict(KAHook=None,
                                              FitNetHook=dict(
                                                  student='backbone[2]',
                                                  teacher='backbone[2]',
                                                  weight=.28)),
                            **_base_.alone),
              translator=_base_.stages.translator,
              distill=dict(load_from='stage:features'))
