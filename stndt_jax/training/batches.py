"""From a recording to the arrays that a model is trained and selected on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.models.stndt import Statistics
from stndt_jax.training.step import Batch
from stndt_jax.types import Dims, Int, NDArray


def batch_of(trials: Trials, dims: Dims) -> Batch:
    """All counts of some trials, and where they are known."""
    return Batch(
        jnp.asarray(trials.counts(dims.bins_forward, dims.heldout)),
        jnp.asarray(trials.has_count(dims.bins_forward, dims.heldout)),
    )


def split(config: Config, data: SpikeData) -> tuple[Batch, Batch | None, str]:
    """Training trials, the trials that select the best model, and a sentence about them.

    The evaluated trials select where their held-out counts are known; otherwise a fraction
    of the training trials does, sampled by ``config.seed``; with fraction 0, none do.
    """
    dims = data.dims
    train = batch_of(data.train, dims)
    if data.eval.heldout is not None:
        select = "selects" if len(data.eval) == 1 else "select"
        trials = counted(len(data.eval), "evaluated trial")
        how = f"the {trials}, whose held-out counts are known, {select}"
        return train, batch_of(data.eval, dims), how
    found = chosen(config, data)
    if found is None:
        return train, None, "no trial selects: the last weights are kept"
    rest, held = found
    pick = lambda trials: jax.tree.map(lambda leaf: leaf[trials], train)  # noqa: E731
    how = f"{len(held)} of the {len(data.train)} training trials select{'s' * (len(held) == 1)}"
    return pick(rest), pick(held), how


def chosen(config: Config, data: SpikeData) -> tuple[Int[NDArray, " r"], Int[NDArray, " s"]] | None:
    """The training trials to train on and those that select, by their numbers, ascending.

    None if ``config.data.validation_fraction`` is 0.

    Raises:
      UserError: the fraction leaves no trial on one side.
    """
    R, fraction = len(data.train), config.data.validation_fraction
    if fraction == 0:
        return None
    held = round(R * fraction)
    if not 0 < held < R:
        raise UserError(
            f"config.data.validation_fraction is {fraction}, {held} of {R} training trials; "
            f"choose a fraction that leaves at least one trial on either side"
        )
    order = np.random.default_rng(config.seed).permutation(R)
    return np.sort(order[held:]), np.sort(order[:held])


def statistics(train: Batch, dims: Dims) -> Statistics:
    """What a model takes from its training trials before the first step.

    Means and deviations are those of the square roots of counts, over observed bins of held-in
    neurons. A neuron without a spike in these bins gets a deviation of 1, and a silent one the
    rate of half a spike in all its bins, so that neither a count nor a log-rate becomes infinite.
    """
    counts_RTN, has_count_RTN = (np.asarray(leaf) for leaf in train)
    T, N_in, N = dims.bins_observed, dims.heldin, dims.neurons
    known = has_count_RTN[:, :T, :N_in].astype(np.float64)
    roots = np.sqrt(counts_RTN[:, :T, :N_in].astype(np.float64))
    entries = np.maximum(known.sum(axis=(0, 1)), 1)
    mean = (roots * known).sum(axis=(0, 1)) / entries
    variance = (known * (roots - mean) ** 2).sum(axis=(0, 1)) / entries
    deviation = np.where(variance > 0, np.sqrt(variance), 1.0)
    spikes = (counts_RTN * has_count_RTN).sum(axis=(0, 1), dtype=np.float64)
    rate = np.maximum(spikes, 0.5) / np.maximum(has_count_RTN.sum(axis=(0, 1)), 1)
    rest = (0, N - N_in)
    return Statistics(
        mean=jnp.asarray(np.pad(mean, rest), jnp.float32),
        deviation=jnp.asarray(np.pad(deviation, rest, constant_values=1.0), jnp.float32),
        log_rate=jnp.asarray(np.log(rate), jnp.float32),
    )


def batch_size(config: Config, trials: int) -> int:
    """Trials in a batch: as configured, or all of them where there are fewer."""
    return min(config.train.batch, trials)
