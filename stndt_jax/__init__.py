"""Spatiotemporal transformers for neural population activity, in JAX.

Nothing is imported before it is used: ``import stndt_jax`` costs nothing, and a machine needs
only what the modules it uses need.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


_HOMES = {"SpikeData": "data.trials", "load_run": "run"}


def __getattr__(name: str) -> Any:
    """``SpikeData`` and ``load_run``, imported when they are first asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"stndt_jax.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
