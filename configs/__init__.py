"""Configurations: one short file a data set, each an edit of ``default.py``."""
