"""The Lorenz system of the LFADS and NDT papers, simulated.

stndt synth lorenz --out=lorenz.h5
stndt train --config=lorenz --config.data.path=lorenz.h5 \
    --config.data.targets=lorenz_target.h5 --workdir=runs/lorenz
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import reach


def get_config() -> ml_collections.ConfigDict:
    """The setting of reach for one model."""
    config = reach.get_config()
    config.population = 1
    config.data.name = "lorenz"
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return reach.get_search_space()
