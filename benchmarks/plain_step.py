"""The yardstick: the paper's model's training step as one would write it down first.

    python benchmarks/plain_step.py --config=mc_maze

One einsum attention in (batch, time, head, depth) order, one random number of 32 bits for every
element that may be dropped, one corruption after another, ``jax.jit`` as it comes. The parameters,
the draws of the corruption and the optimiser are the project's, so that without dropout both steps
have the same loss; the script checks that before it times anything.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import machine
import numpy as np
import optax
import sizes

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Hyper
from stndt_jax.models import attention as attention_layers
from stndt_jax.models import layers
from stndt_jax.training import masking, optim, step
from stndt_jax.types import Array, Params

TOLERANCE = 1e-5


def dropout(key: Array, x: Array, rate: Array) -> Array:
    """One draw of 32 bits an element."""
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)


def linear(params: Params, x: Array) -> Array:
    """``x W + b``."""
    return x @ params["kernel"] + jnp.expand_dims(params["bias"], range(x.ndim - 1))


def layer_norm(params: Params, x: Array) -> Array:
    """Layer norm over the last axis."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    x = (x - mean) / jnp.sqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5)
    axes = range(x.ndim - 1)
    return x * jnp.expand_dims(params["scale"], axes) + jnp.expand_dims(params["bias"], axes)


def attention(q_BQHd: Array, k_BKHd: Array, mask_QK: Array | None = None) -> Array:
    """Weights (batch, head, query, key)."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q_BQHd, k_BKHd) / np.sqrt(q_BQHd.shape[-1])
    if mask_QK is not None:
        scores = jnp.where(mask_QK[None, None], scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def heads_of(fused: Array, parts: int, heads: int) -> list[Array]:
    """Queries, keys, ... in (batch, time, head, depth) order."""
    batch, time, width = fused.shape
    split = fused.reshape(batch, time, parts, heads, width // parts // heads)
    return [split[:, :, part] for part in range(parts)]


def feedforward(params: Params, x: Array, rate: Array, key: Array) -> Array:
    """Two linear maps, relu and dropout between them."""
    return linear(params["out"], dropout(key, jax.nn.relu(linear(params["in"], x)), rate))


def layer(
    params: Params, x_BTN: Array, s_BNT: Array, mask_TT: Array, rate: Array, heads: int, key: Array
) -> Array:
    """One encoder layer, pre-norm."""
    keys = iter(jax.random.split(key, 7))
    q, k, v = heads_of(
        linear(params["temporal"]["qkv"], layer_norm(params["norm1"], x_BTN)), 3, heads
    )
    a_BHTT = dropout(next(keys), attention(q, k, mask_TT), rate)
    y_BTN = jnp.einsum("bhqk,bkhd->bqhd", a_BHTT, v).reshape(x_BTN.shape)
    y_BTN = linear(params["temporal"]["out"], y_BTN)
    x_BTN = x_BTN + dropout(next(keys), y_BTN, rate)
    y_BTN = layer_norm(params["norm2"], x_BTN)
    y_BTN = feedforward(params["feedforward"], y_BTN, rate, next(keys))
    x_BTN = x_BTN + dropout(next(keys), y_BTN, rate)
    q, k = heads_of(
        linear(params["spatial"]["qk"], layer_norm(params["norm_spatial"], s_BNT)), 2, heads
    )
    a_BNN = jnp.mean(attention(q, k), axis=1)
    y_BTN = jnp.einsum("bnm,btm->btn", a_BNN, layer_norm(params["norm3"], x_BTN))
    x_BTN = x_BTN + dropout(next(keys), y_BTN, rate)
    y_BTN = layer_norm(params["norm4"], x_BTN)
    y_BTN = feedforward(params["feedforward_spatial"], y_BTN, rate, next(keys))
    return x_BTN + dropout(next(keys), y_BTN, rate)


def embed(params: Params, x_BTN: Array) -> tuple[Array, Array]:
    """Temporal and spatial tokens before positions and dropout."""
    temporal = np.sqrt(x_BTN.shape[2]) * linear(params["embedder"], x_BTN)
    transposed = x_BTN.transpose(0, 2, 1)
    return temporal, np.sqrt(x_BTN.shape[1]) * linear(params["spatial_embedder"], transposed)


def log_rates(arch: step.Arch, params: Params, hyper: Hyper, x_BTN: Array, key: Array) -> Array:
    """The whole network."""
    keys = iter(jax.random.split(key, 3 + arch.model.layers))
    T, N = arch.dims.bins, arch.dims.neurons
    mask_TT = attention_layers.context_mask(T, hyper.context_forward, hyper.context_backward)
    temporal, spatial = embed(params, x_BTN)
    rate = hyper.dropout_embedding
    x_BTN = dropout(next(keys), temporal + layers.sinusoid(T, N, True)[None], rate)
    s_BNT = dropout(next(keys), spatial + layers.sinusoid(N, T, True)[None], rate)
    for i in range(arch.model.layers):
        own = params[f"layers_{i}"]
        x_BTN = layer(own, x_BTN, s_BNT, mask_TT, hyper.dropout, arch.model.heads, next(keys))
        s_BNT = x_BTN.transpose(0, 2, 1)
    hidden = dropout(next(keys), layer_norm(params["final_norm"], x_BTN), hyper.dropout_rates)
    return linear(params["decoder"], hidden)


def info_nce(rows_VE: Array, temperature: Array) -> Array:
    """Mean contrastive loss of two views, one under the other."""
    rows_VE = rows_VE / jnp.linalg.norm(rows_VE, axis=-1, keepdims=True)
    similarity_VV = jnp.matmul(rows_VE, rows_VE.T, precision="highest") / temperature
    V = rows_VE.shape[0]
    similarity_VV = jnp.where(jnp.eye(V, dtype=bool), -jnp.inf, similarity_VV)
    positive_V = similarity_VV[jnp.arange(V), jnp.roll(jnp.arange(V), V // 2)]
    return jnp.mean(jax.nn.logsumexp(similarity_VV, axis=-1) - positive_V)


def loss(arch: step.Arch, params: Params, hyper: Hyper, batch: step.Batch, noise: Array) -> Array:
    """Masked loss and contrastive loss of one batch."""
    key_corrupt, key_drop, _ = jax.random.split(noise, 3)
    ratios = masking.Corruption(hyper.mask_ratio, hyper.mask_token_ratio, hyper.mask_random_ratio)
    others = masking.Corruption(
        hyper.contrast_ratio, hyper.contrast_token_ratio, hyper.contrast_random_ratio
    )
    views = [
        masking.corrupt(
            key,
            batch.counts,
            how,
            widen=jnp.float32(0.0),
            max_span=hyper.mask_max_span,
            mode="full",
            grow_full=False,
            dims=arch.dims,
        )
        for key, how in zip(jax.random.split(key_corrupt, 3), (ratios, others, others), strict=True)
    ]
    (x_BTN, masked_BTN), (first_BTN, _), (second_BTN, _) = views
    z_BTN = log_rates(arch, params, hyper, x_BTN, key_drop)
    targets_BTN = (masked_BTN | masking.predicted(arch.dims)[None]) & batch.has_count
    nll_BTN = jnp.exp(z_BTN) - batch.counts.astype(jnp.float32) * z_BTN
    total = jnp.sum(jnp.where(targets_BTN, nll_BTN, 0.0)) / jnp.sum(targets_BTN)
    for one, other in zip(embed(params, first_BTN), embed(params, second_BTN), strict=True):
        both = jnp.concatenate([one, other])
        rows_VE = both.reshape(both.shape[0], -1)
        total = total + hyper.contrast_weight * info_nce(rows_VE, hyper.contrast_temperature)
    return total


def train_step(
    arch: step.Arch, state: tuple[Params, Any, Array], hyper: Hyper, batch: step.Batch
) -> tuple[tuple[Params, Any, Array], Array]:
    """One AdamW step; returns the new state and the loss."""
    params, opt_state, i = state
    noise = step.key(hyper.seed, "train", i)
    total, grads = jax.value_and_grad(loss, argnums=1)(arch, params, hyper, batch, noise)
    rate = hyper.learning_rate * optim.schedule(
        arch.optimizer.schedule, i / arch.steps_per_epoch, arch.epochs, hyper.warmup_epochs
    )
    optimizer = optim.optimizer(arch.optimizer, rate, hyper.weight_decay)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state, i + 1), total


def one_model(name: str) -> tuple[step.Arch, Hyper, step.Batch, Params]:
    """Architecture, scalars, a batch and fresh weights of the named size."""
    config, dims = sizes.setting(name, 1, "float32")
    arch = step.arch(config, dims, 100)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), configs.hyper(config))
    shape = (config.train.batch, dims.bins, dims.neurons)
    counts = np.random.default_rng(0).poisson(0.1, shape).astype(np.uint8)
    batch = step.Batch(jnp.asarray(counts), jnp.ones(shape, bool))
    return arch, hyper, batch, jax.jit(functools.partial(step.init, arch))(hyper).params


def difference(name: str) -> float:
    """Relative difference of this loss and the project's, both without dropout.

    Raises:
      SystemExit: it is larger than rounding.
    """
    arch, hyper, batch, params = one_model(name)
    still = dict.fromkeys(("dropout", "dropout_rates", "dropout_embedding"), jnp.float32(0.0))
    hyper, noise = hyper._replace(**still), step.key(hyper.seed, "train", 0)
    plain = jax.jit(functools.partial(loss, arch))(params, hyper, batch, noise)
    wanted, _ = jax.jit(functools.partial(step.loss, arch))(
        params, hyper, batch, noise, jnp.float32(0.0)
    )
    found = abs(float(plain) / float(wanted) - 1.0)
    if not found <= TOLERANCE:
        raise SystemExit(f"the losses differ: {float(plain)} here, {float(wanted)} in step.py")
    return found


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Checks the loss, then times the step."""
    off = difference(name)
    arch, hyper, batch, params = one_model(name)
    state = (params, optim.init(arch.optimizer, params), jnp.int32(0))
    run = jax.jit(functools.partial(train_step, arch))
    seconds = machine.timed(lambda: run(state, hyper, batch), repeats)
    assert bool(jnp.isfinite(optax.tree.norm(run(state, hyper, batch)[0][0])))
    return {**machine.summary(seconds), "loss_difference": off, "repeats": repeats}


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="reach", choices=sizes.PAPER)
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    result = {"config": flags.config, **measure(flags.config, flags.repeats)}
    machine.show(result | machine.about())


if __name__ == "__main__":
    main()
