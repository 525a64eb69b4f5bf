"""MC_Maze_Large (DANDI 000138), and small recordings in general: 2 layers, small batches.

stndt train --config=mc_maze_large --config.data.path=large.h5 --workdir=runs/large

There is no published setting. Training begins with a flat stretch that is left after so many
steps, whatever their size: batches of 8 trials leave it soonest.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    """A short schedule at a high learning rate, in small batches."""
    config = default.get_config()
    config.data.name = "mc_maze_large"
    config.model.layers = 2
    config.model.dropout = 0.2
    config.model.dropout_rates = 0.4
    config.model.dropout_embedding = 0.2
    config.optimizer.learning_rate = 1e-2
    config.optimizer.warmup_epochs = 16.0
    config.train.epochs = 320
    config.train.batch = 8
    return config


def get_search_space() -> dict[str, tuple]:
    """Ranges around the short schedule; with a rate dropout below .3 small recordings overfit."""
    return {
        **default.get_search_space(),
        "learning_rate": ("log", 8e-3, 3e-2),
        "warmup_epochs": ("uniform", 8.0, 32.0),
        "dropout": ("uniform", 0.1, 0.4),
        "dropout_rates": ("uniform", 0.3, 0.6),
        "dropout_embedding": ("uniform", 0.1, 0.4),
        "context_forward": ("int", 10, 60),
        "context_backward": ("int", 10, 60),
        "contrast_weight": ("log", 0.01, 0.3),
        "model.layers": ("choice", 1, 2),
        "model.feedforward": ("choice", 64, 128),
    }
