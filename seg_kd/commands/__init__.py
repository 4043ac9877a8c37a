"""The commands of ``seg-kd``, one module each.

A module has a docstring, which is its help, ``add_arguments(parser)`` and
``run(args)``; only ``run`` imports what takes long.
"""
