"""Neuron dropping: what is left of the scores when held-in neurons fall silent.

The input counts of some held-in neurons are set to zero, in steps of a tenth of them, the most
important first, in random order, or the least important first. The model is not trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stndt_jax.evaluate import Model, Select
from stndt_jax.types import Float, NDArray

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def drop(
    models: Sequence[Model],
    importance: Float[NDArray, " N_in"],
    *,
    targets_path: str = "",
    against: Sequence[Model] = (),
    names: tuple[str, str] = ("this", "other"),
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 5,
    seed: int = 0,
    select: Select = "cobps",
) -> dict[str, Any]:
    """Scores with more and more held-in neurons silenced.

    Args:
        models: whose mean rate is scored.
        importance: of every held-in neuron.
        targets_path: the target file, where the configuration names none.
        against: other models on the same recording; the same neurons are silenced for them.
        names: what to call the two.
        fractions: shares of the held-in neurons, rising.
        repeats: random orders.
        seed: of the random orders.
        select: which weights of each member.

    Returns:
        What stands in ``dropping.json``::

            {"fractions": [0.0, 0.1, ...], "silenced": [0, 3, ...],      # F of them
             "models": {NAME: {ORDER: {SCORE: [[...F values...], ...]}}}}   # a row a repeat

        ORDER is "most important first", "random" (a row a repeat) or "least important first";
        SCORE is a name of `scoring.score` ("co-bps", "vel R2", "psth R2"). None where a costly
        score was not computed for a repeat. The first value of a row is the full model's.

    Raises:
        UserError: there are no targets, or the two were trained on other recordings.
    """
    raise NotImplementedError


def write(found: dict[str, Any], folder: Path) -> Path:
    """Writes ``dropping.json``."""
    raise NotImplementedError


def read(folder: Path) -> dict[str, Any] | None:
    """Reads ``dropping.json``; None where there is none."""
    raise NotImplementedError
