"""From a run or ensemble directory to rates, scores and the benchmark's submission file."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import files
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.console import tables
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import bootstrap, scoring
from stndt_jax.parallel import lifts
from stndt_jax.runs import directory, places
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import batches, population, setup, step
from stndt_jax.types import Dims, Float, NDArray, Params

Select = Literal["cobps", "loss", "last"]
# Ends the name of a score's interval.
INTERVAL = " interval"


class TrainedRun(NamedTuple):
    """A run directory, read."""

    path: Path
    config: Config
    data: SpikeData
    arch: step.Arch
    hyper: Hyper
    members: population.Member
    epoch: float

    @property
    def usable(self) -> list[int]:
        """Members whose weights were ever found good."""
        reached = np.asarray(self.members.selection.cobps.epoch) > 0
        return [int(k) for k in np.flatnonzero(reached)]

    def params(self, member: int, select: Select) -> Params:
        """One member's weights: best by co-bps, best by loss, or the last."""
        kept = {
            "cobps": self.members.selection.cobps.params,
            "loss": self.members.selection.loss.params,
            "last": self.members.state.params,
        }
        return jax.tree.map(lambda leaf: leaf[member], kept[select])


class TrainedModel(NamedTuple):
    """One member of a trained population, and its share of the mean rate."""

    trained: TrainedRun
    member: int
    weight: float

    @property
    def cobps(self) -> float:
        """Its co-bps on the trials that selected its weights; NaN where none did."""
        return float(self.trained.members.selection.cobps.value[self.member])


def read_data(config: Config, path: str = "", targets: str = "") -> SpikeData:
    """The recording a configuration names, or the one given instead.

    Raises:
      UserError: no path is given at all, or the file is not as it should be.
    """
    path = path or config.data.path
    if not path:
        raise UserError(
            "config.data.path is empty; name the recording's HDF5 file, for example "
            "--config.data.path=mc_maze.h5"
        )
    return hdf5.read(
        path,
        targets or config.data.targets or None,
        name=config.data.name or None,
        bin_ms=config.data.bin_ms or None,
    )


def load(
    path: Path, data_path: str = "", targets: str = "", data: SpikeData | None = None
) -> TrainedRun:
    """Reads a run directory and its data.

    Args:
      path: the run directory.
      data_path: the recording, where it has moved since.
      targets: a target file, where the configuration names none.
      data: the recording itself, where it has been read already.

    Raises:
      UserError: it is no run directory, or its data are gone or have changed.
    """
    config = directory.read_config(path)
    sizes = directory.read_run(path)["sizes"]
    data = data or read_data(config, data_path, targets)
    dims = batches.dims_of(data)
    for name in ("bins_observed", "bins_forward", "heldin", "heldout"):
        if sizes[name] != getattr(dims, name):
            raise UserError(
                f"{data_path or config.data.path} has {name} {getattr(dims, name)}, but {path} "
                f"was trained with {sizes[name]}; give the same recording with --data"
            )
    arch = setup.prepare(config, data).arch
    like, hyper = population.abstract(config, arch)
    checkpoints = Checkpoints(path / "checkpoints", repair=False)
    for sentence in checkpoints.found:
        warnings.warn(f"{sentence}, so an older one is used", stacklevel=2)
    at, members = checkpoints.load(like)
    return TrainedRun(path, config, data, arch, hyper, members, at / arch.steps_per_epoch)


def models(path: Path, data_path: str = "", targets: str = "") -> list[TrainedModel]:
    """The models that a directory's mean rate is made of, weights adding up to one.

    Args:
      path: a run directory, whose members weigh the same, or an ensemble directory.
      data_path: the recording, where it has moved since.
      targets: a target file, where the configuration names none.

    Raises:
      UserError: as :func:`load`, or no member was ever validated.
    """
    if not places.is_ensemble(path):
        trained = load(path, data_path, targets)
        if not trained.usable:
            raise UserError(f"no member of {path} has been validated yet; train it further")
        return [TrainedModel(trained, k, 1 / len(trained.usable)) for k in trained.usable]
    parts: dict[Path, TrainedRun] = {}
    found = []
    for part, member, weight in places.ensemble_members(path):
        if part not in parts:
            data = next((t.data for t in parts.values()), None)
            parts[part] = load(part, data_path, targets, data)
        if member not in parts[part].usable:
            raise UserError(
                f"{part} holds no member {member}, which {path / places.FILE} names; choose the "
                f"ensemble again with stndt ensemble"
            )
        found.append(TrainedModel(parts[part], member, weight))
    return found


def best_run(found: list[TrainedModel]) -> TrainedRun:
    """Of the runs that models belong to, the one with the member best on validation."""
    return max(found, key=lambda model: np.nan_to_num(model.cobps, nan=-np.inf)).trained


@functools.lru_cache(maxsize=16)
def _program(arch: step.Arch) -> Callable:
    """The compiled function of one architecture's rates, for however many runs have it."""
    return lifts.compiled(functools.partial(step.rates, arch))


def rates(model: TrainedModel, batch: step.Batch, select: Select) -> Float[NDArray, "R T N"]:
    """A model's rates, float32, of some trials, a batch of them in memory at a time.

    Expected counts per bin, held-in then held-out neurons, observed then forward bins.

    Args:
      model: whose ``weight`` plays no part.
      batch: the counts, and where they are known.
      select: which weights of the member.
    """
    trained, k = model.trained, model.member
    run, params = _program(step.inference(trained.arch)), trained.params(k, select)
    hyper = jax.tree.map(lambda leaf: leaf[k], trained.hyper)
    # Which counts are known, where the model has to know it.
    given = batch if trained.arch.dims.gaps else batch[:1]
    R = len(batch.counts)
    size = min(trained.config.train.batch, R)
    rates_RTN = np.empty(batch.counts.shape, np.float32)
    for first in range(0, R, size):
        # The last batch starts early enough to be a whole one: one shape, one program.
        rows = slice(min(first, R - size), min(first, R - size) + size)
        rates_RTN[rows] = run(params, hyper, *(jnp.asarray(x[rows]) for x in given))
    return rates_RTN


def submission(rates: Mapping[str, Float[NDArray, "R T N"]], dims: Dims) -> dict[str, NDArray]:
    """Rates of the ``train`` and ``eval`` trials under the benchmark's keys."""
    T, N = dims.bins_observed, dims.heldin
    found = {}
    for split, rates_RTN in rates.items():
        found[f"{split}_rates_heldin"] = rates_RTN[:, :T, :N]
        found[f"{split}_rates_heldout"] = rates_RTN[:, :T, N:]
        if dims.bins_forward:
            found[f"{split}_rates_heldin_forward"] = rates_RTN[:, T:, :N]
            found[f"{split}_rates_heldout_forward"] = rates_RTN[:, T:, N:]
    return found


def targets_for(trained: TrainedRun, path: str = "") -> dict[str, NDArray] | None:
    """The targets that a run can be scored against, if any."""
    path = path or trained.config.data.targets
    if path:
        return hdf5.read_targets(path, trained.config.data.name or None)
    return hdf5.targets_of(trained.data) if trained.data.eval.heldout is not None else None


class Evaluation(NamedTuple):
    """Scores, and the ensemble's rates as a submission."""

    scores: dict[str, Any]
    rates: dict[str, NDArray]


def evaluate(
    path: Path, *, data_path: str = "", targets_path: str = "", select: Select = "cobps"
) -> Evaluation:
    """Infers all rates, scores them and writes ``scores.json`` and ``submission.h5``.

    Scores are of the ensemble (mean rate over members), of the member best on validation,
    and, in brief, of every member. Scores in bits per spike have 95% bootstrap intervals over the
    evaluated trials.

    Args:
      path: the run or ensemble directory.
      data_path: the recording, where it has moved.
      targets_path: the target file, where the configuration names none.
      select: which weights of each member.

    Raises:
      UserError: something is missing or does not fit; the sentence says what.
    """
    found = models(path, data_path, targets_path)
    trained = found[0].trained
    data, targets, dims = trained.data, targets_for(trained, targets_path), trained.arch.dims
    names = _names(path, found)
    ranked = sorted(range(len(found)), key=lambda m: np.nan_to_num(-found[m].cobps))
    sets = {
        split: batches.batch_of(trials, dims)
        for split, trials in (("train", data.train), ("eval", data.eval))
    }
    best: dict[str, NDArray] = {}
    mean: dict[str, NDArray] = {}
    rows = []
    for m in ranked:
        own = {split: rates(found[m], batch, select) for split, batch in sets.items()}
        best = best or own
        for split, r in own.items():
            mean[split] = mean.get(split, np.float32(0)) + r * np.float32(found[m].weight)
        brief = {} if targets is None else _brief(submission(own, dims), targets)
        rows.append({**names[m], "validation co-bps": found[m].cobps, **brief})
    ensemble = submission(mean, dims)
    scoring.check_submission(ensemble, data)
    scores: dict[str, Any] = {
        "data": data.name,
        "weights": select,
        "members": sorted(rows, key=lambda row: row["member"]),
        "left out": [],
    }
    if not places.is_ensemble(path):
        scores["left out"] = sorted(set(range(trained.config.population)) - set(trained.usable))
    if targets is not None:
        one = _scored(submission(best, dims), targets)
        scores["best member"] = {"member": names[ranked[0]]["member"], **one}
        scores["ensemble"] = one if len(ranked) == 1 else _scored(ensemble, targets)
    files.write_json(path / "scores.json", scores)
    scoring.write_submission(path / "submission.h5", data.name, ensemble, bin_ms=data.bin_ms)
    return Evaluation(scores, ensemble)


def _names(path: Path, found: list[TrainedModel]) -> list[dict[str, Any]]:
    """What tells each model from the others: its number, and in an ensemble part and weight."""
    if not places.is_ensemble(path):
        return [{"member": model.member} for model in found]
    return [
        {"member": m, "part": f"{part.name}/{k}", "weight": weight}
        for m, (part, k, weight) in enumerate(places.ensemble_members(path))
    ]


def _scored(rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]) -> dict[str, Any]:
    """All scores, and the intervals of some."""
    scores = scoring.score(rates, targets, kind=scoring.kind_of(targets))
    return {**scores, **bootstrap.of_scores(rates, targets)}


def _brief(rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]) -> dict[str, float]:
    """The scores that need no fit: co-bps and fp-bps."""
    keys = [key for key in targets if key.startswith("eval_spikes")]
    return scoring.score(rates, {key: targets[key] for key in keys}, kind="none")


def table(scores: Mapping[str, Any]) -> str:
    """Scores as lines of text, one score a line, ensemble beside best member."""
    if "ensemble" not in scores:
        return "no targets are known for these trials: nothing was scored"
    ensemble, best = scores["ensemble"], scores["best member"]
    many = len(scores["members"]) > 1
    rows = []
    for name in (name for name in ensemble if not name.endswith(INTERVAL)):
        low, high = map(tables.number, ensemble.get(name + INTERVAL, (None, None)))
        interval = "" if low == "-" else f"{low} to {high}"
        shown = [ensemble[name], best[name]] if many else [ensemble[name]]
        rows.append([name, *map(tables.number, shown), interval])
    heads = ["score", *(("ensemble", "best member") if many else ("value",))]
    heads.append(f"95% interval{' of the ensemble' if many else ''}")
    lines = [tables.table(heads, rows)]
    if scores["left out"]:
        lines.append(f"left out, never validated: members {scores['left out']}")
    return "\n".join(lines)
