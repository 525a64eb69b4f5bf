"""A population of models in training, and the compiled chunk of it."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config import schema
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.models.stndt import Statistics, constants
from stndt_jax.parallel import lifts, pmap
from stndt_jax.training import best_weights, optim, step
from stndt_jax.training.packing import Packing
from stndt_jax.training.step import Batch, State
from stndt_jax.types import Array, NDArray, Params


class Member(NamedTuple):
    """All that changes while one model trains; all that a checkpoint holds.

    ``totals`` are the sums of training metrics since the last validation, ``restarts`` counts
    how often the member has begun again after diverging.
    """

    state: State
    selection: best_weights.Selection
    totals: dict[str, Array]
    restarts: Array


class Initialisation(NamedTuple):
    """An initialisation from other weights.

    Attributes:
      apply: puts the weights into newly initialised members.
      frozen: a tree like the parameters, true where they are to stay as they are.
      sentence: says so in the log.
    """

    apply: Callable[[Member], Member]
    frozen: Params
    sentence: str


def init_member(arch: step.Arch, hyper: Hyper, statistics: Statistics | None = None) -> Member:
    """The initialisation of one member, a pure function."""
    state = step.init(arch, hyper, statistics)
    return Member(
        state=state,
        selection=best_weights.init(state.params),
        totals=step.no_metrics(),
        restarts=jnp.int32(0),
    )


def make_init(arch: step.Arch, grid: Any = None) -> Callable[..., Member]:
    """The initialisation of a population, on ``grid``.

    Returns:
      ``init(hyper (K,), statistics) -> members``; the statistics of the training trials are shared,
      and may be None.
    """

    def init(hyper: Hyper, statistics: Statistics | None = None) -> Member:
        def one(hyper: Hyper) -> Member:
            return init_member(arch, hyper, statistics)

        # One member after the other, so that the weights do not depend on the devices.
        return lifts.over_members(one, vmapped=False)(hyper)

    return lifts.compiled(init, out_shardings=lifts.of_members(grid))


def only(members: Member, keep: NDArray) -> Member:
    """The members, of which those not kept train no more: they stay as they are."""
    active = members.state.active
    still = jax.device_put(np.asarray(active) & keep, active.sharding)
    return members._replace(state=members.state._replace(active=still))


def abstract(config: Config, arch: step.Arch) -> tuple[Member, Hyper]:
    """Shapes and types of a population's members and hyperparameters; computes nothing."""
    hyper = jax.tree.map(jnp.asarray, schema.hyper(config))
    return jax.eval_shape(make_init(arch), hyper), hyper


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
      grid: devices, from ``lifts.mesh``.
      frozen: a tree like the parameters, true where they are to stay as they are.

    Returns:
      ``chunk(members, hyper, train, valid, first, steps, report) -> (members, metrics)``; the
      members given are consumed. With ``report``, which stands at the end of an epoch, the
      members are validated and selected and the metrics say how they did, one entry a member;
      without, all but ``healthy`` and ``active`` are NaN.
    """
    on_pmap = grid is not None and config.parallel.engine == "pmap"
    if on_pmap:
        arch = dataclasses.replace(arch, shard=pmap.shard(grid))
    # The devices of one member: none where each has members of its own.
    own = grid if lifts.together(grid) and not on_pmap else None
    chunk = one_member(config, arch, batch, validates, own, frozen)
    transform = pmap.over_members if on_pmap else lifts.over_members
    return lifts.compiled(
        transform(chunk, shared=5, grid=grid),
        donate_argnums=0,
        out_shardings=(lifts.of_members(grid), lifts.of_all(grid)),
    )


def one_member(
    config: Config,
    arch: step.Arch,
    batch: int,
    validates: bool,
    grid: Any = None,
    frozen: Params | None = None,
) -> Callable[..., tuple[Member, dict[str, Array]]]:
    """The chunk of one member, neither compiled nor transformed; arguments as ``make_chunk``."""
    program = _Chunk(
        arch=arch,
        batch=batch,
        validates=validates,
        patience=config.train.patience,
        restarts=config.train.restarts if config.train.on_divergence == "restart" else 0,
        frozen=frozen,
        grid=grid,
    )

    def chunk(member: Member, hyper: Hyper, *rest: Any) -> tuple[Member, dict[str, Array]]:
        return program.run(member, hyper, *rest)

    return chunk


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A chunk of one member's training, a pure function; ``make_chunk`` explains the fields."""

    arch: step.Arch
    batch: int
    validates: bool
    patience: int
    restarts: int
    frozen: Params | None
    grid: Any

    def run(
        self,
        member: Member,
        hyper: Hyper,
        train: Batch,
        valid: Any,
        first: Array,
        steps: Array,
        report: Array,
    ) -> tuple[Member, dict[str, Array]]:
        """Trains, and validates where ``report`` says so."""
        hyper = _after_restarts(hyper, member.restarts)
        trained = member.state.active
        state, totals = jax.lax.cond(
            trained,
            lambda state, totals: self._steps(state, totals, hyper, train, first, steps),
            lambda state, totals: (state, totals),
            member.state,
            member.totals,
        )
        member = member._replace(state=state, totals=totals)
        validate = functools.partial(
            self._validate, hyper=hyper, valid=valid, trained=trained, done=first + steps
        )
        shapes = jax.eval_shape(validate, member)[1]

        def unvalidated(member: Member) -> tuple[Member, dict[str, Array]]:
            now = {"healthy": member.state.healthy, "active": member.state.active}
            return member, _nan(shapes) | now

        return jax.lax.cond(report, validate, unvalidated, member)

    @functools.cached_property
    def evaluate(self) -> Callable:
        """Scores of a batch, traced once however many branches and shapes need them."""
        return jax.jit(functools.partial(step.evaluate_step, self.arch), inline=True)

    def _steps(
        self, state: State, totals: dict[str, Array], *args: Any
    ) -> tuple[State, dict[str, Array]]:
        """Steps number ``first`` to ``first + steps - 1``, and the sums of their metrics."""
        still = constants(state.params)
        if self.frozen is not None:
            still = jax.tree.map(operator.or_, still, self.frozen)
        packing = Packing(state.params, still)
        one_step = functools.partial(step.packed_step, self.arch, packing)
        run = lifts.over_steps(one_step, _order, self.arch.steps_per_epoch, self.batch, self.grid)
        packed, totals = run(packing.pack_all(state), totals, *args)
        return packing.unpack_all(packed, state), totals

    def _validate(
        self, member: Member, *, hyper: Hyper, valid: Any, trained: Array, done: Array
    ) -> tuple[Member, dict[str, Array]]:
        """One validation of a member, ``trained`` if it was active in this chunk."""
        totals, epoch = member.totals, done // self.arch.steps_per_epoch
        metrics = {f"train_{n}": totals[n] / totals["steps"] for n in step.METRICS}
        if self.validates:
            scores = self._scores(member.state.params, hyper, valid, trained)
            metrics |= {f"valid_{name}": value for name, value in scores.items()}
            member = self._select(member, scores, epoch)
        else:
            # The weights of a member that has ended are those of the epoch after which it did.
            reached = jnp.where(trained, epoch, member.selection.cobps.epoch)
            selection = best_weights.last(member.state.params, reached)
            member = member._replace(selection=selection)
        if self.restarts:
            member = self._restarted(member, done)
        member = member._replace(totals=step.no_metrics())
        state, chosen = member.state, member.selection.cobps
        return member, metrics | {
            "healthy": state.healthy,
            "active": state.active,
            "restarts": member.restarts,
            "best_cobps": chosen.value,
            "best_epoch": chosen.epoch,
        }

    def _scores(self, params: Params, hyper: Hyper, valid: Any, trained: Array) -> dict[str, Array]:
        """Validation scores; NaN for a member that was not trained."""
        scores_of = lifts.over_batches(self.evaluate, self.batch)

        def values() -> dict[str, Array]:
            return scores_of(params, hyper, valid).values()

        # Under vmap both branches run; one member after the other, a stopped one costs nothing.
        shapes = jax.eval_shape(values)
        return jax.lax.cond(trained, values, lambda: _nan(shapes))

    def _select(self, member: Member, scores: dict[str, Array], epoch: Array) -> Member:
        """Keeps the weights if they are the best so far; stops a member without improvement."""
        selection, active = best_weights.update(
            member.selection,
            member.state.params,
            scores["cobps"],
            scores["masked_loss"],
            epoch,
            member.state.active,
            self.patience,
        )
        return member._replace(selection=selection, state=member.state._replace(active=active))

    def _restarted(self, member: Member, done: Array) -> Member:
        """A member that diverged begins again from its best weights, a limited number of times."""
        again = ~member.state.healthy & (member.restarts < self.restarts)
        fresh = State(
            params=member.selection.cobps.params,
            opt_state=optim.init(self.arch.optimizer, member.state.params),
            step=done,
            healthy=jnp.bool_(True),
            active=jnp.bool_(True),
        )
        state = jax.tree.map(lambda a, b: jnp.where(again, a, b), fresh, member.state)
        return member._replace(state=state, restarts=member.restarts + again)


def _order(hyper: Hyper, epoch: Array, trials: int) -> Array:
    return jax.random.permutation(step.key(hyper.seed, "order", epoch), trials)


def _after_restarts(hyper: Hyper, restarts: Array) -> Hyper:
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
