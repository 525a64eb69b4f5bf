"""Chosen from the recording: what is None here is decided by its trials, neurons and bins.

stndt train --config=auto --config.data.path=recording.h5 --workdir=runs/one

The rules are in stndt_jax/config/automatic.py. What a flag sets is kept:
--config.model.width=64 decides the width, and the rules the rest. This is also the configuration of
``stndt train`` without --config.
"""

from __future__ import annotations

import ml_collections
from ml_collections import config_dict
from stndt_jax.configs import factors

from stndt_jax.config import automatic


def get_config() -> ml_collections.ConfigDict:
    """Factors, as in the configuration ``factors``, and open values."""
    config = factors.get_config()
    for name in ("width", "layers", "heads", "context_forward", "context_backward"):
        config.model[name] = config_dict.placeholder(int)
    for name in ("dropout", "dropout_rates", "dropout_embedding", "smooth"):
        config.model[name] = config_dict.placeholder(float)
    config.mask.ratio = config_dict.placeholder(float)
    for name in ("learning_rate", "weight_decay", "warmup_epochs"):
        config.optimizer[name] = config_dict.placeholder(float)
    for name in ("epochs", "batch", "validate_every"):
        config.train[name] = config_dict.placeholder(int)
    return config


def sized(*, trials: int, bins: int, neurons: int) -> ml_collections.ConfigDict:
    """The configuration for a recording of known sizes, with the benchmark's bins of 5 ms."""
    config = get_config()
    values, _ = automatic.filled_for(
        config.to_dict(), automatic.Sizes(trials, bins, neurons, bin_ms=5.0)
    )
    config.update(values)
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt tune`` and ``stndt search`` change, and how far."""
    return {
        "weight_decay": ("log", 0.02, 0.5),
        "dropout": ("uniform", 0.05, 0.4),
        "dropout_embedding": ("uniform", 0.1, 0.45),
        "mask_ratio": ("uniform", 0.35, 0.7),
        "model.width": ("choice", 32, 64, 96),
        "model.layers": ("choice", 1, 2, 4),
    }
