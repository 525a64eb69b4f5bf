"""The report of a reproduction: its scores, the published ones, and how far they compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stndt_jax import files
from stndt_jax.evaluation import leaderboard
from stndt_jax.runs.score_names import label
from stndt_jax.types import Dims

Done = dict[str, dict[str, Any]]


def write(path: Path, **about: Any) -> None:
    """Writes the report of :func:`text`.

    Raises:
      UserError: the file cannot be written.
    """
    files.write_text(path, text(**about))


def text(
    *,
    name: str,
    budget: str,
    settings: Sequence[str],
    trials: int,
    as_published: bool,
    done: Done,
) -> str:
    """The report in Markdown.

    Args:
      name: of the data set.
      budget: name of the budget.
      settings: flags of the configuration.
      trials: number of trials of the search.
      as_published: whether the search had the published size and settings.
      done: results of every stage, by its name.
    """
    prepared, chosen = done["prepare"], done["ensemble"]
    lines = [
        f"# {name}, reproduced with the budget {budget}",
        "",
        f"The search had {trials} trials. The ensemble is the mean rate of the best "
        f"{chosen['size']} of {chosen['candidates']} models; its size was chosen on the validation "
        f"trials.",
        f"Trained on {prepared['train_trials']} trials, validated on "
        f"{prepared['validation_trials']}; {prepared['bins'][0]} + {prepared['bins'][1]} bins, "
        f"{prepared['neurons'][0]} + {prepared['neurons'][1]} neurons.",
        "",
        *_table(name, done["score"]),
        "",
        "## Comparison with the published scores",
        "",
        *(f"* {sentence}" for sentence in comparable(name, settings, trials, as_published, done)),
        "",
    ]
    return "\n".join(lines)


def _table(name: str, scores: dict[str, Any]) -> list[str]:
    columns = leaderboard.columns(name)
    rows = [
        ("**here, best member**", "validation", scores["best_member"]),
        ("**here, ensemble**", "validation", scores["ensemble"]),
        *((row.method, "test, published", row.scores) for row in leaderboard.rows(name)),
    ]
    lines = [
        f"| | split | {' | '.join(map(label, columns))} |",
        f"|---|---|{'---|' * len(columns)}",
    ]
    for method, split, found in rows:
        cells = (_cell(found.get(column)) for column in columns)
        lines.append(f"| {method} | {split} | {' | '.join(cells)} |")
    return lines


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"


def comparable(
    name: str, settings: Sequence[str], trials: int, as_published: bool, done: Done
) -> list[str]:
    """What the scores here and the published ones have in common and what not, in sentences."""
    prepared = done["prepare"]
    sentences = ["All scores are computed by the benchmark's code."]
    if leaderboard.rows(name):
        sentences.append(
            "Published scores are on the test split. The scores here are on the validation split, "
            "whose held-out counts also selected the weights, the settings and the ensemble: they "
            "are on other trials, and too high by an unknown amount."
        )
    else:
        sentences = [f"No scores of this method are published for {name}."]
    found = Dims(*prepared["bins"], *prepared["neurons"])
    wanted = leaderboard.SIZES.get(name)
    if wanted is not None and found != wanted:
        sentences.append(
            f"This recording is not the benchmark's: it has {found.neurons} neurons and "
            f"{found.bins} bins, the benchmark's has {wanted.neurons} and {wanted.bins}. The "
            f"scores cannot be compared with the published ones."
        )
    if not as_published:
        flags = " ".join(setting.removeprefix("--") for setting in settings)
        sentences.append(
            f"The published ensemble is from 120 trials with the published settings, this one from "
            f"{trials} trials with `{flags}`: the method is the same, the effort is not."
        )
    if prepared["test_phase"]:
        sentences.append(
            f"The submission file for the test split, {done['submit']['file']}, is from models "
            f"with the same settings, trained on training and validation trials for as many epochs "
            f"as gave each model's best weights. Its score, which only the benchmark's server can "
            f"compute, is comparable with the published ones."
        )
    else:
        sentences.append(f"There is no submission file for the test split: {prepared['why']}.")
    return sentences
