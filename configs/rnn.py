"""The chaotic network of the LFADS and NDT papers, simulated.

stndt synth rnn --out=rnn.h5
stndt train --config=rnn --config.data.path=rnn.h5 \
    --config.data.targets=rnn_target.h5 --workdir=runs/rnn
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import reach


def get_config() -> ml_collections.ConfigDict:
    """The setting of reach for one model."""
    config = reach.get_config()
    config.population = 1
    config.data.name = "rnn"
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return reach.get_search_space()
