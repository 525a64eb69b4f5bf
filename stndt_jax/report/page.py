"""The report of one run as one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stndt_jax import files
from stndt_jax.data import labels
from stndt_jax.evaluation import evaluate, method_scores
from stndt_jax.report import about, attention, explorer, figures, layout, scores, training
from stndt_jax.report.figures import RunFigures, draw
from stndt_jax.report.layout import Section
from stndt_jax.report.markup import Html, tag
from stndt_jax.run import Run, load_run

_SOURCES = (
    "The method: T. Le and E. Shlizerman, STNDT, NeurIPS 2022; J. Ye and C. Pandarinath, NDT, "
    "2021; the benchmark: F. Pei et al., NeurIPS 2021. This file is complete in itself and makes "
    "no connections."
)


def write(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    figures: bool = True,
    say: Callable[[str], object] = len,
) -> Path:
    """Writes the report of a run directory.

    What is missing is computed first and kept: rates and scores (as by ``stndt evaluate``), scores
    of smoothing, of condition averages and of the true rates (as by ``stndt baseline``), figures
    (as by ``stndt figures``).

    Args:
      path: the run directory.
      out: HTML file to write.
      data_path: the recording, if it has moved.
      targets_path: the target file, if the configuration names none.
      figures: whether to draw figures, which takes most of the time.
      say: called with a few words before every step that takes long.

    Returns:
      The file written.

    Raises:
      UserError: it is no run directory, or the file cannot be written.
    """
    run = load_run(path, data=data_path, targets=targets_path)
    if not (path / "submission.h5").exists() or not run.scores:
        say("evaluating the run")
        evaluate.evaluate(path, data_path=data_path, targets_path=targets_path)
        run = load_run(path, data=data_path, targets=targets_path)
    scores.add_baselines(run, say)
    drawn = draw(run, say) if figures else RunFigures()
    files.write_text(out, build(run, drawn), "choose another with --out")
    return out


def build(run: Run, drawn: RunFigures) -> Html:
    """The page of an evaluated run."""
    name = run.path.name or run.path.resolve().name
    methods = scores.methods_of(run)
    explored = explorer.section(explorer.payload(run), len(run.data.eval))
    return layout.page(
        f"{name}: stndt report",
        kicker=["stndt report of ", tag("code", str(run.path))],
        heading=name,
        lead=[
            *(tag("p", sentence, class_="warn") for sentence in _other_data(run)),
            tag("p", _lead(run), class_="lead"),
            *scores.cards(methods, labels.behavior(run.data)),
        ],
        sections=[
            Section("scores", "Scores", scores.section(run, methods)),
            Section("look", "Single trials and neurons", explored),
            Section("training", "Training", training.section(run, methods)),
            Section("figures", "Figures", figures.section(drawn)),
            Section("attention", "Attention", attention.section(run, drawn)),
            Section("run", "Run", [*about.settings(run), *about.sessions(run)]),
            Section("data", "Data", about.data(run)),
        ],
        footer=_SOURCES,
    )


def _other_data(run: Run) -> list[str]:
    """Sentences if the recording or the scores are not of the data that were trained on."""
    shown = [about.other_data(run), method_scores.note(run.scores)]
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in shown if sentence]


def _lead(run: Run) -> str:
    """What was trained on what, and how it ended."""
    data = run.data
    members = run.scores.get("members", [])
    number = len(members) if isinstance(members, list) and members else run.config.population
    kind = about.kind(run.config)
    what = f"{number} {kind} models" if number > 1 else f"One {kind} model"
    what += f" with {factors}" if (factors := about.factors(run)) else ""
    text = (
        f"{what} trained on {data.name}: {len(data.train)} trials of {data.neurons} neurons, "
        f"{data.heldout} of them held out."
    )
    sessions = run.record.get("sessions", [])
    if not sessions:
        return text
    took, how = about.total(sessions), str(sessions[-1].get("how") or "")
    if how == "finished" and took:
        text += f" Finished on {about.moment(sessions[-1].get('ended'))} UTC after {took}."
    elif how and how != "finished":
        text += f" The last session ended: {how}."
    return text
