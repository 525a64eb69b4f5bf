"""Every figure of a run or an ensemble, each with one sentence on how to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from stndt_jax.interpret import Interpretation


class Figure(NamedTuple):
    """A figure that was drawn.

    Attributes:
        name: its key, also its files' name: "psths", "attention", ...
        file: the PNG; beside it stands an SVG of the same name.
        sentence: how to read it, plain text.
        title: what it shows, a few words.
    """

    name: str
    file: Path
    sentence: str
    title: str


def draw_all(
    path: Path,
    out: Path,
    *,
    data_path: str = "",
    targets_path: str = "",
    interpretation: Interpretation | None = None,
    dropping: dict[str, Any] | None = None,
) -> list[Figure]:
    """Draws what can be drawn of a run directory or an ensemble.

    A figure for which something is not known (behaviour, conditions, true rates) is left out.

    Args:
        path: what `evaluate.models` takes.
        out: folder to write to; made where it is not there.
        data_path: the recording, where it has moved.
        targets_path: the target file, where the configuration names none.
        interpretation: what `interpret.interpret` found; computed, without gradients, if None.
        dropping: what `dropping.drop` found; read from ``path/interpret`` if None, and its figure
            left out if there is none.

    Raises:
        UserError: as `evaluate.models`, or a file cannot be written.
    """
    raise NotImplementedError
