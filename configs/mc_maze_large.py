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
    """Ranges around the short schedule, narrow, so that a dozen trials are worth having.

    With a rate dropout below .3 small recordings overfit; a learning rate of 2e-2 leaves the flat
    stretch sooner than one of 1e-2, above all with one layer, which trains in half the time of two.
    """
    return {
        "learning_rate": ("log", 1.2e-2, 2.2e-2),
        "warmup_epochs": ("uniform", 8.0, 24.0),
        "dropout": ("uniform", 0.1, 0.3),
        "dropout_rates": ("uniform", 0.35, 0.5),
        "dropout_embedding": ("uniform", 0.1, 0.3),
        "context_forward": ("int", 15, 50),
        "context_backward": ("int", 15, 50),
        "mask_ratio": ("uniform", 0.2, 0.3),
        "contrast_weight": ("log", 0.03, 0.3),
        "model.layers": ("choice", 1, 2),
        "model.feedforward": ("choice", 64, 128),
    }
