"""The strong setting: factors, standardised and smoothed inputs, a learned mask token.

stndt train --config=factors --config.data.path=recording.h5 --workdir=runs/one

For about a hundred trials, as it stands. With more trials take more factors, layers and epochs, and
less dropout and weight decay.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    """Two layers of 32 factors, 1,200 steps of 8 of about 100 trials."""
    config = default.get_config()
    config.model.width = 32
    config.model.input = "standardised"
    config.model.smooth = 2.0
    config.model.rate_start = "mean"
    config.model.layers = 2
    config.model.heads = 2
    config.model.dropout = 0.1
    config.model.dropout_rates = 0.1
    config.model.dropout_embedding = 0.4
    config.mask.token = "learned"
    config.mask.inference = "expected"
    config.mask.ratio = 0.6
    config.contrast.enabled = False
    config.optimizer.clip_norm = 1.0
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup_epochs = 7.0
    config.train.epochs = 100
    config.train.batch = 8
    config.train.validate_every = 5
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return {
        "learning_rate": ("log", 5e-4, 4e-3),
        "weight_decay": ("log", 0.02, 0.5),
        "dropout": ("uniform", 0.0, 0.3),
        "dropout_rates": ("uniform", 0.0, 0.3),
        "dropout_embedding": ("uniform", 0.0, 0.5),
        "context_forward": ("int", 5, 60),
        "context_backward": ("int", 5, 60),
        "mask_ratio": ("uniform", 0.3, 0.7),
        "model.width": ("choice", 24, 32, 48, 64, 96),
        "model.layers": ("choice", 2, 4),
    }
