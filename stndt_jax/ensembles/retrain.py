"""Selected models trained again on all trials, for the test phase of the benchmark.

The output directory is an ensemble like any other, and has also

``retrain.json``     which models are trained again, on what, and for how many epochs
``trained/00, ...``  the new runs, one for each of the old ones
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.ensembles import build, candidates
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, ensemble_directory, recording, records
from stndt_jax.training import loop as training
from stndt_jax.training import restore
from stndt_jax.training.restore import TrainedModel, TrainedRun
from stndt_jax.types import Int, NDArray

FILE = "retrain.json"
TRAINED = "trained"


def retrain(
    source: Path,
    data_path: str,
    out: Path,
    *,
    old_data: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Trains the models of a run or an ensemble again, from scratch, on another recording.

    Every model keeps its settings and its weight in the mean rate. It trains for as many epochs as
    gave its best weights, with the learning rate schedule of the whole run. No trial is kept back
    for validation. The same call resumes an interrupted one.

    Args:
      source: the run or ensemble.
      data_path: recording of the same neurons and bins, whose evaluated trials are not trained on.
      out: directory to write, or to continue.
      old_data: the recording of ``source``, if it has moved.
      say: called with sentences on what is trained.

    Returns:
      The content of ``retrain.json``.

    Raises:
      UserError: the recording has other neurons or bins, or ``out`` holds something else.
      Interrupted: as ``loop.train``.
    """
    models = restore.models(source, old_data)
    runs = list({model.trained.path: model.trained for model in models}.values())
    path = str(Path(data_path).absolute())
    configs = [_on(run.config, path) for run in runs]
    data = recording.read(configs[0])
    _check(data, path, runs[0])
    about = _about(models, runs, data)
    _begin(out, source, about)
    for number, (run, config) in enumerate(zip(runs, configs, strict=True)):
        say(f"training run {number} of {len(runs)} again, on all trials")
        folder = out / TRAINED / f"{number:02}"
        training.train(config, data, folder, pruner=_until(_epochs(run)))
    if not ensemble_directory.is_ensemble(out):
        _write(out, about, say)
    return about


def _on(config: Config, path: str) -> Config:
    """The configuration for another recording, all of whose training trials are used."""
    data = dataclasses.replace(config.data, path=path, targets="", validation_fraction=0.0)
    return dataclasses.replace(config, data=data)


def _check(data: SpikeData, path: str, old: TrainedRun) -> None:
    new, dims = data.dims, old.arch.dims
    for name in ("heldin", "heldout", "bins_observed", "bins_forward"):
        if getattr(new, name) != getattr(dims, name):
            raise UserError(
                f"{path} has {name} {getattr(new, name)}, {old.path} {getattr(dims, name)}; models "
                f"are trained again on a recording of the same neurons and bins"
            )


def _epochs(run: TrainedRun) -> Int[NDArray, " K"]:
    """The epoch of each member's best weights."""
    return np.asarray(run.members.selection.cobps.epoch)


def _until(last_K: Int[NDArray, " K"]) -> training.Pruner:
    """Stops every member after its own last epoch."""

    def pruner(epoch: int, _: np.ndarray) -> np.ndarray:
        return epoch < last_K

    return pruner


def _about(models: list[TrainedModel], runs: list[TrainedRun], data: SpikeData) -> dict[str, Any]:
    names = {run.path: f"{number:02}" for number, run in enumerate(runs)}
    members = [
        {
            "run": names[model.trained.path],
            "member": model.member,
            "weight": model.weight,
            "epochs": int(_epochs(model.trained)[model.member]),
        }
        for model in models
    ]
    return {"members": members, "data_fingerprint": data.fingerprint()}


def _begin(out: Path, source: Path, about: dict[str, Any]) -> None:
    """Makes the directory, or checks that an existing one is for the same models and data.

    Raises:
      UserError: it is for others.
    """
    path = out / FILE
    if path.exists():
        old = records.read(path, "restore it, or choose another --out")
        if any(old.get(key) != value for key, value in about.items()):
            raise UserError(
                f"{out} holds models of {old.get('source')}, which differ from those of {source} "
                f"in selection, training or data; choose another --out"
            )
        return
    build.check_free(out)
    directory.make(out)
    records.write(path, {"source": str(source), **about})


def _write(out: Path, about: dict[str, Any], say: Callable[[str], None]) -> None:
    """Makes an ensemble of the new runs, with the old weights."""
    # The new runs lie below `out`: only the ensemble's own directory is no source.
    pool = candidates.collect([out / TRAINED], out / "parts", say=say)
    weights = {(row["run"], row["member"]): row["weight"] for row in about["members"]}
    mine = {
        m: weights[one.run.name, one.member]
        for m, one in enumerate(pool.found)
        if (one.run.name, one.member) in weights
    }
    if len(mine) != len(weights):
        raise UserError(
            f"{len(weights) - len(mine)} of the models that were trained again have no weights "
            f"({'; '.join(pool.left_out)}); remove {out / TRAINED}, then start the same command "
            f"again"
        )
    selected = build.Selected(mine, len(mine), None, None, None)
    build.write(out, pool, selected, (FILE, TRAINED), select="trained again")
