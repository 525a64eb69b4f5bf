"""Training as one pure function, for the transformations of JAX.

``fit = Fit(setup)`` maps the hyperparameters of one model, a ``Hyper`` of scalars, to the
trained model. It reads and writes no file, and whoever calls it chooses how the members of a
population share the devices::

    states = jax.vmap(fit)(hypers)                                  # one device
    states = jax.pmap(fit)(hypers)                                  # one member a device
    sharded = NamedSharding(Mesh(jax.devices(), "member"), P("member"))
    states = jax.jit(jax.vmap(fit), in_shardings=sharded)(hypers)   # members spread over devices

It computes what ``stndt_jax.train`` computes, without checkpoints, logs or resumption.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from stndt_jax.config.schema import Hyper
from stndt_jax.errors import UserError
from stndt_jax.training import population, step
from stndt_jax.training.population import Member
from stndt_jax.training.setup import Setup
from stndt_jax.training.step import Batch
from stndt_jax.types import Array, Float, Params

Trials = tuple[Batch, Batch | None]


class Trained(NamedTuple):
    """A model after training.

    Attributes:
      params: the weights with the best validation co-bps; the last ones where no trial selects.
      metrics: one value per validation, (V,): training losses (``train_...``), validation scores
        (``valid_...``), ``best_cobps``, ``best_epoch``, ``healthy``, ``active``, ``restarts``.
      member: everything else that changes in training: optimiser state, last weights, weights with
        the lowest validation loss.
    """

    params: Params
    metrics: dict[str, Float[Array, " V"]]
    member: Member


class Fit:
    """The training of one model: ``fit(hyper) -> Trained``, a pure function.

    Attributes:
      trials: the trials to train on, and those that select. Inside a ``jit`` of your own they
        become constants of the compiled program, which makes it large; give them as an argument
        there: ``jax.jit(jax.vmap(fit, in_axes=(0, None)))(hypers, fit.trials)``.
    """

    def __init__(self, setup: Setup) -> None:
        self.trials: Trials = (setup.train, setup.valid)
        self._arch, self._statistics = setup.arch, setup.statistics
        self._chunk = population.one_member(
            setup.config, setup.arch, setup.batch, setup.valid is not None
        )
        self._every = setup.config.train.validate_every * setup.arch.steps_per_epoch
        self._last = setup.config.train.epochs * setup.arch.steps_per_epoch
        self._jitted = jax.jit(self._train)

    def __call__(self, hyper: Hyper, trials: Trials | None = None) -> Trained:
        """Trains one model.

        Args:
          hyper: its hyperparameters, scalars.
          trials: ``self.trials``, by default.

        Raises:
          UserError: the hyperparameters are those of several models.
        """
        _check_scalars(hyper)
        return self._jitted(hyper, self.trials if trials is None else trials)

    def _train(self, hyper: Hyper, trials: Trials) -> Trained:
        def until_validation(member: Member, first: Array) -> tuple[Member, dict[str, Array]]:
            steps = jnp.minimum(self._every, self._last - first)
            return self._chunk(member, hyper, *trials, first, steps, jnp.bool_(True))

        firsts = jnp.arange(0, self._last, self._every, dtype=jnp.int32)
        start = population.init_member(self._arch, hyper, self._statistics)
        member, metrics = jax.lax.scan(until_validation, start, firsts)
        return Trained(member.selection.cobps.params, metrics, member)


class Predict:
    """Inference of one model: ``predict(params, hyper, counts) -> rates``, a pure function."""

    def __init__(self, setup: Setup) -> None:
        self._arch, self._dims = setup.arch, setup.dims

    def __call__(
        self, params: Params, hyper: Hyper, counts: Any, recorded: Any = None
    ) -> Float[Array, "B T N"]:
        """Infers the rates of a batch of trials.

        Args:
          params: weights of one model.
          hyper: its hyperparameters, of which the context window is read.
          counts: spike counts of held-in neurons in observed bins, (B, T_obs, N_in).
          recorded: false where a count was not recorded, of the same shape; by default all were.
            Read only if the recording of the model has gaps.

        Returns:
          Expected counts per bin of all neurons, held-in then held-out, in all bins, observed then
          forward.

        Raises:
          UserError: the counts have another shape.
        """
        counts, dims = jnp.asarray(counts), self._dims
        if counts.ndim != 3 or counts.shape[1:] != (dims.bins_observed, dims.heldin):
            raise UserError(
                f"counts have shape {counts.shape}; give (trials, {dims.bins_observed} observed "
                f"bins, {dims.heldin} held-in neurons)"
            )
        recorded = jnp.ones(counts.shape, bool) if recorded is None else jnp.asarray(recorded)
        pad = ((0, 0), (0, dims.bins_forward), (0, dims.heldout))
        return step.rates(self._arch, params, hyper, jnp.pad(counts, pad), jnp.pad(recorded, pad))


def _check_scalars(hyper: Any) -> None:
    """Refuses the hyperparameters of a whole population where those of one member are wanted.

    Raises:
      UserError: they are not scalars.
    """
    if not isinstance(hyper, Hyper):
        raise UserError(
            f"the training function takes a Hyper, not a {type(hyper).__name__}; "
            f"stndt_jax.hypers(config) makes them"
        )
    shape = jnp.shape(hyper.seed)
    if shape:
        raise UserError(
            f"the training function trains one model, but the hyperparameters have shape {shape}; "
            f"use jax.vmap(fit)(hypers), or jax.tree.map(lambda leaf: leaf[0], hypers)"
        )
