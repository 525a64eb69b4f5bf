"""Random models under the published names, for any options: cases that no fixture covers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helpers.oracle import Array, Options, sinusoid


def make_options(**changes: Any) -> dict[str, Any]:
    """The published options the oracle reads, a small model by default."""
    options = {
        "CONTEXT_FORWARD": 2,
        "CONTEXT_BACKWARD": 3,
        "FULL_CONTEXT": False,
        "HIDDEN_SIZE": 6,
        "NUM_HEADS": 2,
        "NUM_LAYERS": 2,
        "ACTIVATION": "relu",
        "LEARNABLE_POSITION": False,
        "POSITION_OFFSET": False,
        "PRE_NORM": True,
        "SCALE_NORM": False,
        "TEMPERATURE": 0.07,
        "LAMBDA": 0.1,
        "USE_CONTRAST_PROJECTOR": False,
        "LINEAR_PROJECTOR": False,
        "CONTRAST_LAYER": "embedder",
    }
    unknown = sorted(set(changes) - set(options))
    if unknown:
        raise ValueError(f"no options {unknown} in the oracle")
    return options | changes


def random_state(
    rng: np.random.Generator, options: Options, bins: int, neurons: int, projector: int = 1024
) -> dict[str, Array]:
    """Random weights for ``options`` under the published names, float64, nothing trivial.

    ``projector`` is the hidden width of the contrastive MLP.
    """
    hidden = options["HIDDEN_SIZE"]
    state: dict[str, Array] = {}

    def add_linear(name: str, fan_in: int, fan_out: int, dot: str = ".") -> None:
        state[f"{name}{dot}weight"] = rng.normal(size=(fan_out, fan_in)) / math.sqrt(fan_in)
        state[f"{name}{dot}bias"] = 0.1 * rng.normal(size=fan_out)

    def add_norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = 1.0 + 0.2 * rng.normal(size=width)
        state[f"{name}.bias"] = 0.2 * rng.normal(size=width)

    views = {"": (bins, neurons), "spatial_": (neurons, bins)}
    for view, (length, width) in views.items():
        add_linear(f"{view}embedder.0", width, width)
        position = f"{view or 'src_'}pos_encoder"
        offset = 1 if options["POSITION_OFFSET"] else 0
        if options["LEARNABLE_POSITION"]:
            state[f"{position}.pos_embedding.weight"] = rng.normal(size=(length, width))
            state[f"{position}.pe"] = np.arange(length)[:, None]
        else:
            state[f"{position}.pe"] = sinusoid(length, width, offset)[:, None, :]
        if options["USE_CONTRAST_PROJECTOR"] and options["LINEAR_PROJECTOR"]:
            add_linear(f"{view}projector", width, width)
        elif options["USE_CONTRAST_PROJECTOR"]:
            add_linear(f"{view}projector.0", width, projector)
            add_linear(f"{view}projector.2", projector, width)
    for index in range(options["NUM_LAYERS"]):
        layer = f"transformer_encoder.layers.{index}"
        for view, (_, width) in views.items():
            add_linear(f"{layer}.{view}self_attn.in_proj", width, 3 * width, dot="_")
            add_linear(f"{layer}.{view}self_attn.out_proj", width, width)
        add_norm(f"{layer}.spatial_norm1", bins)
        for half in ("", "ts_"):
            add_linear(f"{layer}.{half}linear1", neurons, hidden)
            add_linear(f"{layer}.{half}linear2", hidden, neurons)
            add_norm(f"{layer}.{half}norm1", neurons)
            add_norm(f"{layer}.{half}norm2", neurons)
    if options["SCALE_NORM"]:
        state["transformer_encoder.norm.scale"] = np.array(1.1 * math.sqrt(neurons))
    else:
        add_norm("transformer_encoder.norm", neurons)
    add_linear("src_decoder.0", neurons, neurons)
    return state


# --- the pieces -------------------------------------------------------------------------
