"""Simulated reaches, the data of ``stndt demo``: four small models at once.

stndt synth reach --out=reach.h5
stndt train --config=reach --config.data.path=reach.h5 \
    --config.data.targets=reach_target.h5 --workdir=runs/reach
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import factors


def get_config() -> ml_collections.ConfigDict:
    """Two layers of 48 factors, more than the 32 neurons read in."""
    config = factors.get_config()
    config.population = 4
    config.data.name = "reach"
    config.model.width = 48
    config.model.smooth = 3.0
    config.model.dropout_rates = 0.2
    config.model.dropout_embedding = 0.1
    # Spikes here are plenty and their rates smooth: masks as in the paper do better than wider ones
    # with a learned token.
    config.mask.token = "zero"
    config.mask.inference = "unmasked"
    config.mask.ratio = 0.3
    config.optimizer.learning_rate = 5e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.warmup_epochs = 5.0
    config.train.epochs = 90
    config.train.batch = 12
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return {
        **factors.get_search_space(),
        "learning_rate": ("log", 1e-3, 1e-2),
        "weight_decay": ("log", 1e-3, 0.2),
        "mask_ratio": ("uniform", 0.2, 0.5),
        "model.width": ("choice", 32, 48, 64),
    }
