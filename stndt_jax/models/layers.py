"""The parts that layers are made of: linear maps, norms, positions, feed-forward."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from stndt_jax.config.schema import ModelConfig
from stndt_jax.models import fused_ops
from stndt_jax.models.dropout import drop
from stndt_jax.models.initial_weights import uniform
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard
from stndt_jax.types import Array, Float, UInt


class ForwardHyper(NamedTuple):
    """Hyperparameters of the forward pass, which may be traced: they differ between members.

    Attributes:
      context_forward: bins ahead that a bin attends to; negative: unlimited.
      context_backward: bins back that a bin attends to; 0 or less: unlimited.
      dropout: rate, of attention weights and sublayers.
      dropout_rates: rate, before the read-out.
      dropout_embedding: rate, of the embedded inputs.
      shard: the part of the batch that this device has.
      expected_ratio: fraction of the inputs that is masked in training, of a model whose input
        without masks is the mean of that; 0 for counts as they are.
      samples: random bytes of the dropouts of one layer of the shipped network, by the name of the
        module within it, ``""`` for its own; None, always with classes from elsewhere: each
        module asks for keys of its own.
    """

    context_forward: Array | int
    context_backward: Array | int
    dropout: Array | float
    dropout_rates: Array | float
    dropout_embedding: Array | float
    shard: BatchShard = WHOLE_BATCH
    expected_ratio: Array | float = 0.0
    samples: dict[str, list[UInt[Array, "b ..."]]] | None = None

    def sample(self, module: str | None, number: int = 0) -> UInt[Array, "b ..."] | None:
        """The random bytes of one of a module's dropouts; None if it has a key of its own."""
        some = (self.samples or {}).get(module or "")
        return some[number] if some else None

    @classmethod
    def from_config(cls, config: ModelConfig, expected_ratio: float = 0.0) -> ForwardHyper:
        """The values of a configuration, where no member has values of its own."""
        unlimited = config.full_context
        return cls(
            context_forward=-1 if unlimited else config.context_forward,
            context_backward=-1 if unlimited else config.context_backward,
            dropout=config.dropout,
            dropout_rates=config.dropout_rates,
            dropout_embedding=config.dropout_embedding,
            expected_ratio=expected_ratio,
        )


def sinusoid(length: int, width: int, offset: bool) -> Float[Array, "length width"]:
    """Sine in even columns, cosine in odd, of ``position * exp(-ln(10000) 2i / width)``.

    Source: A. Vaswani et al., NeurIPS 2017.
    """
    position = jnp.arange(length, dtype=jnp.float32)[:, None] + float(offset)
    pair = jnp.arange(0, width, 2, dtype=jnp.float32)[None, :]
    angle = position * jnp.exp(-math.log(10000.0) * pair / width)
    both = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(length, -1)
    return both[:, :width]


class Linear(nn.Module):
    """``x W + b``, initialised as PyTorch does.

    Attributes:
      inputs: width of ``x``.
      outputs: width of the result.
      dtype: of the matmul; parameters are float32.
      bound: of the uniform initial weights; by default ``1 / sqrt(inputs)``.
      bias_bound: of the uniform initial biases; by default the same.
      scale: multiplies ``bound``.
    """

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
        kernel = self.param("kernel", uniform(bound * self.scale), (self.inputs, self.outputs))
        bias = self.param("bias", uniform(bias_bound), (self.outputs,))
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
    """``g x / max(|x|, 1e-5)``, ``g`` starting at ``sqrt(width)``.

    Source: T. Nguyen and J. Salazar, IWSLT 2019.
    """

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        g = self.param("scale", nn.initializers.constant(math.sqrt(self.width)), ())
        squares = jnp.sum(x * x, axis=-1, keepdims=True)
        return g * x / jnp.sqrt(jnp.maximum(squares, 1e-10))


FINAL_NORMS: dict[str, type[LayerNorm] | type[ScaleNorm]] = {
    "layer": LayerNorm,
    "scale": ScaleNorm,
}


class FeedForward(nn.Module):
    """``W2 drop(act(W1 x))``."""

    config: ModelConfig
    width: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, hyper: ForwardHyper) -> Array:
        F, dtype = self.config.feedforward, jnp.dtype(self.config.dtype)
        h = Linear(self.width, F, dtype, scale=self.scale, name="in")(x)
        h = jax.nn.relu(h) if self.config.activation == "relu" else jax.nn.gelu(h, False)
        h = drop(self, h, hyper.dropout, hyper.shard, hyper.sample(self.name))
        return Linear(F, self.width, dtype, scale=self.scale, name="out")(h)


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
