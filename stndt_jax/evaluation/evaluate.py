"""Scores a run or an ensemble directory, and writes the benchmark's submission file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stndt_jax import files
from stndt_jax.console import progress, tables
from stndt_jax.data import benchmark_targets, hdf5
from stndt_jax.errors import UserError
from stndt_jax.evaluation import (
    bootstrap,
    inference,
    leaderboard,
    method_scores,
    scoring,
    submission,
)
from stndt_jax.runs import ensemble_directory, records
from stndt_jax.runs.score_names import INTERVAL, label
from stndt_jax.training import restore
from stndt_jax.training.restore import SelectedBy, TrainedModel, TrainedRun
from stndt_jax.types import NDArray


def targets_for(trained: TrainedRun, path: str = "") -> dict[str, NDArray] | None:
    """The targets that a run can be scored against; None if there are none.

    Args:
      trained: the run.
      path: a target file in place of that of the configuration.
    """
    data, path = trained.data, path or trained.config.data.targets
    if path:
        expected = trained.config.data.name or None
        return hdf5.read_targets(path, data.name, expected=expected, bin_ms=data.bin_ms)
    return hdf5.targets_of(data) if data.eval.heldout is not None else None


class NotWritten(UserError):  # noqa: N818
    """Scores were computed, but a file cannot be written.

    Attributes:
      scores: as :func:`evaluate` returns them.
    """

    def __init__(self, error: UserError, scores: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.scores = scores


class Evaluation(NamedTuple):
    """Scores, the mean rates as a submission, and the targets that they were scored against."""

    scores: dict[str, Any]
    rates: dict[str, NDArray]
    targets: dict[str, NDArray] | None


def evaluate(
    path: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    select: SelectedBy = "cobps",
    out: Path | None = None,
) -> Evaluation:
    """Infers all rates, scores them and writes ``scores.json`` and ``submission.h5``.

    The mean rate over members and the best member by validation get all scores, each member those
    that need no fit. Scores in bits per spike have 95% bootstrap intervals over the evaluated
    trials. ``data_differs`` says whether the run was trained on another recording, or the
    targets belong to another one; such scores do not replace those of the run's own recording.

    Args:
      path: the run or ensemble directory.
      data_path: the recording, if it has moved.
      targets_path: the target file, if the configuration names none.
      select: which weights of each member.
      out: the directory to write the two files to; None for ``path``.

    Raises:
      UserError: the recording, the weights or nlb_tools are missing, or do not fit each other; or
        scores on other data would replace those on the recording of the run.
      NotWritten: a file cannot be written; the scores are an attribute of this error.
    """
    found = restore.models(path, data_path, targets_path)
    trained, data_differs = found[0].trained, any(model.trained.other_data for model in found)
    if data_differs and out is None:
        _check_replaced(path)
    data, targets, dims = trained.data, targets_for(trained, targets_path), trained.arch.dims
    given = targets_path or trained.config.data.targets
    names = _names(path, found)
    ranked = sorted(range(len(found)), key=lambda m: np.nan_to_num(-found[m].cobps))
    sets = {"train": data.train, "eval": data.eval}
    best: dict[str, NDArray] = {}
    mean: dict[str, NDArray] = {}
    rows = []
    for m in progress.each(ranked, "inferring rates"):
        own = {split: inference.rates(found[m], trials, select) for split, trials in sets.items()}
        best = best or own
        for split, r in own.items():
            mean[split] = mean.get(split, np.float32(0)) + r * np.float32(found[m].weight)
        brief = {} if targets is None else _brief(submission.of_rates(own, dims), targets)
        rows.append({**names[m], "validation_co_bps": found[m].cobps, **brief})
    ensemble = submission.of_rates(mean, dims)
    submission.check(ensemble, data)
    scores: dict[str, Any] = {
        "data": data.name,
        "weights": select,
        "bin_ms": data.bin_ms,
        "split": "test" if benchmark_targets.is_test_targets(given) else "evaluated",
        "members": sorted(rows, key=lambda row: row["member"]),
        "left_out": [],
        "data_fingerprint": data.fingerprint(),
        "data_differs": data_differs,
    }
    if not ensemble_directory.is_ensemble(path):
        scores["left_out"] = sorted(set(range(trained.config.population)) - set(trained.usable))
    if targets is not None:
        one = _scored(submission.of_rates(best, dims), targets)
        scores["best_member"] = {"member": names[ranked[0]]["member"], **one}
        scores["ensemble"] = one if len(ranked) == 1 else _scored(ensemble, targets)
    try:
        # The two are of one evaluation: on a full disk, both stay as they were.
        with files.filling(out or path) as folder:
            records.write(folder / "scores.json", scores)
            submission.write(
                folder / "submission.h5",
                data.name,
                ensemble,
                bin_ms=data.bin_ms,
                tables=submission.tables_of(data),
            )
    except UserError as error:
        raise NotWritten(error, scores) from error
    return Evaluation(scores, ensemble, targets)


def _check_replaced(path: Path) -> None:
    """Refuses to replace the scores on a run's own recording by those on another one.

    Raises:
      UserError: the run has such scores.
    """
    own = method_scores.own(path)
    if own and own.get("data_differs") is not True:
        raise UserError(
            f"{path / 'scores.json'} has the scores on the recording that the run was trained on, "
            f"which scores on other data would replace; write these to another directory with "
            f"--out=DIR (out=DIR), or remove that file"
        )


def _names(path: Path, found: list[TrainedModel]) -> list[dict[str, Any]]:
    """The number of each model; in an ensemble also its part and weight."""
    if not ensemble_directory.is_ensemble(path):
        return [{"member": model.member} for model in found]
    return [
        {"member": m, "part": f"{part.name}/{k}", "weight": weight}
        for m, (part, k, weight) in enumerate(ensemble_directory.members(path))
    ]


def _scored(rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]) -> dict[str, Any]:
    """All scores, with the intervals of those in bits per spike."""
    with progress.task("scoring"):
        scores = scoring.score(rates, targets, kind=scoring.kind_of(targets))
        return {**scores, **bootstrap.of_scores(rates, targets)}


def _brief(rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]) -> dict[str, float]:
    """The scores that need no fit: co-bps and fp-bps."""
    keys = [key for key in targets if key.startswith("eval_spikes")]
    return scoring.score(rates, {key: targets[key] for key in keys}, kind="none")


def table(scores: Mapping[str, Any]) -> str:
    """Scores as lines of text, one line per score, ensemble beside best member.

    The first line says so if the recording is not the one that the run was trained on.
    """
    note = method_scores.note(scores)
    lines = [note] if note else []
    if "ensemble" not in scores:
        return "\n".join([*lines, "no targets are known for these trials: nothing was scored"])
    ensemble, best = scores["ensemble"], scores["best_member"]
    many = len(scores["members"]) > 1
    rows = []
    for name in (name for name in ensemble if not name.endswith(INTERVAL)):
        low, high = map(tables.number, ensemble.get(name + INTERVAL, (None, None)))
        interval = "" if low == "-" else f"{low} to {high}"
        shown = [ensemble[name], best[name]] if many else [ensemble[name]]
        rows.append([label(name), *map(tables.number, shown), interval])
    heads = ["score", *(("ensemble", "best member") if many else ("value",))]
    heads.append(f"95% interval{' of the ensemble' if many else ''}")
    lines.append(tables.table(heads, rows))
    if scores["left_out"]:
        lines.append(f"left out, never validated: members {scores['left_out']}")
    published = leaderboard.rows(scores["data"]) if scores.get("split") == "test" else []
    if published and scores["bin_ms"] == leaderboard.BIN_MS:
        lines += ["", *_beside_published(scores["data"], ensemble)]
    return "\n".join(lines)


def _beside_published(name: str, own: Mapping[str, Any]) -> list[str]:
    """The scores on the test trials among the published ones, by co-bps."""
    columns = leaderboard.columns(name)
    ranked = sorted(
        [*leaderboard.rows(name), leaderboard.Row("this run", dict(own))],
        key=lambda row: -row.scores["co_bps"],
    )
    rows = [[row.method, *(tables.number(row.scores.get(c)) for c in columns)] for row in ranked]
    low, high = map(tables.number, own.get("co_bps" + INTERVAL, (None, None)))
    return [
        "the benchmark's test trials, with the published scores (frozen: its server has closed)",
        tables.table(["method", *map(label, columns)], rows),
        *([f"95% interval of this run's co-bps over trials: {low} to {high}"] * (low != "-")),
    ]
