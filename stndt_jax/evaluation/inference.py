"""From weights and counts to rates, a batch of trials in memory at a time.

Every number that is inferred passes through here: rates for scores, figures and ensembles, and
whatever else is computed from a trained network over batches (:func:`program`, :func:`batches`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from stndt_jax.console import progress
from stndt_jax.data.trials import Trials
from stndt_jax.models.stndt import layers_traced_once
from stndt_jax.parallel import lifts
from stndt_jax.training import step
from stndt_jax.training.batches import batch_of
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Array, Bool, Float, NDArray, UInt


@functools.lru_cache(maxsize=64)
def program(fn: Callable, arch: step.Arch, *static: int) -> Callable:
    """``fn(arch, *static, ...)`` compiled, once for all runs of one architecture.

    Args:
      fn: a pure function at the top level of a module.
      arch: passed through :func:`step.inference`, so that runs that differ only in what rates
        do not depend on share a program.
      static: further arguments that are compiled in.
    """
    given = functools.partial(fn, step.inference(arch), *static)
    return lifts.compiled(layers_traced_once()(given))


def batches(
    model: TrainedModel, trials: Trials | step.Batch, most: int | None = None
) -> Iterator[tuple[UInt[Array, "B T N"], Bool[Array, "B T N"], Bool[NDArray, " B"]]]:
    """Trials in batches of one size, the last one filled up with copies of the last trial.

    Args:
      model: whose training batch is the largest size.
      trials: trials of a recording, or counts and where they are known.
      most: trials in a batch at most.

    Yields:
      Counts, where they are known, and which of the trials are not copies.
    """
    if isinstance(trials, Trials):
        trials = batch_of(trials, model.trained.arch.dims)
    counts_RTN, has_count_RTN = (np.asarray(leaf) for leaf in trials)
    R = len(counts_RTN)
    size = max(1, min(most or R, model.trained.config.train.batch, R))
    with progress.task("trials", R) as shown:
        for first in range(0, R, size):
            shown.at(first)
            chosen_B = np.arange(first, first + size)
            real_B = chosen_B < R
            chosen_B = np.where(real_B, chosen_B, R - 1)
            yield jnp.asarray(counts_RTN[chosen_B]), jnp.asarray(has_count_RTN[chosen_B]), real_B


def rates(
    model: TrainedModel, trials: Trials | step.Batch, select: SelectedBy = "cobps"
) -> Float[NDArray, "R T N"]:
    """One model's rates: expected counts per bin, float32.

    Args:
      model: its ``weight`` is not applied.
      trials: as for :func:`batches`; only held-in neurons' observed bins are read.
      select: which weights of the member.

    Returns:
      Rates of held-in then held-out neurons in observed then forward bins.
    """
    run = program(step.rates, model.trained.arch)
    params, hyper = model.params(select), model.hyper
    rows = [
        np.asarray(run(params, hyper, counts_BTN, has_count_BTN))[real_B]
        for counts_BTN, has_count_BTN, real_B in batches(model, trials)
    ]
    return np.concatenate(rows)


def mean_rates(
    models: Sequence[TrainedModel], trials: Trials | step.Batch, select: SelectedBy = "cobps"
) -> Float[NDArray, "R T N"]:
    """Mean rate over models by their weights; arguments and result as :func:`rates`."""
    return np.asarray(sum(np.float32(m.weight) * rates(m, trials, select) for m in models))
