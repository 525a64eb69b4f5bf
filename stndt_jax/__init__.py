"""Spatiotemporal transformers for neural population activity, in JAX.

Nothing is imported before it is used: ``import stndt_jax`` costs nothing, and a machine needs
only what the modules it uses need.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``stndt_jax.SpikeData``, imported when it is first asked for."""
    if name == "SpikeData":
        return importlib.import_module("stndt_jax.data.trials").SpikeData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
