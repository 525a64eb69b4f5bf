"""Sizes and architectures of the named data sets, and the operations that a step needs.

They stand here, and not in ``configs/``, so that a benchmark runs where there is no ml_collections.
"""

from __future__ import annotations

from typing import Any

import machine  # noqa: F401  (first: it finds the package)

from stndt_jax.config import schema as configs
from stndt_jax.types import Dims

# bins observed, bins forward, neurons held-in, neurons held-out; layers, heads, feed-forward width,
# batch, factors (0: the paper's model)
SIZES = {
    "mc_maze": ((140, 40, 137, 45), (4, 2, 128, 64, 0)),
    "mc_maze_factors": ((140, 40, 137, 45), (4, 2, 128, 64, 96)),
    "mc_maze_wide": ((140, 40, 137, 45), (4, 2, 128, 64, 192)),
    "mc_rtt": ((120, 40, 98, 32), (4, 2, 128, 64, 0)),
    "area2_bump": ((120, 40, 49, 16), (4, 1, 128, 64, 0)),
    "mc_maze_large": ((140, 40, 122, 40), (1, 2, 128, 8, 0)),
    "mc_maze_large_factors": ((140, 40, 122, 40), (2, 2, 128, 8, 32)),
    "reach": ((50, 10, 32, 16), (2, 2, 64, 25, 0)),
    "tiny": ((6, 2, 4, 2), (1, 2, 8, 4, 0)),
    "tiny_factors": ((6, 2, 4, 2), (1, 2, 8, 4, 10)),
}
PAPER = sorted(name for name, (_, (*_, factors)) in SIZES.items() if not factors)


def setting(name: str, population: int, dtype: str) -> tuple[configs.Config, Dims]:
    """A configuration of the named size: dropout .1 to .2; with contrast, or with factors."""
    sizes, (layers, heads, feedforward, batch, factors) = SIZES[name]
    values: dict[str, Any] = {
        "seed": 0,
        "population": population,
        "members": {},
        "data": {
            "path": "", "targets": "", "name": name, "bin_ms": 5.0, "validation_fraction": 0.0,
        },
        "model": {
            "width": factors, "input": "standardised" if factors else "counts",
            "smooth": 0.0, "rate_start": "mean" if factors else "zero",
            "layers": layers, "heads": heads, "feedforward": feedforward, "spatial": True,
            "norm": "pre", "final_norm": "layer", "activation": "relu",
            "position": "sinusoidal", "position_offset": True, "tfixup": True, "dtype": dtype,
            "remat": False,
            "full_context": False, "context_forward": 30, "context_backward": 30,
            "dropout": 0.1, "dropout_rates": 0.2, "dropout_embedding": 0.2,
        },
        "mask": {
            "token": "learned" if factors else "zero",
            "mode": "full", "grow_full": False, "ratio": 0.25, "token_ratio": 0.75,
            "random_ratio": 0.7, "max_span": 1, "ramp_start": 0.0, "ramp_end": 0.0,
        },
        "contrast": {
            "enabled": not factors, "layer": "embedder", "projector": "none", "temperature": 0.07,
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
    # Registered classes and whatever came later: as in the paper.
    return configs.from_mapping(configs.with_later(values)), Dims(*sizes)


def needed_gflop(config: configs.Config, dims: Dims, batch: int) -> float:
    """Operations of one member's step that no implementation can leave out, in 1e9.

    Matrix products of one forward and backward pass (twice the forward's) through the
    encoder and the embedders of the views, and the similarities of the views' features;
    multiply and add count as two.
    """
    B, T, N = batch, dims.bins, dims.neurons
    F, L, factors = config.model.feedforward, config.model.layers, config.model.width
    D = factors or N
    temporal = 4 * T * D * D + 2 * T * T * D
    spatial = 2 * D * T * T + D * D * T + T * D * D
    layer = temporal + spatial + 4 * T * D * F
    embed = T * N * D + D * T * T
    views = 2 * embed if config.contrast.enabled else 0
    forward = 2 * B * (L * layer + embed + views + T * D * N)
    # Counts need no gradient, so the embedders' backward pass is one product, not two; with
    # factors, one of the embedders has the other's result as its input, and the other the token.
    encoders = 3 * forward - (0 if factors else 2 * B * (embed + views))
    # Two kinds of features; a symmetric matrix of similarities, so one product on the way back.
    similarities = 2 * 2 * 2 * (2 * B) ** 2 * T * D if config.contrast.enabled else 0
    return (encoders + similarities) / 1e9
