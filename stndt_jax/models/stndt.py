"""The spatio-temporal transformer over one population's spike counts.

Two views of a trial enter: temporal tokens, one a bin with N features, and spatial tokens,
one a neuron with T features::

    temporal  E = sqrt(N) (x   W_e + b_e) + P_T        (B, T, N)
    spatial   S = sqrt(T) (x^T W_s + b_s) + P_N        (B, N, T)

Every layer (pre-norm) then does, on ``x`` of shape (B, T, N)::

    1  x += drop( MHA_T( LN1(x) ) )                  attention over time
    2  x += drop( W2 drop(act(W1 LN2(x))) )
    3  A  = mean over heads of softmax( Q K^T / sqrt(T / H) ),  Q, K from LN_S(spatial tokens)
       x += drop( (A LN3(x)^T)^T )                   attention over neurons
    4  x += drop( W4 drop(act(W3 LN4(x))) )

with S as the spatial tokens of the first layer and the transpose of the layer's own input
in all others. A norm, dropout and a linear map end in the log-rates. NDT is the same model
without steps 3 and 4.

Source: T. Le and E. Shlizerman, NeurIPS 2022; NDT: J. Ye and C. Pandarinath, NBDT 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.config.schema import ContrastConfig, ModelConfig
from stndt_jax.models import fused_ops, threefry
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard
from stndt_jax.types import Array, Bool, Dims, Float, Int


class ForwardHyper(NamedTuple):
    """What may differ between members of a population, or devices, while the model runs."""

    context_forward: Array | int
    context_backward: Array | int
    dropout: Array | float
    dropout_rates: Array | float
    dropout_embedding: Array | float
    shard: BatchShard = WHOLE_BATCH


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


def dropout(key: Array, x: Array, rate: Array | float, shard: BatchShard = WHOLE_BATCH) -> Array:
    """Zeroes some of the elements and scales up the others to keep the mean.

    The rate may be traced. It is rounded to 1/256, so that a mask takes 8 random bits an
    element; they are drawn as 32-bit words, which costs a quarter as much as drawing bytes.
    A device with a share of the trials draws for all and keeps its own, lest the draw depend on
    the devices.
    """
    elements = x.size * shard.parts
    words = threefry.bits(key, math.ceil(elements / 4))
    bytes_ = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:elements]
    bytes_ = shard.own_draws(bytes_)
    dropped = jnp.minimum(jnp.round(jnp.asarray(rate, jnp.float32) * 256.0), 255.0)
    keep = bytes_.reshape(x.shape) >= dropped.astype(jnp.uint8)
    return jnp.where(keep, x * (256.0 / (256.0 - dropped)).astype(x.dtype), 0)


def _drop(module: nn.Module, x: Array, rate: Array | float, forward_hyper: ForwardHyper) -> Array:
    """Dropout with the module's own key, where it was given one."""
    if not module.has_rng("dropout"):
        return x
    return dropout(module.make_rng("dropout"), x, rate, forward_hyper.shard)


def sinusoid(length: int, width: int, offset: bool) -> Float[Array, "length width"]:
    """Sine in even columns, cosine in odd, of ``position * exp(-ln(10000) 2i / width)``."""
    position = jnp.arange(length, dtype=jnp.float32)[:, None] + float(offset)
    pair = jnp.arange(0, width, 2, dtype=jnp.float32)[None, :]
    angle = position * jnp.exp(-math.log(10000.0) * pair / width)
    both = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(length, -1)
    return both[:, :width]


def _uniform(bound: float) -> nn.initializers.Initializer:
    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """``x W + b``; ``bound`` and ``bias_bound`` limit the uniform draw of the weights."""

    inputs: int
    outputs: int
    dtype: Any = jnp.float32
    bound: float | None = None
    bias_bound: float | None = None
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        default = 1.0 / math.sqrt(self.inputs)
        bound = default if self.bound is None else self.bound
        bias_bound = default if self.bias_bound is None else self.bias_bound
        kernel = self.param("kernel", _uniform(bound * self.scale), (self.inputs, self.outputs))
        bias = self.param("bias", _uniform(bias_bound), (self.outputs,))
        # As one matrix, because the kernel's gradient of a stack of them is a sum over two axes,
        # for which XLA transposes the whole input first.
        rows = jnp.matmul(x.reshape(-1, self.inputs).astype(self.dtype), kernel.astype(self.dtype))
        rows = fused_ops.add_bias(rows, bias.astype(self.dtype))
        return rows.reshape(*x.shape[:-1], self.outputs)


class LayerNorm(nn.Module):
    """Layer norm over the last axis, in float32, epsilon 1e-5."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return fused_ops.layer_norm(x, scale, bias)


class ScaleNorm(nn.Module):
    """``g x / max(|x|, 1e-5)``, ``g`` starting at ``sqrt(width)``."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        g = self.param("scale", nn.initializers.constant(math.sqrt(self.width)), ())
        squares = jnp.sum(x * x, axis=-1, keepdims=True)
        return g * x / jnp.sqrt(jnp.maximum(squares, 1e-10))


def _heads(fused: Array, parts: int, heads: int) -> Iterator[list[Array]]:
    """The parts (queries, keys, ...) of one head after another.

    Pieces of the last axis, head by head, because moving a head axis to the front costs a CPU
    more than the attention itself. Split in one operation, whose gradient is one concatenation.
    """
    pieces = jnp.split(fused, parts * heads, axis=-1)
    return (pieces[h::heads] for h in range(heads))


def _attention(q: Array, k: Array, mask: Array | None = None) -> Array:
    """``softmax(q k^T / sqrt(d))`` in float32, rows only where ``mask`` is true."""
    scores = jnp.matmul(q, k.swapaxes(-1, -2)).astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return fused_ops.softmax(scores, 1.0 / math.sqrt(q.shape[-1]))


def _recorded(x_BTN: Array, attendable_BT: Array | None) -> Array:
    """Zero in bins that were not recorded."""
    return x_BTN if attendable_BT is None else jnp.where(attendable_BT[..., None], x_BTN, 0)


class TemporalAttention(nn.Module):
    """Self-attention of the bins; returns the update and the head-averaged weights."""

    dims: Dims
    heads: int
    dtype: Any
    scale: float

    @nn.compact
    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        mask_bTT: Bool[Array, "b T T"],
        forward_hyper: ForwardHyper,
    ) -> tuple[Float[Array, "B T N"], Float[Array, "B T T"]]:
        N, H = x_BTN.shape[-1], self.heads
        xavier = math.sqrt(6.0 / (4 * N))
        qkv = Linear(N, 3 * N, self.dtype, xavier, 0.0, name="qkv")(x_BTN)
        outputs, mean_BTT = [], jnp.float32(0.0)
        for q_BTd, k_BTd, v_BTd in _heads(qkv, 3, H):
            a_BTT = _attention(q_BTd, k_BTd, mask_bTT)
            mean_BTT = mean_BTT + a_BTT / H
            weights = a_BTT.astype(self.dtype)
            weights = _drop(self, weights, forward_hyper.dropout, forward_hyper)
            outputs.append(jnp.matmul(weights, v_BTd))
        y_BTN = jnp.concatenate(outputs, axis=-1)
        return Linear(N, N, self.dtype, None, 0.0, self.scale, name="out")(y_BTN), mean_BTT


class SpatialAttention(nn.Module):
    """Head-averaged attention of the neurons to one another; no values, the caller has them."""

    dims: Dims
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, s_BNT: Float[Array, "B N T"]) -> Float[Array, "B N N"]:
        T, H = s_BNT.shape[-1], self.heads
        xavier = math.sqrt(6.0 / (4 * T))
        qk = Linear(T, 2 * T, self.dtype, xavier, 0.0, name="qk")(s_BNT)
        mean_BNN = jnp.float32(0.0)
        for q_BNd, k_BNd in _heads(qk, 2, H):
            mean_BNN = mean_BNN + _attention(q_BNd, k_BNd) / H
        return mean_BNN


class FeedForward(nn.Module):
    """``W2 drop(act(W1 x))``."""

    config: ModelConfig
    width: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, forward_hyper: ForwardHyper) -> Array:
        F, dtype = self.config.feedforward, jnp.dtype(self.config.dtype)
        h = Linear(self.width, F, dtype, scale=self.scale, name="in")(x)
        h = jax.nn.relu(h) if self.config.activation == "relu" else jax.nn.gelu(h, False)
        h = _drop(self, h, forward_hyper.dropout, forward_hyper)
        return Linear(F, self.width, dtype, scale=self.scale, name="out")(h)


class Layer(nn.Module):
    """One encoder layer: attention over time, then over neurons, each with its feed-forward."""

    config: ModelConfig
    dims: Dims

    @nn.compact
    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        s_BNT: Float[Array, "B N T"],
        mask_bTT: Bool[Array, "b T T"],
        forward_hyper: ForwardHyper,
    ) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
        """Returns the layer's output and its attention maps."""
        config, N, T = self.config, self.dims.neurons, self.dims.bins
        dtype = jnp.dtype(config.dtype)
        pre = config.norm == "pre"
        fixup = 0.67 * config.layers**-0.25 if config.tfixup else 1.0

        def drop(y: Array) -> Array:
            return _drop(self, y.astype(jnp.float32), forward_hyper.dropout, forward_hyper)

        norm = {name: LayerNorm(N, name=name) for name in ("norm1", "norm2")}
        attend = TemporalAttention(self.dims, config.heads, dtype, fixup, name="temporal")
        forward = FeedForward(config, N, fixup, name="feedforward")

        h, temporal_BTT = attend(norm["norm1"](x_BTN) if pre else x_BTN, mask_bTT, forward_hyper)
        x_BTN = x_BTN + drop(h)
        x_BTN = x_BTN if pre else norm["norm1"](x_BTN)
        x_BTN = x_BTN + drop(forward(norm["norm2"](x_BTN) if pre else x_BTN, forward_hyper))
        x_BTN = x_BTN if pre else norm["norm2"](x_BTN)
        if not config.spatial:
            return x_BTN, {"temporal_attention": temporal_BTT}

        norm |= {name: LayerNorm(N, name=name) for name in ("norm3", "norm4")}
        tokens_BNT = LayerNorm(T, name="norm_spatial")(s_BNT) if pre else s_BNT
        a_BNN = SpatialAttention(self.dims, config.heads, dtype, name="spatial")(tokens_BNT)
        values_BTN = (norm["norm3"](x_BTN) if pre else x_BTN).astype(dtype)
        mixed_BTN = jnp.matmul(values_BTN, a_BNN.astype(dtype).swapaxes(-1, -2))
        x_BTN = x_BTN + drop(mixed_BTN)
        x_BTN = x_BTN if pre else norm["norm3"](x_BTN)
        forward = FeedForward(config, N, name="feedforward_spatial")
        x_BTN = x_BTN + drop(forward(norm["norm4"](x_BTN) if pre else x_BTN, forward_hyper))
        x_BTN = x_BTN if pre else norm["norm4"](x_BTN)
        return x_BTN, {"temporal_attention": temporal_BTT, "spatial_attention": a_BNN}


class Projector(nn.Module):
    """Map of contrastive features over their last axis: linear, or one hidden layer of 1024."""

    kind: str
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.kind == "linear":
            return Linear(self.width, self.width, name="out")(x)
        h = jax.nn.relu(Linear(self.width, 1024, name="in")(x))
        return Linear(1024, self.width, name="out")(h)


class STNDT(nn.Module):
    """The model; ``apply`` is pure and its parameters are a plain dictionary.

    Attributes:
      config: architecture.
      contrast: which features the contrastive loss compares.
      dims: sizes of one trial.
    """

    config: ModelConfig
    contrast: ContrastConfig
    dims: Dims

    def setup(self) -> None:
        config, T, N = self.config, self.dims.bins, self.dims.neurons
        dtype = jnp.dtype(config.dtype)
        self.embedder = Linear(N, N, dtype, bound=0.1)
        self.position = self._position(T, N, "position")
        if config.spatial:
            self.spatial_embedder = Linear(T, T, dtype)
            self.spatial_position = self._position(N, T, "spatial_position")
        # Rematerialised, a layer keeps its input alone for the way back, and is computed again.
        kind = nn.remat(Layer) if config.remat else Layer
        self.layers = [kind(config, self.dims) for _ in range(config.layers)]
        self.final_norm = LayerNorm(N) if config.final_norm == "layer" else ScaleNorm(N)
        self.decoder = Linear(N, N, dtype, bound=0.1, bias_bound=0.0)
        if self.contrast.enabled and self.contrast.projector != "none":
            self.projector = Projector(self.contrast.projector, N)
            if config.spatial and self.contrast.layer == "embedder":
                self.spatial_projector = Projector(self.contrast.projector, T)

    def _position(self, length: int, width: int, name: str) -> Array:
        if self.config.position == "learned":
            return self.param(name, nn.initializers.normal(1.0), (length, width))
        return sinusoid(length, width, self.config.position_offset)

    def embed(
        self, x_BTN: Float[Array, "B T N"]
    ) -> tuple[Float[Array, "B T N"], Float[Array, "B N T"] | None]:
        """Embeds both views, before position and dropout; no spatial view in NDT."""
        T, N = self.dims.bins, self.dims.neurons
        temporal = math.sqrt(N) * self.embedder(x_BTN).astype(jnp.float32)
        if not self.config.spatial:
            return temporal, None
        spatial = self.spatial_embedder(x_BTN.swapaxes(-1, -2)).astype(jnp.float32)
        return temporal, math.sqrt(T) * spatial

    def __call__(
        self,
        x_BTN: Float[Array, "B T N"],
        forward_hyper: ForwardHyper,
        attendable_BT: Bool[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
        """Log-rates of a batch of trials.

        Args:
          x_BTN: spike counts, zero at held-out neurons and forward bins.
          forward_hyper: context window and dropout rates, scalars that may be traced.
          attendable_BT: false in bins that were not recorded, where ``x_BTN`` must be zero: no
            other bin and no neuron attends to them. None where all were.

        Returns:
          ``(z, out)``: log expected counts per bin, and everything on the way to them:
          ``temporal_attention`` (L, B, T, T) and ``spatial_attention`` (L, B, N, N), averaged
          over heads, and ``layers`` (L, B, T, N), each layer's output. What nobody uses is
          not computed under jit. Dropout acts if ``apply`` is given a ``dropout`` key.
        """
        mask_TT = context_mask(
            self.dims.bins, forward_hyper.context_forward, forward_hyper.context_backward
        )
        mask_bTT = mask_TT[None]
        if attendable_BT is not None:
            # A bin that was not recorded attends to itself, lest it attend to nothing.
            mask_bTT = mask_bTT & (
                attendable_BT[:, None, :] | jnp.eye(self.dims.bins, dtype=bool)[None]
            )
        temporal_BTN, spatial_BNT = self.embed(x_BTN)
        x_BTN = _drop(
            self, temporal_BTN + self.position[None], forward_hyper.dropout_embedding, forward_hyper
        )
        if spatial_BNT is None:
            s_BNT = x_BTN.swapaxes(-1, -2)
        else:
            s_BNT = spatial_BNT + self.spatial_position[None]
            s_BNT = _drop(self, s_BNT, forward_hyper.dropout_embedding, forward_hyper)
        layers = []
        for layer in self.layers:
            x_BTN, maps = layer(x_BTN, s_BNT, mask_bTT, forward_hyper)
            s_BNT = _recorded(x_BTN, attendable_BT).swapaxes(-1, -2)
            layers.append(maps | {"layers": x_BTN})
        out = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
        hidden = _drop(self, self.final_norm(x_BTN), forward_hyper.dropout_rates, forward_hyper)
        return self.decoder(hidden).astype(jnp.float32), out

    def features(
        self,
        x_BTN: Float[Array, "B T N"],
        forward_hyper: ForwardHyper,
        attendable_BT: Bool[Array, "B T"] | None = None,
    ) -> list[Float[Array, "B features"]]:
        """What the contrastive loss compares, one flat row a trial; one loss for each item.

        ``embedder`` features need no encoder pass, and there are two: temporal and spatial.
        """
        layer = self.contrast.layer
        if layer == "embedder":
            temporal, spatial = self.embed(x_BTN)
            views = [temporal] if spatial is None else [temporal, spatial]
        else:
            z, out = self(x_BTN, forward_hyper, attendable_BT)
            views = [z if layer == "decoder" else out["layers"][int(layer)]]
        if self.contrast.projector != "none":
            views[0] = self.projector(views[0])
            if len(views) == 2:
                views[1] = self.spatial_projector(views[1])
        views[0] = _recorded(views[0], attendable_BT)
        return [view.reshape(view.shape[0], -1) for view in views]

    def everything(self, x_BTN: Float[Array, "B T N"], forward_hyper: ForwardHyper) -> Array:
        """Touches every parameter; only for initialisation."""
        z, _ = self(x_BTN, forward_hyper)
        return (
            z
            if not self.contrast.enabled
            else z + 0.0 * self.features(x_BTN, forward_hyper)[0].sum()
        )
