"""DMFC_RSG (DANDI 000130). ``:paper`` has 6 layers, a wide context, heavy dropout.

stndt train --config=dmfc_rsg --config.data.path=dmfc_rsg.h5 --workdir=runs/dmfc_rsg

Published, test split: co-bps .1859 for one model, .1940 for the ensemble.
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
        config = auto.sized(trials=748, bins=340, neurons=40)
    config.data.name = "dmfc_rsg"
    return config


def _paper() -> ml_collections.ConfigDict:
    """Published schedule: at most 50,501 epochs, patience 4,000."""
    config = mc_maze.get_config("paper")
    config.model.layers = 6
    config.model.context_forward = 140
    config.model.context_backward = 140
    config.model.dropout = 0.5
    config.model.dropout_rates = 0.5
    config.model.dropout_embedding = 0.5
    config.mask.random_ratio = 0.95
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_epochs = 1000.0
    config.train.patience = 4000
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """Ranges around the strong setting, or, of the variant ``paper``, the published ones."""
    if not default.is_paper(variant):
        return factors.get_search_space()
    return {
        **mc_maze.get_search_space("paper"),
        "learning_rate": ("log", 1e-5, 5e-3),
        "warmup_epochs": ("uniform", 0.0, 2000.0),
        "dropout": ("uniform", 0.3, 0.7),
        "dropout_rates": ("uniform", 0.3, 0.7),
        "dropout_embedding": ("uniform", 0.3, 0.7),
        "context_forward": ("int", 40, 240),
        "context_backward": ("int", 40, 240),
        "mask_random_ratio": ("uniform", 0.9, 1.0),
    }
