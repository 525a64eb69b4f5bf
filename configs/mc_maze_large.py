"""MC_Maze_Large (DANDI 000138), and small recordings in general: 2 layers, short runs.

stndt train --config=mc_maze_large --config.data.path=large.h5 --workdir=runs/large

There is no published setting. A high learning rate and little dropout leave the flat start
of training soonest.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    """A short schedule at a high learning rate, in small batches."""
    config = default.get_config()
    config.data.name = "mc_maze_large"
    config.model.layers = 2
    config.model.dropout = 0.05
    config.model.dropout_rates = 0.1
    config.model.dropout_embedding = 0.05
    config.mask.token_ratio = 1.0
    config.optimizer.learning_rate = 2e-2
    config.optimizer.warmup_epochs = 10.0
    config.train.epochs = 200
    config.train.batch = 17
    return config
