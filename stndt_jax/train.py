"""The training loop, and nothing but the loop.

Where a run finds its start, in this order:

1. the newest checkpoint of its own run directory, if the configuration and the data are the
   same ones;
2. freshly drawn weights.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import config as configs
from stndt_jax import parallel, selection, step, workdir
from stndt_jax.checkpoint import Checkpoints
from stndt_jax.config import Config, Hyper
from stndt_jax.data.spikes import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.log import RunLog
from stndt_jax.step import Batch, State
from stndt_jax.types import Array, Dims


class Member(NamedTuple):
    """All that changes while one model trains."""

    state: State
    selection: selection.Selection


def dims_of(data: SpikeData) -> Dims:
    """Sizes of a trial of this data."""
    return Dims(data.bins_observed, data.bins_forward, data.heldin, data.heldout, data.gaps)


def batch_of(trials: Trials, dims: Dims) -> Batch:
    """All counts of some trials, and where they are known."""
    return Batch(
        jnp.asarray(trials.counts(dims.bins_forward, dims.heldout)),
        jnp.asarray(trials.known(dims.bins_forward, dims.heldout)),
    )


def split(config: Config, data: SpikeData) -> tuple[Batch, Batch | None, str]:
    """Training trials, the trials that select the best model, and a sentence about them.

    The evaluated trials select where their held-out counts are known; otherwise a fraction
    of the training trials does, drawn by ``config.seed``; with fraction 0, none do.
    """
    dims = dims_of(data)
    train = batch_of(data.train, dims)
    R, fraction = len(data.train), config.data.validation_fraction
    if data.eval.heldout is not None:
        how = f"the {len(data.eval)} evaluated trials, whose held-out counts are known, select"
        return train, batch_of(data.eval, dims), how
    if fraction == 0:
        return train, None, "no trial selects: the last weights are kept"
    held = round(R * fraction)
    if not 0 < held < R:
        raise UserError(
            f"config.data.validation_fraction is {fraction}, {held} of {R} training trials; "
            f"choose a fraction that leaves at least one trial on either side"
        )
    order = np.random.default_rng(config.seed).permutation(R)
    chosen, rest = np.sort(order[:held]), np.sort(order[held:])
    pick = lambda trials: jax.tree.map(lambda leaf: leaf[trials], train)  # noqa: E731
    return pick(rest), pick(chosen), f"{held} of the {R} training trials select"


def batch_size(config: Config, trials: int) -> int:
    """Trials in a batch: as configured, or all of them where there are fewer."""
    return min(config.train.batch, trials)


def make_init(arch: step.Arch) -> Callable[[Hyper], Member]:
    """The start of a population: ``init(hyper (K,)) -> members``."""

    def init(hyper: Hyper) -> Member:
        state = step.init(arch, hyper)
        return Member(state, selection.init(state.params))

    return jax.jit(parallel.over_members(init))


def make_chunk(config: Config, arch: step.Arch, batch: int, validates: bool) -> Callable:
    """The compiled portion between two validations.

    Returns:
      ``chunk(members, hyper, train, valid, first_epoch, epochs) -> (members, metrics)``; the
      members given are consumed. Metrics have one entry a member.
    """
    epochs_of = parallel.over_epochs(
        functools.partial(step.train_step, arch), _order(arch, batch), arch.steps_per_epoch, batch
    )
    scores_of = parallel.over_batches(functools.partial(step.evaluate_step, arch), batch)

    def chunk(
        member: Member, hyper: Hyper, train: Batch, valid: Any, first: Array, epochs: Array
    ) -> tuple[Member, dict[str, Array]]:
        state, metrics = epochs_of(member.state, hyper, train, first, epochs)
        metrics = {f"train_{name}": value for name, value in metrics.items()}
        done = first + epochs
        if validates:
            scores = scores_of(state.params, hyper, valid).values()
            metrics |= {f"valid_{name}": value for name, value in scores.items()}
            chosen, active = selection.update(
                member.selection,
                state.params,
                scores["cobps"],
                scores["masked_loss"],
                done,
                state.active,
                config.train.patience,
            )
        else:
            chosen, active = selection.last(state.params, done), state.active
        metrics |= {"healthy": state.healthy, "active": active}
        metrics |= {"best_cobps": chosen.cobps.value, "best_epoch": chosen.cobps.epoch}
        return Member(state._replace(active=active), chosen), metrics

    return jax.jit(parallel.over_members(chunk, shared=4), donate_argnums=0)


def _order(arch: step.Arch, batch: int) -> parallel.Order:
    def order(hyper: Hyper, epoch: Array, trials: int) -> Array:
        return jax.random.permutation(step.key(hyper.seed, "order", epoch), trials)

    return order


def train(config: Config, data: SpikeData, path: Path, *, quiet: bool = False) -> list[str]:
    """Trains a population and leaves a run directory.

    Args:
      config: what to train.
      data: what to train it on.
      path: the run directory, new or one to go on with.
      quiet: print nothing.

    Returns:
      How each member ended: ``finished``, ``stopped`` or ``diverged``.

    Raises:
      UserError: the configuration does not fit the data, the directory holds another run or
        cannot be written, or every member diverged.
    """
    dims = dims_of(data)
    configs.check_dims(config, dims)
    trainable, valid, how = split(config, data)
    R = trainable.counts.shape[0]
    batch = batch_size(config, R)
    arch = step.arch(config, dims, R // batch)
    hyper = jax.tree.map(jnp.asarray, configs.hyper(config))

    open_run(config, data, path)
    checkpoints = Checkpoints(path / "checkpoints")
    init = make_init(arch)
    if checkpoints.latest is None:
        epoch, members = 0, init(hyper)
    else:
        epoch, members = checkpoints.load(jax.eval_shape(init, hyper))
    log = RunLog(path, config.train.epochs, epoch, quiet)
    try:
        log.say(
            f"{config.population} x {'STNDT' if config.model.spatial else 'NDT'} on {data.name}: "
            f"{R} training trials in batches of {batch}, {dims.bins_observed} + "
            f"{dims.bins_forward} bins, {dims.heldin} + {dims.heldout} neurons; {how}"
        )
        log.say(f"{'going on' if epoch else 'starting'} at epoch {epoch} of {config.train.epochs}")
        run = make_chunk(config, arch, batch, valid is not None)
        members = _loop(config, run, members, hyper, (trainable, valid), epoch, checkpoints, log)
        return _endings(members, log)
    finally:
        checkpoints.close()
        log.close()


def _loop(
    config: Config,
    run: Callable,
    members: Member,
    hyper: Hyper,
    sets: tuple[Batch, Batch | None],
    epoch: int,
    checkpoints: Checkpoints,
    log: RunLog,
) -> Member:
    """Chunks until the last epoch, or until no member is active."""
    said: set[int] = set()
    saved = time.monotonic()
    trials = sets[0].counts.shape[0] // batch_size(config, sets[0].counts.shape[0])
    trials *= batch_size(config, sets[0].counts.shape[0])
    while epoch < config.train.epochs and bool(jnp.any(members.state.active)):
        epochs = min(config.train.validate_every, config.train.epochs - epoch)
        began = time.monotonic()
        training = int(jnp.sum(members.state.active))
        members, metrics = run(members, hyper, *sets, jnp.int32(epoch), jnp.int32(epochs))
        metrics = {name: np.asarray(value) for name, value in metrics.items()}
        epoch += epochs
        seconds = time.monotonic() - began
        rate = training * epochs * trials / seconds
        row = {name: [float(v) for v in value] for name, value in metrics.items()}
        log.metrics({"epoch": epoch, **row}, _words(metrics, rate))
        for k in np.flatnonzero(~metrics["active"]):
            if k not in said:
                said.add(int(k))
                why = "stopped improving" if metrics["healthy"][k] else "diverged and is frozen"
                log.say(f"member {k} {why} by epoch {epoch}; the others go on")
        if time.monotonic() - saved >= config.train.save_every_s:
            checkpoints.save(epoch, members)
            saved = time.monotonic()
    checkpoints.save(epoch, members)
    return members


def _words(metrics: dict[str, np.ndarray], trials_per_s: float) -> str:
    """One validation in words: over members, the mean losses and the range of co-bps."""

    def mean(name: str) -> str:
        values = metrics[name][metrics["healthy"] > 0]
        return f"{values.mean():.4f}" if values.size else "-"

    words = f"loss {mean('train_masked_loss')}"
    if "valid_cobps" in metrics:
        words += f"  valid {mean('valid_masked_loss')}  co-bps {mean('valid_cobps')}"
        words += f"  best {np.max(metrics['best_cobps']):.4f}"
    return f"{words}  {trials_per_s:.0f} trials/s"


def open_run(config: Config, data: SpikeData, path: Path) -> None:
    """Makes a run directory, or checks that it is the same run that goes on.

    Raises:
      UserError: it holds another configuration or was trained on other data.
    """
    workdir.make(path)
    dims = dims_of(data)
    fingerprint = data.fingerprint()
    if (path / "config.json").exists():
        old = workdir.differences(workdir.read_config(path), config)
        if old:
            raise UserError(
                f"{path} holds a run with another configuration ({'; '.join(old)}); choose "
                f"another --workdir, or repeat the old settings to go on with it"
            )
        before = workdir.read_json(path / "run.json")
        if before["data_fingerprint"] != fingerprint:
            raise UserError(
                f"{path} was trained on other data than {config.data.path} holds now; choose "
                f"another --workdir"
            )
        return
    sizes = {
        "train_trials": len(data.train),
        "eval_trials": len(data.eval),
        "bins_observed": dims.bins_observed,
        "bins_forward": dims.bins_forward,
        "heldin": dims.heldin,
        "heldout": dims.heldout,
    }
    workdir.write_json(path / "run.json", workdir.provenance(fingerprint, sizes))
    workdir.write_json(path / "config.json", configs.to_mapping(config))


def _endings(members: Member, log: RunLog) -> list[str]:
    healthy, active = np.asarray(members.state.healthy), np.asarray(members.state.active)
    endings = [
        "diverged" if not h else "finished" if a else "stopped"
        for h, a in zip(healthy, active, strict=True)
    ]
    if not healthy.any():
        raise UserError(
            "every member diverged: the loss or its gradient was not finite; lower "
            "config.optimizer.learning_rate or lengthen config.optimizer.warmup_epochs"
        )
    best = np.asarray(members.selection.cobps.value)
    for k, ending in enumerate(endings):
        where = f"best co-bps {best[k]:.4f} after epoch {int(members.selection.cobps.epoch[k])}"
        log.say(f"member {k} {ending}" + (f", {where}" if np.isfinite(best[k]) else ""))
    return endings
