"""Interpretation of a run: attention, gradients, silenced neurons, their files and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from stndt_jax.interpret import ablation, files, summary
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.plotting import run_figures
from stndt_jax.training import restore
from stndt_jax.training.restore import SelectedBy, TrainedModel


class Silencing(NamedTuple):
    """How held-in neurons are silenced.

    Attributes:
      against: another run directory, whose models lose the same neurons; may be empty.
      repeats: number of random orders.
      seed: of the random orders.
      decode: whether to score behaviour, which takes most of the time.
    """

    against: str = ""
    repeats: int = 5
    seed: int = 0
    decode: bool = True


def interpret(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    split: Literal["eval", "train"] = "eval",
    select: SelectedBy = "cobps",
    gradients: bool = True,
    silencing: Silencing | None = Silencing(),  # noqa: B008 - a tuple of constants
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Computes what a run's models attend to and whether it matters, and writes it.

    Args:
      path: run or ensemble directory.
      out: directory to write to.
      data_path: the recording, if it has moved.
      targets_path: the target file, if the configuration names none.
      split: trials whose attention is shown, ``eval`` or ``train``.
      select: which weights of each member.
      gradients: whether to compute integrated gradients.
      silencing: how to silence neurons; None does not.
      say: called with the results.

    Returns:
      The files written.

    Raises:
      UserError: the run or its recording cannot be used, or held-out counts are unknown but neurons
        are to be silenced.
    """
    models = restore.models(path, data_path, targets_path)
    found = summary.of_models(models, split=split, select=select, with_gradients=gradients)
    written = files.write(found, out)
    say(files.text(found))
    dropped = None
    if silencing is not None:
        other = Path(silencing.against)
        against = restore.models(other, data_path, targets_path) if silencing.against else []
        same = path.name == other.name
        dropped = _silence(
            models,
            found,
            silencing,
            against=against,
            names=(path.name, str(other) if same else other.name),
            targets_path=targets_path,
            select=select,
            say=say,
        )
        written.append(ablation.write(dropped, out))
        say(ablation.text(dropped))
    drawn = run_figures.draw_interpretation(found, out, dropped)
    return [*written, *(figure.file for figure in drawn)]


def _silence(
    models: list[TrainedModel],
    found: Interpretation,
    silencing: Silencing,
    *,
    say: Callable[[str], None],
    **options: Any,
) -> dict[str, Any]:
    """Scores with held-in neurons silenced in the order of their importance.

    Returns:
      The content of ``dropping.json``.
    """
    order, measure = summary.ranking(found)
    second = found.gradient_importance if measure == "attention" else None
    say(f"\nsilencing held-in neurons in the order of {measure}")
    dropped = ablation.drop(
        models,
        order,
        gradient_importance=None if second is None else second[: found.heldin],
        repeats=silencing.repeats,
        seed=silencing.seed,
        decode=silencing.decode,
        **options,
    )
    return {"measure": measure, **dropped}
