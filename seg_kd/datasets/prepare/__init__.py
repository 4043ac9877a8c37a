"""Converts what users download to what the dataset classes read.

One module a data set, each with ``convert(...)``. All are safe to run twice,
and after a kill: files appear under their name only when they are whole,
what is there already is kept, and damaged files are reported, not replaced.
"""
