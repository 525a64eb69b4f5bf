"""Area2_Bump (DANDI 000127). ``:paper`` has one head, as 65 is odd, and more dropout.

stndt train --config=area2_bump --config.data.path=area2_bump.h5 --workdir=runs/area2_bump

Published, test split: co-bps .2818 for one model, .2898 for the ensemble.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import auto, default, factors, mc_maze


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The strong setting by the rules of ``auto``, or, as variant ``paper``, the published one."""
    if default.is_paper(variant):
        config = _paper()
    else:
        # Its sizes in the validation phase.
        config = auto.sized(trials=272, bins=160, neurons=49)
    config.data.name = "area2_bump"
    return config


def _paper() -> ml_collections.ConfigDict:
    """Published schedule: at most 40,001 epochs, patience 2,500, masks of one bin."""
    config = mc_maze.get_config("paper")
    config.model.heads = 1
    config.model.dropout = 0.3
    config.model.dropout_rates = 0.3
    config.model.dropout_embedding = 0.3
    config.mask.ratio = 0.35
    config.mask.random_ratio = 0.95
    config.mask.max_span = 1
    config.train.epochs = 40001
    config.train.patience = 2500
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """Ranges around the strong setting, or, of the variant ``paper``, the published ones."""
    if not default.is_paper(variant):
        return factors.get_search_space()
    space = mc_maze.get_search_space("paper")
    # Published masks are one bin wide.
    del space["mask_max_span"]
    return {
        **space,
        "dropout": ("uniform", 0.0, 0.6),
        "dropout_rates": ("uniform", 0.0, 0.6),
        "dropout_embedding": ("uniform", 0.0, 0.6),
        "context_forward": ("int", 4, 100),
        "context_backward": ("int", 4, 100),
        "mask_ratio": ("uniform", 0.1, 0.6),
        "mask_random_ratio": ("uniform", 0.9, 1.0),
    }
