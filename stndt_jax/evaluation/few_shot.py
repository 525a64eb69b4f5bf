"""Few-shot co-smoothing: how well held-out neurons are read from a model's latents.

A decoder from the latents to the held-out neurons is fitted to k training trials and scored by
co-bps on the evaluated ones. Latents that describe the population and little else need few trials.
Latents with further, unneeded dimensions need many, though the model's own co-bps is the same.

The latents are the input of the model's decoder: its last layer after the final norm. The model
itself was trained on the held-out neurons; to avoid that, train it on a recording without them.

Source: K. Dabholkar and O. Barak, When predict can also explain: few-shot prediction to select
better neural latents, 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from stndt_jax.config.schema import Hyper
from stndt_jax.console import tables
from stndt_jax.data.trials import Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import baselines, inference
from stndt_jax.models.layers import FINAL_NORMS
from stndt_jax.runs import records
from stndt_jax.runs.score_names import label
from stndt_jax.training import step
from stndt_jax.training.metrics import BitsPerSpike
from stndt_jax.training.restore import SelectedBy, TrainedModel, TrainedRun
from stndt_jax.types import Array, Bool, Float, NDArray, Params, UInt


def latents(
    arch: step.Arch,
    params: Params,
    hyper: Hyper,
    counts: UInt[Array, "B T N"],
    has_count: Bool[Array, "B T N"],
) -> Float[Array, "B T D"]:
    """The last layer after the final norm, from held-in neurons' observed bins, no dropout."""
    _, out = step.forward(arch, params, hyper, counts, has_count)
    last_BTD = out["layers"][-1]
    norm = FINAL_NORMS[arch.model.final_norm](last_BTD.shape[-1])
    return jnp.asarray(norm.apply({"params": params["final_norm"]}, last_BTD))


def score(
    trained: TrainedRun,
    shots: Sequence[int],
    *,
    repeats: int = 5,
    alpha: float = 1e-2,
    select: SelectedBy = "cobps",
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Co-bps of held-out neurons read from the best member's latents after k trials.

    Args:
      trained: a run, with the held-out counts of the evaluated trials.
      shots: numbers of trials, k.
      repeats: random choices of k training trials, over which the score is averaged.
      alpha: L2 penalty of the Poisson regression on standardised latents.
      select: which weights of the member.
      seed: of the choices.

    Returns:
      By k: ``co_bps``, the mean over repeats, and ``sd``, its standard deviation, bits per spike.

    Raises:
      UserError: a number of trials is too large, or there are no counts to score against.
    """
    data, dims = trained.data, trained.arch.dims
    if data.eval.heldout is None or not dims.heldout:
        raise UserError(
            f"few-shot co-smoothing needs the held-out counts of {data.name}'s evaluated trials; "
            f"give --targets"
        )
    for k in shots:
        if not 0 < k <= len(data.train):
            raise UserError(
                f"--shots {k} is not between 1 and the {len(data.train)} training trials of "
                f"{data.name}"
            )
    values = np.asarray(trained.members.selection.cobps.value)
    best = max(trained.usable, key=lambda k: np.nan_to_num(values[k], nan=-np.inf))
    z_train, z_eval = (_latents(trained, best, t, select) for t in (data.train, data.eval))
    T, N = dims.bins_observed, dims.heldin
    place = np.s_[:, :T, N:]
    y_train, y_eval = (
        t.counts(dims.bins_forward, dims.heldout)[place].astype(float)
        for t in (data.train, data.eval)
    )
    known_train, known_eval = (
        t.has_count(dims.bins_forward, dims.heldout)[place] for t in (data.train, data.eval)
    )
    rng = np.random.default_rng(seed)
    found = {}
    for k in shots:
        reached = []
        for _ in range(repeats):
            rows = rng.choice(len(z_train), k, replace=False)
            centre, spread = z_train[rows].mean(axis=(0, 1)), z_train[rows].std(axis=(0, 1)) + 1e-6
            x_train, x_eval = ((z - centre) / spread for z in (z_train[rows], z_eval))
            decoder = baselines.regress(x_train, y_train[rows], known_train[rows], alpha)
            sums = BitsPerSpike.of(
                *(jnp.asarray(v) for v in (decoder.rates(x_eval), y_eval, known_eval))
            )
            reached.append(float(sums.value()))
        found[str(k)] = {"co_bps": float(np.mean(reached)), "sd": float(np.std(reached))}
    return found


def keep(path: Path, found: dict[str, dict[str, float]]) -> None:
    """Adds few-shot scores to ``scores.json``.

    Args:
      path: run or ensemble directory that has been evaluated.
      found: as :func:`score` returns it.

    Raises:
      UserError: the directory was not evaluated, or the file cannot be written.
    """
    scores = records.read(path / "scores.json", f"run: stndt evaluate {path}")
    records.write(path / "scores.json", {**scores, "few_shot": found})


def _latents(trained: TrainedRun, member: int, trials: Trials, select: SelectedBy) -> NDArray:
    """Latents of observed bins, (R, T_obs, D), a batch at a time."""
    model = TrainedModel(trained, member, 1.0)
    run = inference.program(latents, trained.arch)
    params, hyper = model.params(select), model.hyper
    rows = [
        np.asarray(run(params, hyper, counts_BTN, has_count_BTN))[real_B]
        for counts_BTN, has_count_BTN, real_B in inference.batches(model, trials)
    ]
    return np.concatenate(rows)[:, : trained.arch.dims.bins_observed].astype(np.float64)


def table(found: dict[str, dict[str, float]]) -> str:
    """Scores as lines of text, one line per number of trials."""
    rows = [[k, tables.number(row["co_bps"]), tables.number(row["sd"])] for k, row in found.items()]
    return tables.table(["trials", label("co_bps"), "sd"], rows)
