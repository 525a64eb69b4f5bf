"""A model of a few thousand weights, for tests and for a first look.

stndt synth reach --out reach.h5
stndt train --config=tiny --config.data.path=reach.h5 --workdir=runs/tiny
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    """Two layers of width 16."""
    config = default.get_config()
    config.model.layers = 2
    config.model.feedforward = 16
    config.optimizer.warmup_epochs = 2.0
    config.train.epochs = 10
    config.train.batch = 16
    config.train.validate_every = 2
    # So small a program is compiled in less time than more devices could save.
    config.parallel.devices = 1
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return {
        "learning_rate": ("log", 1e-3, 2e-2),
        "dropout": ("uniform", 0.05, 0.4),
        "mask_ratio": ("uniform", 0.1, 0.4),
        "context_forward": ("int", 1, 20),
        "model.layers": ("choice", 1, 2),
        "model.feedforward": ("choice", 8, 16),
    }
