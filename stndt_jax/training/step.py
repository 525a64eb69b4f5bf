"""One model, one batch: ``init``, ``train_step``, ``evaluate_step``, ``rates``.

Pure functions that know nothing of members, devices or files; ``parallel.py`` lifts them.
Randomness is a function of (seed, step): nothing else need be saved for a resumed run to be
the same run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stndt_jax.config.schema import (
    Config,
    ContrastConfig,
    Hyper,
    MaskConfig,
    ModelConfig,
    OptimizerConfig,
)
from stndt_jax.models.stndt import STNDT, ForwardHyper
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard
from stndt_jax.training import losses, masking, optim
from stndt_jax.training.metrics import BitsPerSpike
from stndt_jax.types import Array, Bool, Dims, Float, Params, UInt

_STREAMS = {"init": 0, "order": 1, "train": 2, "validate": 3}


@dataclass(frozen=True)
class Arch:
    """What is compiled into a program; hashable, the same for all members."""

    model: ModelConfig
    mask: MaskConfig
    contrast: ContrastConfig
    optimizer: OptimizerConfig
    dims: Dims
    epochs: int
    steps_per_epoch: int
    rng: str = "threefry"
    shard: BatchShard = WHOLE_BATCH

    @property
    def network(self) -> STNDT:
        """The Flax module."""
        return STNDT(self.model, self.contrast, self.dims)


def arch(config: Config, dims: Dims, steps_per_epoch: int) -> Arch:
    """The static part of a run's configuration."""
    return Arch(
        config.model,
        config.mask,
        config.contrast,
        config.optimizer,
        dims,
        config.train.epochs,
        steps_per_epoch,
        config.train.rng,
    )


def inference(arch: Arch) -> Arch:
    """An architecture without what rates do not depend on: one program serves all that agree."""

    def plain(section: Any) -> Any:
        hyper = [field.name for field in dataclasses.fields(section) if field.metadata["hyper"]]
        return dataclasses.replace(section, **dict.fromkeys(hyper, 0))

    sections = ("model", "mask", "contrast", "optimizer")
    same = {name: plain(getattr(arch, name)) for name in sections}
    return dataclasses.replace(arch, **same, epochs=0, steps_per_epoch=0)


class Batch(NamedTuple):
    """Counts of all bins and neurons, and where they are truly known."""

    counts: UInt[Array, "B T N"]
    has_count: Bool[Array, "B T N"]


class State(NamedTuple):
    """One model in training.

    ``healthy`` is false once a loss or gradient was not finite, ``active`` once training has
    stopped; such a model does not change any more.
    """

    params: Params
    opt_state: Any
    step: Array
    healthy: Array
    active: Array


class Losses(NamedTuple):
    """Sums over targets and their number: masked Poisson NLL and contrastive rows."""

    masked: Array
    targets: Array
    contrastive: Array


METRICS = ("loss", "masked_loss", "contrastive_loss", "gradient_norm", "learning_rate")


def no_metrics() -> dict[str, Array]:
    """Sums of metrics before the first step; ``steps`` counts those that were taken."""
    return {name: jnp.float32(0.0) for name in (*METRICS, "steps")}


def key(seed: Array, stream: str, index: Array | int = 0) -> Array:
    """The PRNG key number ``index`` of a named stream of a seed."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAMS[stream]), index)


def noise_of(arch: Arch, hyper: Hyper, index: Array) -> Array:
    """The key of a training step's corruption and dropout, for the generator asked for."""
    noise = key(hyper.seed, "train", index)
    if arch.rng == "threefry":
        return noise
    return jax.random.wrap_key_data(jax.random.bits(noise, (4,), jnp.uint32), impl="rbg")


def forward_hyper(hyper: Hyper, shard: BatchShard = WHOLE_BATCH) -> ForwardHyper:
    """The hyperparameters that the network itself reads."""
    return ForwardHyper(
        hyper.context_forward,
        hyper.context_backward,
        hyper.dropout,
        hyper.dropout_rates,
        hyper.dropout_embedding,
        shard,
    )


def init(arch: Arch, hyper: Hyper) -> State:
    """A model with freshly drawn weights, ready to train."""
    x_BTN = jnp.zeros((1, arch.dims.bins, arch.dims.neurons))
    network = arch.network
    variables = network.init(
        key(hyper.seed, "init"), x_BTN, forward_hyper(hyper), method="everything"
    )
    params = variables["params"]
    opt_state = optim.transformation(arch.optimizer).init(params)
    return State(params, opt_state, jnp.int32(0), jnp.bool_(True), jnp.bool_(True))


def loss(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    batch: Batch,
    noise: Array,
    epoch: Array,
) -> tuple[Array, Losses]:
    """``L_mask + lambda L_contrastive`` of one freshly corrupted batch.

    Args:
      arch: static part.
      params: network parameters.
      hyper: scalars of this member.
      batch: true counts.
      noise: key of this step's corruption and dropout.
      epoch: epochs trained so far, fractions included.

    Returns:
      The loss, and its parts as sums; of a device with a share of the batch, all of it as what
      this device adds to the whole.
    """
    network, dims, shard = arch.network, arch.dims, arch.shard
    key_corrupt, key_drop, key_views = jax.random.split(noise, 3)
    views = 3 if arch.contrast.enabled else 1
    how = masking.Corruption(
        *(
            jnp.stack([first, other, other])[:views]
            for first, other in [
                (hyper.mask_ratio, hyper.contrast_ratio),
                (hyper.mask_token_ratio, hyper.contrast_token_ratio),
                (hyper.mask_random_ratio, hyper.contrast_random_ratio),
            ]
        )
    )
    widen = masking.widening_probability(epoch, hyper.mask_ramp_start, hyper.mask_ramp_end)

    def corrupt(noise: Array, how: masking.Corruption) -> tuple[Array, Array]:
        return masking.corrupt(
            noise,
            batch.counts,
            how,
            widen=widen,
            max_span=hyper.mask_max_span,
            mode=arch.mask.mode,
            grow_full=arch.mask.grow_full,
            dims=dims,
        )

    x_VBTN, masked_VBTN = jax.vmap(corrupt)(jax.random.split(key_corrupt, views), how)
    x_VBTN, masked_VBTN = shard.own(x_VBTN, 1), shard.own(masked_VBTN, 1)
    batch = jax.tree.map(shard.own, batch)
    attendable_BT = attendable(batch.has_count, dims)
    if attendable_BT is not None:
        # What was not recorded gets no random counts either.
        x_VBTN = jnp.where(batch.has_count[None], x_VBTN, 0)
    targets_BTN = (masked_VBTN[0] | masking.predicted(dims)[None]) & batch.has_count
    z_BTN, _ = network.apply(
        {"params": params},
        x_VBTN[0],
        forward_hyper(hyper, shard),
        attendable_BT,
        rngs={"dropout": key_drop},
    )
    nll_BTN = losses.poisson_nll(z_BTN, batch.counts.astype(jnp.float32))
    masked, targets = losses.masked_sum(nll_BTN, targets_BTN)
    total = losses.mean(masked, shard.total(targets))
    contrastive = jnp.float32(0.0)
    if arch.contrast.enabled:
        pair = x_VBTN[1:].reshape(-1, dims.bins, dims.neurons)
        both_BT = None if attendable_BT is None else jnp.concatenate([attendable_BT, attendable_BT])
        features = network.apply(
            {"params": params},
            pair,
            forward_hyper(hyper, dataclasses.replace(shard, views=2)),
            both_BT,
            method="features",
            rngs={"dropout": key_views},
        )
        for rows in features:
            everyone = shard.gathered(jnp.asarray(rows))
            each = losses.info_nce(everyone, hyper.contrast_temperature)
            contrastive += jnp.mean(each) / shard.parts
        weight = jnp.where(epoch >= hyper.contrast_start_epoch, hyper.contrast_weight, 0.0)
        total = total + weight * contrastive
    return total, Losses(masked, targets, contrastive)


def train_step(
    arch: Arch, state: State, hyper: Hyper, batch: Batch
) -> tuple[State, dict[str, Array]]:
    """Trains one model on one batch.

    A step whose loss or gradient is not finite, or that would lead to such parameters, is
    not taken: the model stays at its last good state, no longer healthy. Models that are not
    active stay as they are.

    Returns:
      The new state, and the ``METRICS`` of this step, with 1 for ``steps``; zeros where the
      step was not taken.
    """
    epoch = state.step / arch.steps_per_epoch
    noise = noise_of(arch, hyper, state.step)
    (total, parts), grads = jax.value_and_grad(loss, argnums=1, has_aux=True)(
        arch, state.params, hyper, batch, noise, epoch
    )
    total, parts, grads = arch.shard.total((total, parts, grads))
    norm = optax.tree.norm(grads)
    rate = hyper.learning_rate * optim.schedule(
        arch.optimizer.schedule, epoch, arch.epochs, hyper.warmup_epochs
    )
    params, opt_state = optim.update(
        arch.optimizer, grads, state.opt_state, state.params, rate, hyper.weight_decay
    )
    finite = jnp.isfinite(total) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    healthy = state.healthy & (finite | ~state.active)
    trained = State(params, opt_state, state.step + 1, healthy, state.active)
    kept = state._replace(healthy=healthy, active=state.active & healthy)
    state = jax.tree.map(lambda a, b: jnp.where(kept.active, a, b), trained, kept)
    masked = losses.mean(parts.masked, parts.targets)
    values = (total, masked, parts.contrastive, norm, rate, jnp.float32(1.0))
    metrics = dict(zip((*METRICS, "steps"), values, strict=True))
    metrics = {name: jnp.where(kept.active, value, 0.0) for name, value in metrics.items()}
    return state, metrics


class Scores(NamedTuple):
    """Mergeable sums of one evaluated batch."""

    masked: tuple[Array, Array]
    unmasked: tuple[Array, Array]
    heldout: BitsPerSpike

    def merge(self, other: Scores) -> Scores:
        """Sums of both."""
        return jax.tree.map(jnp.add, self, other)

    def values(self) -> dict[str, Array]:
        """``masked_loss`` and ``unmasked_loss`` in nats a target, ``cobps`` in bits a spike."""
        return {
            "masked_loss": losses.mean(*self.masked),
            "unmasked_loss": losses.mean(*self.unmasked),
            "cobps": self.heldout.value(),
        }


def evaluate_step(arch: Arch, params: Params, hyper: Hyper, batch: Batch, index: Array) -> Scores:
    """Scores one batch of evaluated trials.

    ``masked``: the training target on a corruption that is the same at every validation;
    ``unmasked``: the loss of held-in, observed entries of the clean input; ``heldout``:
    co-smoothing of held-out neurons in observed bins.

    Args:
      arch: static part.
      params: network parameters.
      hyper: scalars of this member.
      batch: counts, known where they may be scored.
      index: number of this batch, for its corruption.
    """
    dims = arch.dims
    counts_BTN = batch.counts.astype(jnp.float32)
    how = masking.Corruption(hyper.mask_ratio, hyper.mask_token_ratio, hyper.mask_random_ratio)
    corrupted_BTN, masked_BTN = masking.corrupt(
        key(hyper.seed, "validate", index),
        batch.counts,
        how,
        widen=jnp.float32(0.0),
        max_span=hyper.mask_max_span,
        mode=arch.mask.mode,
        grow_full=arch.mask.grow_full,
        dims=dims,
    )
    predicted_BTN = masking.predicted(dims)[None]
    attendable_BT = attendable(batch.has_count, dims)
    if attendable_BT is not None:
        corrupted_BTN = jnp.where(batch.has_count, corrupted_BTN, 0)
    z_masked, _ = arch.network.apply(
        {"params": params}, corrupted_BTN, forward_hyper(hyper), attendable_BT
    )
    z_clean = log_rates(arch, params, hyper, batch.counts, batch.has_count)
    return Scores(
        masked=losses.masked_sum(
            losses.poisson_nll(z_masked, counts_BTN), (masked_BTN | predicted_BTN) & batch.has_count
        ),
        unmasked=losses.masked_sum(
            losses.poisson_nll(z_clean, counts_BTN), ~predicted_BTN & batch.has_count
        ),
        heldout=BitsPerSpike.of(
            *(
                v[:, : dims.bins_observed, dims.heldin :]
                for v in (jnp.exp(z_clean), counts_BTN, batch.has_count)
            )
        ),
    )


def attendable(has_count: Bool[Array, "B T N"], dims: Dims) -> Bool[Array, "B T"] | None:
    """Bins to attend to: forward ones, and observed ones with a recorded held-in neuron.

    None where the data have no gaps, and every bin is one.
    """
    if not dims.gaps:
        return None
    forward_T = jnp.arange(dims.bins) >= dims.bins_observed
    return jnp.any(has_count[..., : dims.heldin], axis=-1) | forward_T[None]


def log_rates(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> Float[Array, "B T N"]:
    """Log expected counts per bin, from held-in neurons' observed bins alone, no dropout.

    ``known``, where counts were recorded, must be given if the data have gaps.
    """
    x_BTN = masking.clean(counts, arch.dims)
    attendable_BT = None
    if arch.dims.gaps:
        assert has_count is not None
        x_BTN, attendable_BT = jnp.where(has_count, x_BTN, 0), attendable(has_count, arch.dims)
    z_BTN, _ = arch.network.apply({"params": params}, x_BTN, forward_hyper(hyper), attendable_BT)
    return z_BTN


def rates(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> Float[Array, "B T N"]:
    """Expected counts per bin of all neurons and bins of a batch; as ``log_rates``."""
    return jnp.exp(log_rates(arch, params, hyper, counts, has_count))
