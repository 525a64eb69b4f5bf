"""How many members a population should have: what the devices hold, what a search learns from."""

from __future__ import annotations

import jax

from stndt_jax.config import Config
from stndt_jax.types import Dims

# A search learns between populations only, so there should be some.
ROUNDS = 8
MOST_ON_CPU, MOST_ON_DEVICE = 8, 16
_SHARE = 0.6  # of a device's memory; the rest is the compiler's


def member_bytes(config: Config, dims: Dims) -> int:
    """Memory that one more member takes while it trains: what is kept for the backward pass.

    An estimate, some tens of percent off: every array of every layer once, in float32, and the
    weights with their moments, gradients and two selected copies.
    """
    B, T, N = config.train.batch, dims.bins, dims.neurons
    F, H, L = config.model.feedforward, config.model.heads, config.model.layers
    tokens = 16 * T * N + 4 * T * F
    attention = 3 * H * T * T
    if config.model.spatial:
        tokens += 8 * T * N + 4 * T * F
        attention += 3 * H * N * N + 4 * N * T
    views = 6 * T * N if config.contrast.enabled else 0
    weights = L * (4 * N * N + 2 * T * T + 4 * N * F) + 3 * N * N + T * T
    return 4 * (B * (L * (tokens + attention) + views + 8 * T * N) + 6 * weights)


def population(config: Config, dims: Dims, trials: int) -> int:
    """Members of a population for a search of so many trials on the devices that are here.

    On CPUs members train one after the other, so many at once save nothing but compiling.
    """
    device = jax.devices()[0]
    rounds = max(1, -(-trials // ROUNDS))
    if device.platform == "cpu":
        return min(MOST_ON_CPU, rounds)
    memory = (device.memory_stats() or {}).get("bytes_limit")
    fit = MOST_ON_DEVICE
    if memory:
        fit = max(1, min(fit, int(_SHARE * memory) // member_bytes(config, dims)))
    count = jax.device_count()
    return min(fit * count, -(-rounds // count) * count)
