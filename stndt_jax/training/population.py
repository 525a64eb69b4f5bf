"""A population of models in training, and the compiled chunk of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Config, Hyper
from stndt_jax.parallel import lifts
from stndt_jax.parallel import pmap as pmapped
from stndt_jax.training import best_weights as selection
from stndt_jax.training import optim, step
from stndt_jax.training.step import Batch, State
from stndt_jax.types import Array, NDArray, Params


class Member(NamedTuple):
    """All that changes while one model trains; all that a checkpoint holds.

    ``totals`` are the sums of training metrics since the last validation, ``restarts`` counts
    how often the member has begun again after diverging.
    """

    state: State
    selection: selection.Selection
    totals: dict[str, Array]
    restarts: Array


class Start(NamedTuple):
    """A start from other weights: what they make of fresh members, what stays, and in words."""

    begin: Callable[[Member], Member]
    frozen: Params
    words: str


def make_init(arch: step.Arch, grid: Any = None) -> Callable[[Hyper], Member]:
    """The start of a population: ``init(hyper (K,)) -> members``, placed on ``grid``."""

    def init(hyper: Hyper) -> Member:
        state = step.init(arch, hyper)
        return Member(state, selection.init(state.params), step.no_metrics(), jnp.int32(0))

    # Drawn one after the other, because the draw must not depend on the devices.
    drawn = lifts.over_members(init, together=False)
    return lifts.compiled(drawn, out_shardings=lifts.of_members(grid))


def only(members: Member, keep: NDArray) -> Member:
    """The members, of which those not kept train no more: they stay as they are."""
    active = members.state.active
    still = jax.device_put(np.asarray(active) & keep, active.sharding)
    return members._replace(state=members.state._replace(active=still))


def _holding(run: Callable, frozen: Params) -> Callable:
    """A training step that leaves the parameters marked in ``frozen`` as they are."""

    def held(state: State, hyper: Hyper, batch: Batch) -> tuple[State, dict[str, Array]]:
        trained, metrics = run(state, hyper, batch)
        params = jax.tree.map(
            lambda still, old, new: old if still else new, frozen, state.params, trained.params
        )
        return trained._replace(params=params), metrics

    return held


def make_chunk(
    config: Config,
    arch: step.Arch,
    batch: int,
    validates: bool,
    grid: Any = None,
    frozen: Params | None = None,
) -> Any:
    """The compiled chunk of training: some steps, then perhaps a validation.

    Args:
      config: of the run.
      arch: static part of it.
      batch: trials in a batch.
      validates: there are trials that select.
      grid: devices, from ``parallel.mesh``.
      frozen: a tree like the parameters, true where they are to stay as they are.

    Returns:
      ``chunk(members, hyper, train, valid, first, steps, report) -> (members, metrics)``; the
      members given are consumed. With ``report``, which stands at the end of an epoch, the
      members are validated and selected and the metrics say how they did, one entry a member;
      without, all but ``healthy`` and ``active`` are NaN.
    """
    pmap = grid is not None and config.parallel.engine == "pmap"
    if pmap:
        arch = dataclasses.replace(arch, shard=pmapped.shard(grid))
    one_step: Callable = functools.partial(step.train_step, arch)
    if frozen is not None:
        one_step = _holding(one_step, frozen)
    side = None if pmap else grid
    steps_of = lifts.over_steps(one_step, _order, arch.steps_per_epoch, batch, side)
    scores_of = lifts.over_batches(functools.partial(step.evaluate_step, arch), batch)
    limit = config.train.restarts if config.train.on_divergence == "restart" else 0

    def judged(
        member: Member, hyper: Hyper, valid: Any, trained: Array, done: Array
    ) -> tuple[Member, dict[str, Array]]:
        """One validation of a member, ``trained`` if it was active in this chunk."""
        state, totals, epoch = member.state, member.totals, done // arch.steps_per_epoch
        metrics = {f"train_{n}": totals[n] / totals["steps"] for n in step.METRICS}
        chosen, active = member.selection, state.active
        if validates:
            known = functools.partial(scores_of, state.params, hyper, valid)
            shapes = jax.eval_shape(lambda: known().values())
            # Under vmap both sides run; one member after the other, a stopped one costs nothing.
            scores = jax.lax.cond(trained, lambda: known().values(), lambda: _nan(shapes))
            metrics |= {f"valid_{n}": value for n, value in scores.items()}
            chosen, active = selection.update(
                chosen,
                state.params,
                scores["cobps"],
                scores["masked_loss"],
                epoch,
                active,
                config.train.patience,
            )
        else:
            # The weights of a member that has ended are those of the epoch after which it did.
            chosen = selection.last(state.params, jnp.where(trained, epoch, chosen.cobps.epoch))
        state, restarts = state._replace(active=active), member.restarts
        if limit:
            again = ~state.healthy & (restarts < limit)
            fresh = State(
                chosen.cobps.params,
                optim.transformation(arch.optimizer).init(state.params),
                done,
                jnp.bool_(True),
                jnp.bool_(True),
            )
            state = jax.tree.map(lambda a, b: jnp.where(again, a, b), fresh, state)
            restarts = restarts + again
        metrics |= {"healthy": state.healthy, "active": state.active, "restarts": restarts}
        metrics |= {"best_cobps": chosen.cobps.value, "best_epoch": chosen.cobps.epoch}
        return Member(state, chosen, step.no_metrics(), restarts), metrics

    def chunk(
        member: Member,
        hyper: Hyper,
        train: Batch,
        valid: Any,
        first: Array,
        steps: Array,
        report: Array,
    ) -> tuple[Member, dict[str, Array]]:
        hyper = _tempered(hyper, member.restarts)
        trained = member.state.active
        state, totals = jax.lax.cond(
            trained,
            lambda state, totals: steps_of(state, totals, hyper, train, first, steps),
            lambda state, totals: (state, totals),
            member.state,
            member.totals,
        )
        member = Member(state, member.selection, totals, member.restarts)
        judge = functools.partial(
            judged, hyper=hyper, valid=valid, trained=trained, done=first + steps
        )
        shapes = jax.eval_shape(judge, member)[1]

        def unjudged(member: Member) -> tuple[Member, dict[str, Array]]:
            now = {"healthy": member.state.healthy, "active": member.state.active}
            return member, _nan(shapes) | now

        return jax.lax.cond(report, judge, unjudged, member)

    lift = pmapped.over_members if pmap else lifts.over_members
    return lifts.compiled(
        lift(chunk, shared=5, grid=grid),
        donate_argnums=0,
        out_shardings=(lifts.of_members(grid), lifts.of_all(grid)),
    )


def _order(hyper: Hyper, epoch: Array, trials: int) -> Array:
    return jax.random.permutation(step.key(hyper.seed, "order", epoch), trials)


def _tempered(hyper: Hyper, restarts: Array) -> Hyper:
    """The hyperparameters after some restarts: half the learning rate, other noise, each time."""
    return hyper._replace(
        seed=hyper.seed + restarts * 1_000_003,
        learning_rate=hyper.learning_rate * 0.5**restarts,
    )


def _nan(shapes: Any) -> Any:
    """NaN for numbers, zero for the rest."""

    def fill(leaf: Any) -> Array:
        number = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.full(leaf.shape, jnp.nan if number else 0, leaf.dtype)

    return jax.tree.map(fill, shapes)
