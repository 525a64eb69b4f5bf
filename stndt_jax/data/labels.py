"""What trials, neurons and behaviour are called in figures, reports and sentences.

Nothing is made up: a name, unit, area or time that a recording does not have is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stndt_jax.data import tables
from stndt_jax.data.trials import SpikeData, Trials

NO_AREA = "no area"
_HAND = ("hand velocity x", "hand velocity y")
# Behaviour of the benchmark's and the simulated recordings, for files that do not name it: the
# names of its dimensions and its unit, empty where it is not certain.
_MAZES = ("mc_maze", "mc_maze_large", "mc_maze_medium", "mc_maze_small")
_KNOWN: dict[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(_MAZES, (_HAND, "mm/s")),
    "mc_rtt": (("finger velocity x", "finger velocity y"), ""),
    "area2_bump": (_HAND, ""),
    "dmfc_rsg": (("is_eye", "theta", "is_short", "ts", "tp"), ""),
    "reach": (("vel_x", "vel_y"), "mm/s"),
}
_SPLITS = {"train": "training", "eval": "evaluated"}


class Behavior(NamedTuple):
    """What behaviour is called.

    Attributes:
      names: of its dimensions; "behaviour 1" and so on if the recording has no names.
      unit: its unit; empty if unknown.
      is_velocity: whether it is a velocity in every bin, whose sum over time is a path.
      is_named: whether the names are known.
    """

    names: tuple[str, ...]
    unit: str
    is_velocity: bool
    is_named: bool

    def axis(self, d: int) -> str:
        """The label of the axis of a dimension: its name, with the unit in brackets."""
        return f"{self.names[d]} ({self.unit})" if self.unit else self.names[d]

    def path_axis(self, d: int) -> str:
        """The label of the axis of a path: "vel_x, summed (mm)"."""
        length = self.unit.rpartition("/")[0].strip()
        return f"{self.names[d]}, summed" + (f" ({length})" if length else "")

    @property
    def text(self) -> str:
        """All names, or the number of values, and the unit: "vel_x and vel_y (mm/s)"."""
        what = listed(self.names) if self.is_named else f"{len(self.names)} values"
        return what + (f" ({self.unit})" if self.unit else "")


def behavior(data: SpikeData) -> Behavior | None:
    """What the behaviour of a recording is called; None if it has none.

    It is a velocity if its unit is one per second, or if the recording is one of the benchmark's
    or simulated sets whose behaviour is known to be a velocity.
    """
    x = data.train.behavior if data.eval.behavior is None else data.eval.behavior
    if x is None:
        return None
    D = x.shape[-1]
    names, unit = _KNOWN.get(data.name, ((), ""))
    is_known = len(names) == D and (data.name != "reach" or data.train.rates is not None)
    given = bool(data.behavior_names or data.behavior_unit)
    shown = data.behavior_names or (names if is_known else ())
    unit = data.behavior_unit if given or not is_known else unit
    return Behavior(
        names=tuple(shown) or tuple(f"behaviour {d + 1}" for d in range(D)),
        unit=unit,
        is_velocity=x.ndim == 3 and (is_known or unit.strip().endswith("/s")),
        is_named=bool(shown),
    )


class TrialLabel(NamedTuple):
    """What a trial is called.

    Attributes:
      name: "trial 147", its row in the table or array that the recording was made from; "evaluated
        trial 5", its place among the evaluated trials, where that row is unknown.
      condition: "left", or "condition 3" if conditions are numbers; empty if it has none.
      start: "12.30 s", the time of its first bin that is not padding; empty if unknown.
    """

    name: str
    condition: str
    start: str

    @property
    def text(self) -> str:
        """On one line: "trial 147, left, from 12.30 s"."""
        start = f"from {self.start}" if self.start else ""
        return ", ".join(filter(None, (self.name, self.condition, start)))

    @property
    def title(self) -> str:
        """On two lines, for a small panel; a long condition is cut."""
        short = self.condition if len(self.condition) < 16 else f"{self.condition[:14]}…"
        return "\n".join(filter(None, (self.name, ", ".join(filter(None, (short, self.start))))))


def trial(data: SpikeData, split: str, r: int) -> TrialLabel:
    """What a trial is called.

    Args:
      data: the recording.
      split: ``train`` or ``eval``.
      r: index of the trial in the arrays of the split.
    """
    trials: Trials = getattr(data, split)
    source = trials.columns.get(tables.SOURCE)
    name = f"{_SPLITS[split]} trial {r}" if source is None else f"trial {_plain(source[r])}"
    condition = ""
    if trials.conditions is not None and trials.conditions[r] >= 0:
        c = int(trials.conditions[r])
        named = data.condition_name(c)
        condition = f"condition {named}" if _is_number(named) else named
    start = ""
    if trials.starts is not None:
        first = int(np.argmax(trials.in_trial(data.bins)[r]))
        start = f"{trials.starts[r] + first * data.bin_ms / 1000:.2f} s"
    return TrialLabel(name, condition, start)


def neuron(data: SpikeData, n: int) -> str:
    """The index of a neuron, its identifier and area if they are known, and whether it is held out.

    For example "neuron 138, unit 1012, V1, held-in".
    """
    role = "held-in" if n < data.heldin else "held-out"
    return ", ".join([f"neuron {n}", *_unit(data, n), role])


def neuron_title(data: SpikeData, n: int) -> str:
    """The index of a neuron, and on a second line its identifier and area if they are known."""
    return "\n".join(filter(None, (f"neuron {n}", ", ".join(_unit(data, n)))))


def _unit(data: SpikeData, n: int) -> list[str]:
    """The name or else the identifier, unless it is the index, and the area."""
    names, number = data.unit_columns.get(tables.NAME), n if data.units is None else data.units[n]
    name = "" if names is None else _plain(names[n])
    unit = [f"unit {name or number}"] if name or number != n else []
    return unit + ([] if (names_of_areas := areas(data)) is None else [names_of_areas[n]])


def areas(data: SpikeData) -> list[str] | None:
    """The area of every neuron as text; None if the recording knows none."""
    if data.areas is None:
        return None
    return [_plain(area) or NO_AREA for area in data.areas.tolist()]


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def _is_number(text: str) -> bool:
    """Whether a name is a number, which says nothing without a word before it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: object) -> str:
    """A cell of a table as text, whole numbers without decimals."""
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return str(value).strip()
