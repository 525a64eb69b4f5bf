"""MC_Maze (DANDI 000128). ``:paper`` is 4 layers, the middle of the published search ranges.

stndt train --config=mc_maze --config.data.path=mc_maze.h5 --workdir=runs/mc_maze

Published, test split: co-bps .3691 for one model, .3862 for the ensemble.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import auto, default, factors


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The strong setting by the rules of ``auto``, or, as variant ``paper``, the published one."""
    if default.is_paper(variant):
        config = _paper()
    else:
        # Its sizes in the validation phase.
        config = auto.sized(trials=1721, bins=180, neurons=137)
    config.data.name = "mc_maze"
    return config


def _paper() -> ml_collections.ConfigDict:
    """Published schedule: at most 50,501 epochs, patience 3,000."""
    config = default.get_config()
    config.model.context_forward = 50
    config.model.context_backward = 50
    config.model.dropout = 0.2
    config.model.dropout_rates = 0.2
    config.model.dropout_embedding = 0.3
    config.mask.max_span = 4
    config.mask.ramp_start = 8000.0
    config.mask.ramp_end = 12000.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_epochs = 3500.0
    config.train.epochs = 50501
    config.train.validate_every = 50
    config.train.patience = 3000
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """Ranges around the strong setting, or, of the variant ``paper``, the published ones."""
    if not default.is_paper(variant):
        return factors.get_search_space()
    return {
        "learning_rate": ("log", 1e-5, 1e-2),
        "weight_decay": ("log", 1e-8, 1e-3),
        "warmup_epochs": ("uniform", 0.0, 7000.0),
        "dropout": ("uniform", 0.0, 0.4),
        "dropout_rates": ("uniform", 0.0, 0.4),
        "dropout_embedding": ("uniform", 0.0, 0.6),
        "context_forward": ("int", 1, 100),
        "context_backward": ("int", 1, 100),
        "mask_ratio": ("uniform", 0.1, 0.4),
        "mask_token_ratio": ("log", 0.5, 1.0),
        "mask_random_ratio": ("uniform", 0.3, 1.0),
        "mask_max_span": ("int", 1, 7),
        "contrast_ratio": ("uniform", 0.05, 0.2),
        "contrast_token_ratio": ("uniform", 0.5, 1.0),
        "contrast_random_ratio": ("uniform", 0.3, 1.0),
        "contrast_weight": ("uniform", 0.01, 1.0),
    }
