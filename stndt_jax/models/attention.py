"""Attention over time and attention over neurons; everything about attention is here.

Over time, every bin is a token of D features (in the paper D = N, one a neuron), and H heads
attend within a context window::

    q, k, v = x W + b          each (B, T, D), split into H heads of d = D / H features
    a       = softmax(q k^T / sqrt(d))      (B, H, T, T), -inf outside the window
    y       = concat_h(drop(a) v) W_o + b_o

Over neurons (or factors), each is a token of T features. There are queries and keys only: the
values are the temporal stream itself, which the layer multiplies with the weights::

    A       = mean_h softmax(q k^T / sqrt(T / H))                               (B, D, D)

Source: T. Le and E. Shlizerman, NeurIPS 2022, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import flax.linen as nn
import jax.numpy as jnp

from stndt_jax.config.schema import ModelConfig
from stndt_jax.models import fused_ops
from stndt_jax.models.dropout import drop
from stndt_jax.models.layers import ForwardHyper, Linear
from stndt_jax.models.registry import register
from stndt_jax.types import Array, Bool, Dims, Float, Int


def context_mask(
    bins: int, forward: Int[Array, ""] | int, backward: Int[Array, ""] | int
) -> Bool[Array, "T T"]:
    """True where bin t (row) attends to bin t' (column): ``t - backward <= t' <= t + forward``.

    A negative ``forward``, or a ``backward`` of 0 or less, is unlimited.
    """
    lag = jnp.arange(bins)[None, :] - jnp.arange(bins)[:, None]
    ahead = jnp.asarray(forward)[..., None, None]
    back = jnp.asarray(backward)[..., None, None]
    return ((lag <= ahead) | (ahead < 0)) & ((-lag <= back) | (back <= 0))


def attendable(recorded_BTN: Bool[Array, "B T N"], dims: Dims) -> Bool[Array, "B T"]:
    """Bins to attend to: forward ones, and observed ones with a recorded held-in neuron."""
    forward_T = jnp.arange(dims.bins) >= dims.bins_observed
    return jnp.any(recorded_BTN[..., : dims.heldin], axis=-1) | forward_T[None]


def temporal_mask(
    dims: Dims, hyper: ForwardHyper, attendable_BT: Bool[Array, "B T"] | None
) -> Bool[Array, "b T T"]:
    """Where a bin (row) may attend to a bin (column) of the same trial; b is 1 without gaps.

    A bin that was not recorded attends to itself, because a softmax over nothing is NaN.
    """
    mask_TT = context_mask(dims.bins, hyper.context_forward, hyper.context_backward)
    if attendable_BT is None:
        return mask_TT[None]
    return mask_TT[None] & (attendable_BT[:, None, :] | jnp.eye(dims.bins, dtype=bool)[None])


def heads_of(fused: Array, parts: int, heads: int) -> Iterator[list[Array]]:
    """The parts (queries, keys, ...) of one head after another, from one fused projection.

    They are slices of the last axis, because moving a head axis to the front costs a CPU more
    than the attention itself. Split in one operation, whose gradient is one concatenation.
    """
    pieces = jnp.split(fused, parts * heads, axis=-1)
    return (pieces[h::heads] for h in range(heads))


def attention_weights(q: Array, k: Array, mask: Array | None = None) -> Array:
    """``softmax(q k^T / sqrt(d))`` over keys, in float32, zero where ``mask`` is false."""
    scores = jnp.matmul(q, k.swapaxes(-1, -2)).astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return fused_ops.softmax(scores, 1.0 / math.sqrt(q.shape[-1]))


@register("temporal_attention", "dot_product")
class TemporalAttention(nn.Module):
    """Multi-head self-attention of the bins.

    A class registered in its place has the same attributes, arguments and results.
    """

    config: ModelConfig
    dims: Dims

    @nn.compact
    def __call__(
        self, x_BTD: Float[Array, "B T D"], mask_bTT: Bool[Array, "b T T"], hyper: ForwardHyper
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T T"]]:
        """Attends within each trial.

        Args:
          x_BTD: one token a bin.
          mask_bTT: true where a bin (row) may attend to another (column).
          hyper: has the dropout rate of the weights and the shard of the batch.

        Returns:
          The update of ``x_BTD``, and the weights averaged over heads, for interpretation.
        """
        D, H, dtype = x_BTD.shape[-1], self.config.heads, jnp.dtype(self.config.dtype)
        xavier = math.sqrt(6.0 / (4 * D))
        qkv = Linear(D, 3 * D, dtype, xavier, 0.0, name="qkv")(x_BTD)
        outputs, mean_BTT = [], jnp.float32(0.0)
        for h, (q_BTd, k_BTd, v_BTd) in enumerate(heads_of(qkv, 3, H)):
            a_BTT = attention_weights(q_BTd, k_BTd, mask_bTT)
            mean_BTT = mean_BTT + a_BTT / H
            sample = hyper.sample(self.name, h)
            weights = drop(self, a_BTT.astype(dtype), hyper.dropout, hyper.shard, sample)
            outputs.append(jnp.matmul(weights, v_BTd))
        y_BTD = jnp.concatenate(outputs, axis=-1)
        scale = tfixup(self.config)
        return Linear(D, D, dtype, None, 0.0, scale, name="out")(y_BTD), mean_BTT


def tfixup(config: ModelConfig) -> float:
    """Scale of the initial weights of the temporal sublayers, ``0.67 L^(-1/4)``.

    Source: X. Huang et al., Improving transformer optimization through better initialization,
    ICML 2020.
    """
    return 0.67 * config.layers**-0.25 if config.tfixup else 1.0


@register("spatial_attention", "dot_product")
class SpatialAttention(nn.Module):
    """Attention of the neurons, or factors, to one another; no values, the layer has them.

    A class registered in its place has the same attributes, arguments and results.
    """

    config: ModelConfig
    dims: Dims

    @nn.compact
    def __call__(self, s_BDT: Float[Array, "B D T"]) -> Float[Array, "B D D"]:
        """Weights, averaged over heads: row d says what neuron d takes from each other."""
        T, H, dtype = s_BDT.shape[-1], self.config.heads, jnp.dtype(self.config.dtype)
        xavier = math.sqrt(6.0 / (4 * T))
        qk = Linear(T, 2 * T, dtype, xavier, 0.0, name="qk")(s_BDT)
        mean_BDD = jnp.float32(0.0)
        for q_BDd, k_BDd in heads_of(qk, 2, H):
            mean_BDD = mean_BDD + attention_weights(q_BDd, k_BDd) / H
        return mean_BDD
