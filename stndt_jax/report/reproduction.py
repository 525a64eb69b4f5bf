"""The report of a reproduction: its scores beside the published ones, and what may be compared."""

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
    """Writes the report of :func:`text`, whole or not at all."""
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
      budget: its name.
      settings: the configuration, and what was set beside it.
      trials: of the search.
      as_published: whether the search was as wide and as long as the published one.
      done: what each stage left.
    """
    prepared, chosen = done["prepare"], done["ensemble"]
    lines = [
        f"# {name}, reproduced with the budget {budget}",
        "",
        f"{trials} trials were searched; the mean rate of the best {chosen['size']} of "
        f"{chosen['candidates']} models is the ensemble, its size chosen on the validation trials.",
        f"Trained on {prepared['train_trials']} trials, validated on "
        f"{prepared['validation_trials']}; {prepared['bins'][0]} + {prepared['bins'][1]} bins, "
        f"{prepared['neurons'][0]} + {prepared['neurons'][1]} neurons.",
        "",
        *_table(name, done["score"]),
        "",
        "## What may be compared",
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
    """What the numbers have in common, and what not, sentence by sentence."""
    prepared = done["prepare"]
    own = ["The scores are computed by the benchmark's own code, as the published ones are."]
    if leaderboard.rows(name):
        own.append(
            "Published scores are of the test split. Those from here are of the validation split, "
            "whose held-out counts also chose the weights, the settings and the ensemble: they are "
            "of other trials, and too good by an unknown amount."
        )
    else:
        own = [f"No numbers of this method are published for {name}."]
    found = Dims(*prepared["bins"], *prepared["neurons"])
    wanted = leaderboard.SIZES.get(name)
    if wanted is not None and found != wanted:
        own.append(
            f"This recording is not the benchmark's: it has {found.neurons} neurons and "
            f"{found.bins} bins, that has {wanted.neurons} and {wanted.bins}. Nothing here "
            f"compares with the published scores."
        )
    if not as_published:
        own.append(
            f"The published ensemble comes of 120 trials of the published settings. Here were "
            f"{trials} trials of `{' '.join(s.removeprefix('--') for s in settings)}`: the way is "
            f"the same, the effort is not."
        )
    if prepared["test_phase"]:
        own.append(
            f"The submission file of the test split, {done['submit']['file']}, is of the same "
            f"settings, trained again on training and validation trials for as many epochs as gave "
            f"each model's best weights. Its score is the one that compares with the published "
            f"ones; only the benchmark's server knows it."
        )
    else:
        own.append(f"There is no submission file of the test split: {prepared['why']}.")
    return own
