"""How good a model is beside methods without a network, on the same trials.

Smoothing is always scored, the linear dynamical system where its extra (dynamax) is installed.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import baselines, latent_baselines, method_scores, scoring
from stndt_jax.runs import records
from stndt_jax.runs.score_names import label
from stndt_jax.training import batches
from stndt_jax.types import NDArray

_FILE = "baselines.json"
_LATENTS = 12
# What a target file may hold besides the recording, and scores depend on.
_MORE = {*hdf5.DECODE_MASKS, "train_jitter", "eval_jitter"}
TRY = (
    "try stndt tune, which searches on the training trials, or --config=auto if this is another "
    "setting; a recording of few trials, neurons or spikes may hold no more than the baseline finds"
)
# Above the last weights by this much, the best ones show that training went on for too long.
_OVERFIT = 0.02


class Compared(NamedTuple):
    """The baselines of a recording.

    Attributes:
      scores: of every baseline that fits the recording.
      left_out: why any other is not scored.
    """

    scores: dict[str, dict[str, float]]
    left_out: dict[str, str]


def names() -> list[str]:
    """The baselines that can be scored here."""
    return ["smoothing", *["lds"] * (importlib.util.find_spec("dynamax") is not None)]


def scores(data: SpikeData, targets: Mapping[str, NDArray] | None = None) -> Compared:
    """Scores the baselines.

    Args:
      data: the recording, with the held-out counts of its evaluated trials.
      targets: what to score against; by default what the recording itself holds.
    """
    targets = hdf5.targets_of(data) if targets is None else targets
    kind = scoring.kind_of(targets)
    found, left_out = {}, {}
    for name in names():
        try:
            found[name] = scoring.score(_rates(name, data), targets, kind=kind)
        except UserError as error:
            # Too few trials or neurons for this method; the model may do without it.
            left_out[name] = str(error)
    return Compared(found, left_out)


def _rates(name: str, data: SpikeData) -> dict[str, Any]:
    if name == "smoothing":
        with progress.task("baseline: smoothing"):
            return baselines.smoothing(data, sd_ms=None if len(data.train) > 1 else 50.0)
    with progress.task("baseline: linear dynamical system"):
        return latent_baselines.lds(data, latents=min(_LATENTS, data.heldin))


def selecting(config: Config, data: SpikeData) -> SpikeData | None:
    """The recording as a training run sees it: its evaluated trials are those that select.

    None if no trial selects.
    """
    if data.eval.heldout is not None:
        return data
    chosen = batches.chosen(config, data)
    if chosen is None:
        return None
    rest, held = chosen
    return replace(data, train=data.train.subset(rest), eval=data.train.subset(held))


def of_training(
    path: Path, config: Config, data: SpikeData, row: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Says the co-bps of a run that has just been trained, beside the baselines.

    Args:
      path: the run directory, which keeps the baselines' scores.
      config: of the run.
      data: its recording.
      row: the last validation, from ``metrics.jsonl``.
      say: called with each sentence.
    """
    if data.heldout == 0:
        say("the recording has no held-out neurons, so that there is no co-bps to compare")
        return
    seen = selecting(config, data)
    best, last = (_mean(row.get(key)) for key in ("best_cobps", "valid_cobps"))
    if seen is None or best is None or last is None:
        say("no trial was held back, so that nothing was scored; score other trials with evaluate")
        return
    kept = _kept(path, seen)
    found = {name: values["co_bps"] for name, values in kept.scores.items() if "co_bps" in values}
    members = f", mean of {config.population} members" if config.population > 1 else ""
    number = len(seen.eval)
    trials = counted(number, "evaluated trial")
    if seen is not data:
        trials = f"{counted(number, 'training trial')} held back"
    others = "".join(f"; {label(name)} {value:.4f}" for name, value in found.items())
    say(
        f"co-bps on the {trials}{members}: {last:.4f} with the last "
        f"weights, {best:.4f} with the best, which were chosen on these trials{others}"
    )
    for name, reason in kept.left_out.items():
        say(f"{label(name)} is not scored: {reason}")
    words = below(last, found)
    if best - last > _OVERFIT:
        overfit = (
            f"the last weights are {best - last:.4f} below the best: the model has learned the "
            f"noise of its training trials; take fewer epochs or more dropout"
        )
        words = f"{words}; {overfit}" if words else overfit
    if words:
        say(words)
    _keep(path, verdict=words)


def below(cobps: float, others: Mapping[str, float]) -> str:
    """A sentence if a model is below a baseline or knows nothing; else empty."""
    better = [label(name) for name, value in others.items() if value > cobps]
    if better:
        return f"the model is below {' and '.join(better)} here: {TRY}"
    if cobps < 0:
        return f"the model predicts worse than the mean rate of every neuron would: {TRY}"
    return ""


def scored(path: Path) -> dict[str, float]:
    """The co-bps of the baselines that a run directory keeps, of the trials scored last."""
    kept = _read(path).get("scores", {})
    last = list(kept.values())[-1] if kept else {}
    return {name: values["co_bps"] for name, values in last.items() if "co_bps" in values}


def beside(path: Path, data: SpikeData, targets: Mapping[str, NDArray] | None = None) -> None:
    """Scores the baselines on a run's evaluated trials and keeps them beside its scores.

    Args:
      path: the run or ensemble directory.
      data: the recording; without held-out counts of its evaluated trials nothing is done.
      targets: what the run was scored against, if a target file holds more than the recording:
        decode masks or jitter, which change the scores.
    """
    if data.eval.heldout is None:
        return
    if targets is not None and not _MORE & targets.keys():
        targets = None
    for name, found in _kept(path, data, targets).scores.items():
        method_scores.add(path, name, found)


def verdict(path: Path, found: Mapping[str, Any]) -> str:
    """A sentence if a run's scores are below those of a baseline kept beside them; else empty.

    Args:
      path: the run or ensemble directory.
      found: its scores, as ``scores.json`` has them; of a run that was not evaluated yet, the
        sentence at the end of its training is returned.
    """
    own = found.get("ensemble", {}).get("co_bps")
    if not found:
        return str(_read(path).get("verdict", ""))
    others = {name: kept for name, kept in method_scores.read(path).items() if name in names()}
    cobps = {name: kept["co_bps"] for name, kept in others.items() if "co_bps" in kept}
    return "" if own is None else below(own, cobps)


def _kept(path: Path, data: SpikeData, targets: Mapping[str, NDArray] | None = None) -> Compared:
    """The baselines: those kept in the directory, otherwise scored now and kept.

    Warns:
      UserWarning: the file that keeps them is damaged or cannot be written. It only saves scoring
        them again.
    """
    key = f"{data.fingerprint()} {' '.join(names())}"
    key += "" if targets is None else f" {', '.join(sorted(_MORE & targets.keys()))}"
    kept = _read(path)
    scored, left_out = dict(kept.get("scores", {})), dict(kept.get("left_out", {}))
    if key not in scored:
        scored[key], left_out[key] = scores(data, targets)
        _keep(path, scores=scored, left_out=left_out)
    return Compared(dict(scored[key]), dict(left_out.get(key, {})))


def _read(path: Path) -> dict[str, Any]:
    """What a directory keeps of the baselines; nothing, with a warning, if it is damaged."""
    file = path / _FILE
    try:
        return dict(records.read(file, "remove it")) if file.exists() else {}
    except UserError as error:
        warnings.warn(str(error), stacklevel=2)
        return {}


def _keep(path: Path, **values: Any) -> None:
    """Adds to what a directory keeps of the baselines; it may do without."""
    kept = {key: value for key, value in _read(path).items() if key != "format"}
    try:
        records.write(path / _FILE, kept | values)
    except UserError as error:
        warnings.warn(str(error), stacklevel=2)


def _mean(values: Any) -> float | None:
    known = [value for value in np.atleast_1d(np.array(values, float)) if np.isfinite(value)]
    return float(np.mean(known)) if known else None
