"""Sizes and architectures of the named data sets, and the operations that a step needs.

They stand here, and not in ``configs/``, so that a benchmark runs where there is no ml_collections.
"""

from __future__ import annotations

from typing import Any

import machine  # noqa: F401  (first: it finds the package)

from stndt_jax.config import schema as configs
from stndt_jax.types import Dims

# bins observed, bins forward, neurons held-in, neurons held-out; layers, heads, width, batch
SIZES = {
    "mc_maze": ((140, 40, 137, 45), (4, 2, 128, 64)),
    "mc_rtt": ((120, 40, 98, 32), (4, 2, 128, 64)),
    "area2_bump": ((120, 40, 49, 16), (4, 1, 128, 64)),
    "mc_maze_large": ((140, 40, 122, 40), (1, 2, 128, 8)),
    "reach": ((50, 10, 32, 16), (2, 2, 64, 25)),
    "tiny": ((6, 2, 4, 2), (1, 2, 8, 4)),
}


def setting(name: str, population: int, dtype: str) -> tuple[configs.Config, Dims]:
    """A configuration of the named size: contrast on, dropout .1 to .2."""
    sizes, (layers, heads, width, batch) = SIZES[name]
    values: dict[str, Any] = {
        "seed": 0,
        "population": population,
        "members": {},
        "data": {
            "path": "", "targets": "", "name": name, "bin_ms": 5.0, "validation_fraction": 0.0,
        },
        "model": {
            "layers": layers, "heads": heads, "feedforward": width, "spatial": True,
            "norm": "pre", "final_norm": "layer", "activation": "relu",
            "position": "sinusoidal", "position_offset": True, "tfixup": True, "dtype": dtype,
            "remat": False,
            "full_context": False, "context_forward": 30, "context_backward": 30,
            "dropout": 0.1, "dropout_rates": 0.2, "dropout_embedding": 0.2,
        },
        "mask": {
            "mode": "full", "grow_full": False, "ratio": 0.25, "token_ratio": 0.75,
            "random_ratio": 0.7, "max_span": 1, "ramp_start": 0.0, "ramp_end": 0.0,
        },
        "contrast": {
            "enabled": True, "layer": "embedder", "projector": "none", "temperature": 0.07,
            "weight": 0.1, "ratio": 0.1, "token_ratio": 0.75, "random_ratio": 0.7,
            "start_epoch": 0.0,
        },
        "optimizer": {
            "schedule": "cosine", "clip_norm": 200.0, "learning_rate": 1e-3,
            "weight_decay": 1e-5, "warmup_epochs": 10.0,
        },
        "train": {
            "epochs": 100, "batch": batch, "validate_every": 1, "patience": 100,
            "save_every_s": 60.0, "on_divergence": "freeze", "restarts": 0, "rng": "threefry",
        },
        "parallel": {"devices": 0, "data": 1, "engine": "mesh"},
    }  # fmt: skip
    return configs.from_mapping(values), Dims(*sizes)


def needed_gflop(config: configs.Config, dims: Dims, batch: int) -> float:
    """Operations of one member's step that no implementation can leave out, in 1e9.

    Matrix products of one forward and backward pass (twice the forward's) through the
    encoder and the embedders of the views, and the similarities of the views' features;
    multiply and add count as two.
    """
    B, T, N = batch, dims.bins, dims.neurons
    F, L = config.model.feedforward, config.model.layers
    temporal = 4 * T * N * N + 2 * T * T * N
    spatial = 2 * N * T * T + N * N * T + T * N * N
    layer = temporal + spatial + 4 * T * N * F
    embed = T * N * N + N * T * T
    views = 2 * embed if config.contrast.enabled else 0
    forward = 2 * B * (L * layer + embed + views + T * N * N)
    # The inputs need no gradient, so the embedders' backward pass is one product, not two.
    encoders = 3 * forward - 2 * B * (embed + views)
    # Two kinds of features; a symmetric matrix of similarities, so one product on the way back.
    similarities = 2 * 2 * 2 * (2 * B) ** 2 * T * N if config.contrast.enabled else 0
    return (encoders + similarities) / 1e9
