"""Registers everything that a config can name: ours and MMSegmentation's.

``custom_imports=dict(imports=['seg_kd.register'])`` in a config, or ``import
seg_kd.register`` in a script.
"""
from seg_kd.registry import without_import_noise

with without_import_noise():
    import mmseg.datasets  # noqa: F401
    import mmseg.engine  # noqa: F401
    import mmseg.evaluation  # noqa: F401
    import mmseg.models  # noqa: F401
    import mmseg.visualization  # noqa: F401

import seg_kd.datasets  # noqa: E402,F401
import seg_kd.engine  # noqa: E402,F401
import seg_kd.hooks  # noqa: E402,F401
import seg_kd.models  # noqa: E402,F401
import seg_kd.split  # noqa: E402,F401
