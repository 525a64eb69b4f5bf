"""Every key with its default; the other files of this folder edit it.

Epochs count everything: warm-up, schedule, ramps, patience and validation.
"""

from __future__ import annotations

import ml_collections

from stndt_jax.config.schema import Hyper


def get_config() -> ml_collections.ConfigDict:
    """A setting that trains on most recordings; the keys are explained in ``--help``."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.population = 1

    config.data = ml_collections.ConfigDict()
    config.data.path = ""
    config.data.targets = ""
    config.data.name = ""
    config.data.bin_ms = 0.0
    config.data.validation_fraction = 0.2

    config.model = ml_collections.ConfigDict()
    config.model.layers = 4
    config.model.heads = 2
    config.model.feedforward = 128
    config.model.spatial = True
    config.model.norm = "pre"
    config.model.final_norm = "layer"
    config.model.activation = "relu"
    config.model.position = "sinusoidal"
    config.model.position_offset = True
    config.model.tfixup = True
    config.model.dtype = "float32"
    config.model.remat = False
    config.model.full_context = False
    config.model.context_forward = 30
    config.model.context_backward = 30
    config.model.dropout = 0.2
    config.model.dropout_rates = 0.3
    config.model.dropout_embedding = 0.3

    config.mask = ml_collections.ConfigDict()
    config.mask.mode = "full"
    config.mask.grow_full = False
    config.mask.ratio = 0.25
    config.mask.token_ratio = 0.75
    config.mask.random_ratio = 0.7
    config.mask.max_span = 1
    config.mask.ramp_start = 0.0
    config.mask.ramp_end = 0.0

    config.contrast = ml_collections.ConfigDict()
    config.contrast.enabled = True
    config.contrast.layer = "embedder"
    config.contrast.projector = "linear"
    config.contrast.temperature = 0.07
    config.contrast.weight = 0.1
    config.contrast.ratio = 0.1
    config.contrast.token_ratio = 0.75
    config.contrast.random_ratio = 0.7
    config.contrast.start_epoch = 0.0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.schedule = "cosine"
    config.optimizer.clip_norm = 200.0
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 1e-5
    config.optimizer.warmup_epochs = 100.0

    config.train = ml_collections.ConfigDict()
    config.train.epochs = 2000
    config.train.batch = 64
    config.train.validate_every = 10
    config.train.patience = 2000
    config.train.save_every_s = 60.0
    config.train.on_divergence = "freeze"
    config.train.restarts = 3
    config.train.rng = "threefry"

    config.parallel = ml_collections.ConfigDict()
    config.parallel.devices = 0
    config.parallel.data = 1
    config.parallel.engine = "mesh"

    # For any hyperparameter, one value for each member of the population, or none.
    config.members = ml_collections.ConfigDict(dict.fromkeys(Hyper._fields, ()))
    return config


def get_search_space() -> dict[str, tuple]:
    """What ``stndt search`` changes, and how far."""
    return {
        # Of every trial: name of a hyperparameter -> kind, lowest, highest.
        "learning_rate": ("log", 3e-4, 1e-2),
        "weight_decay": ("log", 1e-8, 1e-3),
        "dropout": ("uniform", 0.05, 0.6),
        "dropout_rates": ("uniform", 0.05, 0.6),
        "dropout_embedding": ("uniform", 0.05, 0.6),
        "context_forward": ("int", 1, 100),
        "context_backward": ("int", 1, 100),
        "mask_ratio": ("uniform", 0.1, 0.4),
        "mask_token_ratio": ("log", 0.5, 1.0),
        "mask_random_ratio": ("uniform", 0.3, 1.0),
        "contrast_ratio": ("uniform", 0.05, 0.2),
        "contrast_token_ratio": ("uniform", 0.5, 1.0),
        "contrast_random_ratio": ("uniform", 0.3, 1.0),
        "contrast_weight": ("log", 0.01, 1.0),
        # Of all trials that train together: key -> choice, values.
        "model.layers": ("choice", 2, 4),
        "model.heads": ("choice", 1, 2),
    }
