"""Simulated reaches, the data of ``stndt demo``: four small models at once.

stndt synth reach --out=reach.h5
stndt train --config=reach --config.data.path=reach.h5 \
    --config.data.targets=reach_target.h5 --workdir=runs/reach
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    """Two layers, minutes on two CPU cores."""
    config = default.get_config()
    config.population = 4
    config.data.name = "reach"
    config.model.layers = 2
    config.model.feedforward = 64
    config.model.context_forward = 20
    config.model.context_backward = 20
    config.model.dropout = 0.1
    config.model.dropout_rates = 0.2
    config.model.dropout_embedding = 0.1
    config.optimizer.learning_rate = 5e-3
    config.optimizer.warmup_epochs = 5.0
    config.train.epochs = 150
    config.train.batch = 12
    config.train.validate_every = 5
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return {
        **default.get_search_space(),
        "learning_rate": ("log", 1e-3, 2e-2),
        "warmup_epochs": ("uniform", 1.0, 20.0),
        "context_forward": ("int", 2, 50),
        "context_backward": ("int", 2, 50),
        "model.layers": ("choice", 1, 2),
        "model.feedforward": ("choice", 32, 64),
    }
