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
    return config
