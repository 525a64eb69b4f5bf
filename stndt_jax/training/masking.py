"""Masked modelling: the corruption of a batch of spike counts.

Only held-in, observed entries are ever masked; held-out neurons and forward bins are zero
in every input. All samples are functions of a key; all ratios may be traced.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stndt_jax.models import threefry
from stndt_jax.types import Array, Bool, Dims, Float, Int, UInt


class Corruption(NamedTuple):
    """Ratios of one corruption; scalars, or one entry for each view."""

    ratio: Array
    token_ratio: Array
    random_ratio: Array


def widening_probability(epoch: Array, ramp_start: Array, ramp_end: Array) -> Array:
    """Probability that a mask is widened: 0 before the ramp, 1 after it."""
    ramp = (epoch - ramp_start) / jnp.maximum(ramp_end - ramp_start, 1e-6)
    return jnp.clip(ramp, 0.0, 1.0)


def sample_width(key: Array, probability: Array, max_span: Array) -> Int[Array, ""]:
    """Width of this batch's masks in bins: 1, or with ``probability`` one of 1..max_span."""
    u_widen, u_width = jax.random.uniform(key, (2,))
    width = 1 + jnp.floor(u_width * max_span).astype(jnp.int32)
    return jnp.where(u_widen < probability, jnp.minimum(width, max_span), 1)


def grow(mask: Bool[Array, "B T n"], width: Int[Array, ""]) -> Bool[Array, "B T n"]:
    """Widens every masked bin to ``width`` contiguous bins, centred, cut at the trial's ends.

    Bin t is masked if any bin of ``[t - (width - 1) // 2, t + width // 2]`` was; written with
    a running sum so that ``width`` may be traced.
    """
    T = mask.shape[1]
    before_BTn = jnp.pad(jnp.cumsum(mask, axis=1, dtype=jnp.int32), ((0, 0), (1, 0), (0, 0)))
    bin_T = jnp.arange(T)
    first_T = jnp.clip(bin_T - (width - 1) // 2, 0, T)
    last_T = jnp.clip(bin_T + width // 2 + 1, 0, T)
    return before_BTn[:, last_T] > before_BTn[:, first_T]


def corrupt(
    key: Array,
    x_BTN: Int[Array, "B T N"] | UInt[Array, "B T N"],
    how: Corruption,
    *,
    widen: Array,
    max_span: Array,
    mode: str,
    grow_full: bool,
    dims: Dims,
) -> tuple[Float[Array, "B T N"], Bool[Array, "B T N"]]:
    """Corrupts the held-in, observed counts of a batch.

    Args:
      key: PRNG key of this corruption.
      x_BTN: true counts.
      how: ratios. Of the masked entries a fraction ``token_ratio`` becomes 0; of the others a
        fraction ``random_ratio`` becomes an integer uniform in ``[0, max count)``; the rest
        stays as it was.
      widen: probability that this mask is widened to 1..max_span bins.
      max_span: widest mask in bins.
      mode: ``full``, ``timestep``, ``neuron`` or ``timestep_only``.
      grow_full: widen in mode ``full`` too. The ratio is divided by the width in every mode.
      dims: sizes of a trial.

    Returns:
      The corrupted input, float32, zero at held-out neurons and forward bins, and the mask,
      true where an entry was masked.
    """
    B = x_BTN.shape[0]
    T, N = dims.bins_observed, dims.heldin
    counts_BTN = x_BTN[:, :T, :N].astype(jnp.float32)
    key_width, key_mask, key_fate = jax.random.split(key, 3)
    width = sample_width(key_width, widen, max_span)
    ratio = how.ratio / width

    shape = {
        "full": (B, T, N),
        "timestep": (B, T, 1),
        "neuron": (B, 1, N),
        "timestep_only": (1, T, 1),
    }[mode]
    u_mask = threefry.uniform(key_mask, shape)
    mask = u_mask < ratio
    if mode == "full" and not grow_full:
        # A uniform number below r, divided by r, is uniform again: one sample decides both
        # whether an entry is masked and what it becomes.
        u_fate = u_mask / jnp.maximum(ratio, 1e-12)
    else:
        u_fate = threefry.uniform(key_fate, (B, T, N))
    if mode in ("timestep", "timestep_only") or (mode == "full" and grow_full):
        mask = grow(mask, width)
    mask_BTN = jnp.broadcast_to(mask, (B, T, N))

    # Fates along the unit interval: [0, token) zero, then random_ratio of what is left.
    scrambled = how.token_ratio + (1.0 - how.token_ratio) * how.random_ratio
    span = jnp.maximum(scrambled - how.token_ratio, 1e-12)
    top = jnp.max(counts_BTN, initial=0.0)
    u_count = (u_fate - how.token_ratio) / span
    count_BTN = jnp.clip(jnp.floor(u_count * top), 0.0, jnp.maximum(top - 1.0, 0.0))
    changed_BTN = jnp.where(
        u_fate < how.token_ratio, 0.0, jnp.where(u_fate < scrambled, count_BTN, counts_BTN)
    )
    corrupted_BTN = jnp.where(mask_BTN, changed_BTN, counts_BTN)
    return pad(corrupted_BTN, dims), pad(mask_BTN, dims)


def pad(x_BTN: Array, dims: Dims) -> Array:
    """Appends zeros for the forward bins and the held-out neurons."""
    return jnp.pad(x_BTN, ((0, 0), (0, dims.bins_forward), (0, dims.heldout)))


def clean(x_BTN: Int[Array, "B T N"] | UInt[Array, "B T N"], dims: Dims) -> Float[Array, "B T N"]:
    """The uncorrupted input: held-in, observed counts, zero elsewhere."""
    return pad(x_BTN[:, : dims.bins_observed, : dims.heldin].astype(jnp.float32), dims)


def predicted(dims: Dims) -> Bool[Array, "T N"]:
    """True where an entry is never an input: held-out neurons and forward bins."""
    observed_TN = jnp.ones((1, dims.bins_observed, dims.heldin), bool)
    return ~pad(observed_TN, dims)[0]
