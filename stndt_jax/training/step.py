"""One model, one batch: ``init``, ``train_step``, ``evaluate_step``, ``rates``.

Pure functions that know nothing of members, devices or files; ``parallel/lifts.py`` transforms
them to many steps, members and devices. Randomness is a function of (seed, step), so a resumed run
needs nothing else to be the same run.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from stndt_jax import models
from stndt_jax.config.schema import (
    Config,
    ContrastConfig,
    Hyper,
    MaskConfig,
    ModelConfig,
    OptimizerConfig,
)
from stndt_jax.models import initial_weights
from stndt_jax.models.layers import ForwardHyper
from stndt_jax.models.stndt import Statistics, constants, layers_traced_once, with_statistics
from stndt_jax.parallel.batch_shard import WHOLE_BATCH, BatchShard
from stndt_jax.training import losses, masking, optim
from stndt_jax.training.metrics import BitsPerSpike
from stndt_jax.training.packing import Packing
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
    def network(self) -> Any:
        """The Flax module."""
        return models.build(self.model, self.contrast, self.dims, self.mask.token)


def arch(config: Config, dims: Dims, steps_per_epoch: int) -> Arch:
    """The static part of a run's configuration."""
    return Arch(
        model=config.model,
        mask=config.mask,
        contrast=config.contrast,
        optimizer=config.optimizer,
        dims=dims,
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch,
        rng=config.train.rng,
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


def forward_hyper(arch: Arch, hyper: Hyper, shard: BatchShard = WHOLE_BATCH) -> ForwardHyper:
    """The hyperparameters that the network itself reads."""
    return ForwardHyper(
        context_forward=hyper.context_forward,
        context_backward=hyper.context_backward,
        dropout=hyper.dropout,
        dropout_rates=hyper.dropout_rates,
        dropout_embedding=hyper.dropout_embedding,
        shard=shard,
        expected_ratio=hyper.mask_ratio if arch.mask.inference == "expected" else 0.0,
    )


def init(arch: Arch, hyper: Hyper, statistics: Statistics | None = None) -> State:
    """A model with newly initialised weights, ready to train.

    Args:
      arch: static part.
      hyper: scalars of this member.
      statistics: of the training trials, from ``batches.statistics``; without them the model
        starts as if every neuron had mean 0 and deviation 1, and a rate of 1.
    """
    x_BTN = jnp.zeros((1, arch.dims.bins, arch.dims.neurons))

    def initialised(key: Array) -> Params:
        params: Params = arch.network.init(key, x_BTN, forward_hyper(arch, hyper))["params"]
        return params

    start = key(hyper.seed, "init")
    # Only the package's own classes are known not to compute with weights while they are made.
    shipped = models.are_shipped(arch.model)
    params = initial_weights.in_one(initialised, start) if shipped else initialised(start)
    if statistics is not None:
        params = with_statistics(params, statistics, arch.model)
    return State(
        params=params,
        opt_state=optim.init(arch.optimizer, params),
        step=jnp.int32(0),
        healthy=jnp.bool_(True),
        active=jnp.bool_(True),
    )


def loss(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    batch: Batch,
    noise: Array,
    epoch: Array,
) -> tuple[Array, Losses]:
    """``L = L_mask + lambda L_contrastive`` of one newly corrupted batch.

    Args:
      arch: static part.
      params: network parameters.
      hyper: scalars of this member.
      batch: true counts.
      noise: key of this step's corruption and dropout.
      epoch: epochs trained so far, fractions included.

    Returns:
      The loss, and its parts as sums. On a device with a shard of the batch, all of it is what
      this device adds to the whole.
    """
    key_corrupt, key_drop, key_views = jax.random.split(noise, 3)
    x_VBTN, masked_VBTN = corrupted_views(arch, hyper, batch, key_corrupt, epoch)
    own = jax.tree.map(arch.shard.own, batch)
    masked, targets = masked_loss(arch, params, hyper, own, x_VBTN[0], masked_VBTN[0], key_drop)
    total = losses.mean(masked, arch.shard.total(targets))
    contrastive = jnp.float32(0.0)
    if arch.contrast.enabled:
        contrastive = contrastive_loss(
            arch, params, hyper, own, x_VBTN[1:], masked_VBTN[1:], key_views
        )
        weight = jnp.where(epoch >= hyper.contrast_start_epoch, hyper.contrast_weight, 0.0)
        total = total + weight * contrastive
    return total, Losses(masked=masked, targets=targets, contrastive=contrastive)


def corrupted_views(
    arch: Arch, hyper: Hyper, batch: Batch, noise: Array, epoch: Array
) -> tuple[Float[Array, "V b T N"], Bool[Array, "V b T N"]]:
    """Corruptions of the same trials: the masked input and, if they are contrasted, two views.

    Args:
      arch: static part.
      hyper: scalars of this member.
      batch: true counts of the whole batch.
      noise: key of the corruptions.
      epoch: epochs trained so far, fractions included.

    Returns:
      Inputs, zero where nothing was recorded, and where they are masked; of the trials of this
      device's shard.
    """
    views = 3 if arch.contrast.enabled else 1

    def ratios(masked: Array, contrasted: Array) -> Array:
        return jnp.stack([masked, contrasted, contrasted])[:views]

    how = masking.Corruption(
        ratio=ratios(hyper.mask_ratio, hyper.contrast_ratio),
        token_ratio=ratios(hyper.mask_token_ratio, hyper.contrast_token_ratio),
        random_ratio=ratios(hyper.mask_random_ratio, hyper.contrast_random_ratio),
    )
    widen = masking.widening_probability(epoch, hyper.mask_ramp_start, hyper.mask_ramp_end)
    corrupt = functools.partial(_corrupt, arch, hyper, batch, widen=widen)
    x_VBTN, masked_VBTN = jax.vmap(corrupt)(jax.random.split(noise, views), how)
    x_VBTN, masked_VBTN = arch.shard.own(x_VBTN, 1), arch.shard.own(masked_VBTN, 1)
    if arch.dims.gaps:
        # What was not recorded gets no random counts either.
        x_VBTN = jnp.where(arch.shard.own(batch.has_count)[None], x_VBTN, 0)
    return x_VBTN, masked_VBTN


def _corrupt(
    arch: Arch, hyper: Hyper, batch: Batch, noise: Array, how: masking.Corruption, *, widen: Array
) -> tuple[Array, Array]:
    """One corruption of a batch, and where it is masked."""
    if arch.mask.token == "learned":
        # The token replaces all that is masked, so no count there matters.
        how = how._replace(token_ratio=jnp.ones_like(how.token_ratio))
    return masking.corrupt(
        noise,
        batch.counts,
        how,
        widen=widen,
        max_span=hyper.mask_max_span,
        mode=arch.mask.mode,
        grow_full=arch.mask.grow_full,
        dims=arch.dims,
    )


def masked_loss(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    batch: Batch,
    x_BTN: Float[Array, "B T N"],
    masked_BTN: Bool[Array, "B T N"],
    noise: Array,
) -> tuple[Array, Array]:
    """Poisson NLL of the targets, as (sum, number of targets).

    Targets are the true counts at masked entries, of all held-out neurons, and in all forward
    bins.
    """
    z_BTN, _ = arch.network.apply(
        {"params": params},
        x_BTN,
        forward_hyper(arch, hyper, arch.shard),
        recorded(batch.has_count, arch.dims),
        masked_BTN,
        rngs={"dropout": noise},
    )
    targets_BTN = (masked_BTN | masking.predicted(arch.dims)[None]) & batch.has_count
    nll_BTN = losses.poisson_nll(z_BTN, batch.counts.astype(jnp.float32))
    return losses.masked_sum(nll_BTN, targets_BTN)


def contrastive_loss(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    batch: Batch,
    x_VBTN: Float[Array, "V B T N"],
    masked_VBTN: Bool[Array, "V B T N"],
    noise: Array,
) -> Array:
    """Mean InfoNCE of two views of the same trials, summed over the kinds of features."""
    recorded_BTN = recorded(batch.has_count, arch.dims)
    if recorded_BTN is not None:
        recorded_BTN = jnp.concatenate([recorded_BTN, recorded_BTN])
    features = arch.network.apply(
        {"params": params},
        x_VBTN.reshape(-1, *x_VBTN.shape[2:]),
        forward_hyper(arch, hyper, dataclasses.replace(arch.shard, views=2)),
        recorded_BTN,
        masked_VBTN.reshape(-1, *x_VBTN.shape[2:]),
        method="features",
        rngs={"dropout": noise},
    )
    total = jnp.float32(0.0)
    for rows in features:
        everyone = arch.shard.gathered(jnp.asarray(rows))
        each = losses.info_nce(everyone, hyper.contrast_temperature)
        total += jnp.mean(each) / arch.shard.parts
    return total


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
    packing = Packing(state.params, constants(state.params))
    packed, metrics = packed_step(arch, packing, packing.pack_all(state), hyper, batch)
    return packing.unpack_all(packed, state), metrics


@layers_traced_once()
def packed_step(
    arch: Arch,
    packing: Packing,
    state: State,
    hyper: Hyper,
    batch: Batch,
) -> tuple[State, dict[str, Array]]:
    """``train_step`` of a packed state, where steps follow one another.

    Args:
      arch: static part.
      packing: of the parameters, and which of them no step changes.
      state: as ``packing.pack_all`` gives it.
      hyper: scalars of this member.
      batch: true counts.
    """
    epoch = state.step / arch.steps_per_epoch
    noise = noise_of(arch, hyper, state.step)
    (total, parts), grads = jax.value_and_grad(loss, argnums=1, has_aux=True)(
        arch, packing.unpack(state.params), hyper, batch, noise, epoch
    )
    total, parts, grads = arch.shard.total((total, parts, packing.pack(grads)))
    norm = optax.tree.norm(grads)
    rate = hyper.learning_rate * optim.schedule(
        arch.optimizer.schedule, epoch, arch.epochs, hyper.warmup_epochs
    )
    optimizer = optim.optimizer(arch.optimizer, rate, hyper.weight_decay)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = packing.hold(state.params, optax.apply_updates(state.params, updates))
    finite = jnp.isfinite(total) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(params))
    healthy = state.healthy & (finite | ~state.active)
    kept = state._replace(healthy=healthy, active=state.active & healthy)
    trained = kept._replace(
        params=params, opt_state=opt_state, step=state.step + 1, active=state.active
    )
    state = jax.tree.map(lambda a, b: jnp.where(kept.active, a, b), trained, kept)
    metrics = {
        "loss": total,
        "masked_loss": losses.mean(parts.masked, parts.targets),
        "contrastive_loss": parts.contrastive,
        "gradient_norm": norm,
        "learning_rate": rate,
        "steps": jnp.float32(1.0),
    }
    return state, {name: jnp.where(kept.active, value, 0.0) for name, value in metrics.items()}


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


@layers_traced_once()
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
    how = masking.Corruption(
        ratio=hyper.mask_ratio,
        token_ratio=hyper.mask_token_ratio,
        random_ratio=hyper.mask_random_ratio,
    )
    noise = key(hyper.seed, "validate", index)
    corrupted_BTN, masked_BTN = _corrupt(arch, hyper, batch, noise, how, widen=jnp.float32(0.0))
    predicted_BTN = masking.predicted(dims)[None]
    recorded_BTN = recorded(batch.has_count, dims)
    if recorded_BTN is not None:
        corrupted_BTN = jnp.where(recorded_BTN, corrupted_BTN, 0)
    z_masked, _ = arch.network.apply(
        {"params": params}, corrupted_BTN, forward_hyper(arch, hyper), recorded_BTN, masked_BTN
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


def recorded(has_count: Bool[Array, "B T N"], dims: Dims) -> Bool[Array, "B T N"] | None:
    """What the network needs to know of gaps: where counts are known; None without gaps."""
    return has_count if dims.gaps else None


def clean_input(
    arch: Arch,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> tuple[Float[Array, "B T N"], Bool[Array, "B T N"] | None]:
    """The uncorrupted input of the network, and where it was recorded.

    ``has_count``, where counts were recorded, must be given if the data have gaps.
    """
    x_BTN = masking.clean(counts, arch.dims)
    if not arch.dims.gaps:
        return x_BTN, None
    assert has_count is not None
    return jnp.where(has_count, x_BTN, 0), has_count


def forward(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> tuple[Float[Array, "B T N"], dict[str, Array]]:
    """The network's log-rates and intermediate results on clean input, without dropout."""
    x_BTN, recorded_BTN = clean_input(arch, counts, has_count)
    return arch.network.apply({"params": params}, x_BTN, forward_hyper(arch, hyper), recorded_BTN)


def log_rates(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> Float[Array, "B T N"]:
    """Log expected counts per bin, from held-in neurons in observed bins alone, no dropout."""
    return forward(arch, params, hyper, counts, has_count)[0]


def rates(
    arch: Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"] | None = None,
) -> Float[Array, "B T N"]:
    """Expected counts per bin of all neurons and bins of a batch; as ``log_rates``."""
    return jnp.exp(log_rates(arch, params, hyper, counts, has_count))
