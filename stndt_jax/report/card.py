"""A model card in Markdown: what a run was trained on, how well it does, and where it stops."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stndt_jax.config import schema
from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError
from stndt_jax.evaluation import method_scores
from stndt_jax.report import about
from stndt_jax.run import Run
from stndt_jax.runs.score_names import INTERVAL, label

_FILL_IN = "(fill in)"
_BLANKS = 3  # in a card: subject, limits, licence


def of_run(run: Run) -> str:
    """The card of a run or an ensemble; what only its owner knows is left to fill in.

    Raises:
      UserError: the run or its recording cannot be read.
    """
    parts = [
        f"# Model card: {run.path.resolve().name}",
        *_model(run),
        *_data(run),
        *_scores(run),
        *_limits(run),
        *_versions(run),
        f"## Licence\n\n{_FILL_IN}: of the weights, and of the recording they were trained on.",
    ]
    return "\n\n".join(parts) + "\n"


def check_replaceable(path: Path) -> None:
    """Refuses to replace a card in which something was filled in.

    Raises:
      UserError: a blank of the card has been replaced, or the file cannot be read.
    """
    if not path.exists():
        return
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give another --out") from error
    if text.count(_FILL_IN) < _BLANKS:
        raise UserError(
            f"{path} would be replaced, but parts of it are filled in; write the new card to "
            f"another file with --out, or move this one away"
        )


def _model(run: Run) -> list[str]:
    config, dims = run.config, run.data.dims
    width = schema.stream_width(config.model, dims)
    members = len(run.models)
    what = f"{counted(members, 'model')}, whose mean rate counts" if members > 1 else "One model"
    return [
        f"{what}: {about.kind(config)} with {counted(config.model.layers, 'layer')}, "
        f"width {width}, made by stndt_jax. From the spikes of {dims.heldin} held-in neurons "
        f"it infers the rates of {dims.neurons}, in expected counts per bin of "
        f"{run.data.bin_ms:g} ms.",
        "## Use\n\n```python\nimport stndt_jax as stndt\n\n"
        f"run = stndt.load_run({json.dumps(str(run.path), ensure_ascii=False)})\n"
        "rates = run.predict(counts)  # of held-in neurons -> expected counts per bin\n```",
    ]


def _data(run: Run) -> list[str]:
    data, dims = run.data, run.data.dims
    forward = dims.bins - dims.bins_observed
    rows = [
        ["recording", data.name],
        ["fingerprint", data.fingerprint()],
        ["training trials", str(len(data.train))],
        ["evaluated trials", str(len(data.eval))],
        ["bins", f"{dims.bins_observed} observed, {forward} forward, of {data.bin_ms:g} ms"],
        ["neurons", f"{dims.heldin} held-in, {dims.neurons - dims.heldin} held-out"],
        ["subject, area, task", _FILL_IN],
    ]
    return ["## Data", _table(["what", "value"], rows)]


def _scores(run: Run) -> list[str]:
    if not run.methods:
        return ["## Scores", "None yet: `stndt evaluate` of the run makes them."]
    names = list(dict.fromkeys(name for found in run.methods.values() for name in found))
    names = [name for name in names if not name.endswith(INTERVAL) and name != "member"]
    rows = [
        [method, *(tables.number(found.get(name), 3) for name in names)]
        for method, found in run.methods.items()
    ]
    split = (
        "the benchmark's test trials"
        if run.scores.get("split") == "test"
        else "the evaluated trials"
    )
    selected = run.config.data.targets and run.scores.get("weights") != "last"
    lines = ["## Scores"]
    if note := method_scores.note(run.scores):
        lines.append(f"**Not on the data above: {note}.**")
    lines.append(f"On {split}, which the models were not trained on.")
    if selected:
        lines.append(
            "The same trials selected the best weights of each member, so the scores are too "
            "high by an unknown amount."
        )
    lines.append(_table(["method", *map(label, names)], rows))
    own: dict[str, Any] = run.scores.get("ensemble", {})
    if f"co_bps{INTERVAL}" in own:
        low, high = map(tables.number, own[f"co_bps{INTERVAL}"])
        lines.append(f"95% interval of co-bps over trials: {low} to {high}.")
    if run.verdict:
        lines.append(f"**{run.verdict}**")
    return lines


def _limits(run: Run) -> list[str]:
    dims = run.data.dims
    return [
        "## Limits",
        f"* For these {dims.neurons} neurons in this order, bins of {run.data.bin_ms:g} ms and "
        f"trials of up to {dims.bins_observed} bins, aligned like those it was trained on.\n"
        f"* {_ahead(run)}\n"
        "* Attention is not an explanation: check it against attributions (`stndt interpret`).\n"
        f"* {_FILL_IN}: what the recording does not cover.",
    ]


def _ahead(run: Run) -> str:
    model = run.config.model
    if model.full_context or model.context_forward != 0:
        return "Rates depend on later spikes of the trial too: this is no online decoder."
    return "Rates depend on the spikes up to the same bin only."


def _versions(run: Run) -> list[str]:
    sessions = run.record.get("sessions", [])
    found = sessions[-1].get("versions", {}) if sessions else run.record.get("versions", {})
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    return ["## Versions", shown or "unknown"]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
