"""MC_Maze_Large (DANDI 000138), and small recordings in general: factors, small batches.

stndt train --config=mc_maze_large --config.data.path=large.h5 --workdir=runs/large

``--config=mc_maze_large:paper`` is the paper's model, for which there is no published setting of
this data set. Its training begins with a flat stretch that is left after so many steps, whatever
their size: batches of 8 trials leave it soonest, with strong weight decay sooner still. It also
spares much dropout of the inputs, which prolongs that stretch.
"""

from __future__ import annotations

import ml_collections
from stndt_jax.configs import default, factors


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The strong setting for a hundred trials, or, as variant ``paper``, the paper's model."""
    if default.is_paper(variant):
        config = _paper()
    else:
        config = factors.get_config()
        config.model.smooth = 6.0  # 30 ms
    config.data.name = "mc_maze_large"
    return config


def _paper() -> ml_collections.ConfigDict:
    """A short schedule at a high learning rate, in small batches, with strong weight decay."""
    config = default.get_config()
    config.model.layers = 1
    config.model.dropout = 0.1
    config.model.dropout_rates = 0.4
    config.model.dropout_embedding = 0.1
    config.mask.ratio = 0.35
    config.optimizer.learning_rate = 1.5e-2
    config.optimizer.weight_decay = 0.03
    config.optimizer.warmup_epochs = 16.0
    config.train.epochs = 240
    config.train.batch = 8
    return config


def get_search_space(variant: str = "") -> dict[str, tuple]:
    """Ranges around the strong setting, or around that of the variant ``paper``."""
    if default.is_paper(variant):
        # Narrow, so that a dozen trials are worth having. With little weight decay a small
        # recording is overfitted, or learned late at rates near 2e-2; with .1 and more all models
        # end at much the same rates, and their mean gains little.
        return {
            "learning_rate": ("log", 1.2e-2, 1.8e-2),
            "weight_decay": ("log", 0.015, 0.06),
            "warmup_epochs": ("uniform", 12.0, 20.0),
            "dropout": ("uniform", 0.05, 0.2),
            "dropout_rates": ("uniform", 0.35, 0.45),
            "dropout_embedding": ("uniform", 0.05, 0.2),
            "context_forward": ("int", 15, 40),
            "context_backward": ("int", 15, 40),
            "mask_ratio": ("uniform", 0.25, 0.45),
            "contrast_weight": ("log", 0.05, 0.2),
        }
    return {
        "learning_rate": ("log", 1e-3, 4e-3),
        "weight_decay": ("log", 0.02, 0.5),
        "dropout": ("uniform", 0.05, 0.25),
        "dropout_rates": ("uniform", 0.0, 0.2),
        "dropout_embedding": ("uniform", 0.2, 0.5),
        "context_forward": ("int", 15, 40),
        "context_backward": ("int", 15, 40),
        "mask_ratio": ("uniform", 0.4, 0.7),
        "model.width": ("choice", 24, 32, 48),
    }
