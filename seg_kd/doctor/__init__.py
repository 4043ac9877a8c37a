"""Looks at an experiment before hours are spent on it.

Each check is a function of :class:`~seg_kd.doctor.experiment.Experiment` in
:mod:`seg_kd.doctor.checks`; to add one is to add a function there::

    @check
    def colours(experiment: Experiment) -> Iterator[Finding]:
        if experiment.images[0].shape[1] != 3:
            yield yellow('the images have no colours', 'load them in colour')
"""
