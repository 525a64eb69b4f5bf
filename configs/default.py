"""Every key with its default; the other files of this folder edit it.

Epochs count everything: warm-up, schedule, ramps, patience and validation.
"""

from __future__ import annotations

import ml_collections

from stndt_jax.config.schema import Hyper
from stndt_jax.errors import UserError


def get_config() -> ml_collections.ConfigDict:
    """A setting that trains on most recordings; the keys are explained in ``--help``."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.population = 1
    config.data = get_data()
    config.model = get_model()
    config.mask = get_mask()
    config.contrast = get_contrast()
    config.optimizer = get_optimizer()
    config.train = get_train()
    config.parallel = get_parallel()
    # For any hyperparameter, one value for each member of the population, or none.
    config.members = ml_collections.ConfigDict(dict.fromkeys(Hyper._fields, ()))
    return config


def is_paper(variant: str) -> bool:
    """Whether a configuration's variant is the published model, as in ``--config=mc_maze:paper``.

    Raises:
      UserError: there is no such variant.
    """
    if variant not in ("", "paper"):
        raise UserError(f"there is no variant {variant!r}; the only one is paper")
    return variant == "paper"


def get_data() -> ml_collections.ConfigDict:
    """The recording, and which trials select the best weights."""
    data = ml_collections.ConfigDict()
    data.path = ""
    data.targets = ""
    data.name = ""
    data.bin_ms = 0.0
    data.validation_fraction = 0.2
    return data


def get_model() -> ml_collections.ConfigDict:
    """The architecture and its dropout."""
    model = ml_collections.ConfigDict()
    model.network = "stndt"
    model.temporal_attention = "dot_product"
    model.spatial_attention = "dot_product"
    model.width = 0
    model.input = "counts"
    model.smooth = 0.0
    model.rate_start = "zero"
    model.layers = 4
    model.heads = 2
    model.feedforward = 128
    model.spatial = True
    model.norm = "pre"
    model.final_norm = "layer"
    model.activation = "relu"
    model.position = "sinusoidal"
    model.position_offset = True
    model.tfixup = True
    model.dtype = "float32"
    model.remat = False
    model.full_context = False
    model.context_forward = 30
    model.context_backward = 30
    model.dropout = 0.2
    model.dropout_rates = 0.3
    model.dropout_embedding = 0.3
    return model


def get_mask() -> ml_collections.ConfigDict:
    """Masked modelling."""
    mask = ml_collections.ConfigDict()
    mask.mode = "full"
    mask.token = "zero"
    mask.inference = "unmasked"
    mask.grow_full = False
    mask.ratio = 0.25
    mask.token_ratio = 0.75
    mask.random_ratio = 0.7
    mask.max_span = 1
    mask.ramp_start = 0.0
    mask.ramp_end = 0.0
    return mask


def get_contrast() -> ml_collections.ConfigDict:
    """The contrastive loss."""
    contrast = ml_collections.ConfigDict()
    contrast.enabled = True
    contrast.layer = "embedder"
    contrast.projector = "linear"
    contrast.temperature = 0.07
    contrast.weight = 0.1
    contrast.ratio = 0.1
    contrast.token_ratio = 0.75
    contrast.random_ratio = 0.7
    contrast.start_epoch = 0.0
    return contrast


def get_optimizer() -> ml_collections.ConfigDict:
    """AdamW and its schedule."""
    optimizer = ml_collections.ConfigDict()
    optimizer.schedule = "cosine"
    optimizer.clip_norm = 200.0
    optimizer.learning_rate = 3e-3
    optimizer.weight_decay = 1e-5
    optimizer.warmup_epochs = 100.0
    return optimizer


def get_train() -> ml_collections.ConfigDict:
    """How long, in which batches."""
    train = ml_collections.ConfigDict()
    train.epochs = 2000
    train.batch = 64
    train.validate_every = 10
    train.patience = 2000
    train.save_every_s = 60.0
    train.on_divergence = "freeze"
    train.restarts = 3
    train.rng = "threefry"
    return train


def get_parallel() -> ml_collections.ConfigDict:
    """On which devices."""
    parallel = ml_collections.ConfigDict()
    parallel.devices = 0
    parallel.data = 1
    parallel.engine = "mesh"
    return parallel


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
