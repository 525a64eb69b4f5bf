"""A configuration that is chosen from the recording: ``--config=auto``.

In such a configuration some values are None, open, until a recording is known; then :func:`filled`
chooses them. What the user has set is kept. docs/ablations.md says on which recordings the rules
were measured.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from stndt_jax.config import schema
from stndt_jax.config.schema import DataConfig
from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError


class Sizes(NamedTuple):
    """What the rules go by.

    Attributes:
      trials: training trials.
      bins: of a trial, observed and forward.
      neurons: held-in neurons.
    """

    trials: int
    bins: int
    neurons: int


class Choice(NamedTuple):
    """Some values that a rule chose, by dotted key, and the rule in words."""

    values: dict[str, Any]
    words: str


def sizes(data: SpikeData) -> Sizes:
    """The sizes of a recording."""
    return Sizes(trials=len(data.train), bins=data.bins, neurons=data.heldin)


def recording(values: Mapping[str, Any]) -> SpikeData:
    """Reads the recording that a configuration names, whatever else it leaves open.

    Raises:
      UserError: no file is named, or it cannot be read.
    """
    return read(schema.section(DataConfig, "data", values))


def read(named: DataConfig, path: str = "", targets: str = "") -> SpikeData:
    """Reads a recording.

    Args:
      named: the files, and how to read them.
      path: another input file in place of ``named.path``.
      targets: another target file in place of ``named.targets``.

    Raises:
      UserError: no file is named, or it cannot be read.
    """
    path = path or named.path
    if not path:
        raise UserError(
            "no recording is given: config.data.path is empty; name the recording's HDF5 file, for "
            "example --config.data.path=mc_maze.h5, or in Python give data"
        )
    with progress.task(f"reading {path}"):
        return hdf5.read(
            path,
            targets or named.targets or None,
            expected=named.name or None,
            bin_ms=named.bin_ms or None,
        )


def open_keys(values: Mapping[str, Any]) -> list[str]:
    """The dotted keys that a recording has yet to decide."""
    return [
        f"{section}.{key}"
        for section, inner in values.items()
        if isinstance(inner, Mapping)
        for key, value in inner.items()
        if value is None
    ]


def filled(values: Mapping[str, Any], data: SpikeData) -> tuple[dict[str, Any], list[str]]:
    """A configuration without open values, and one sentence for each rule that chose some.

    Args:
      values: nested mapping; of a configuration that leaves nothing open, a copy is returned.
      data: the recording.
    """
    return filled_for(values, sizes(data)) if open_keys(values) else (dict(values), [])


def filled_for(values: Mapping[str, Any], found: Sizes) -> tuple[dict[str, Any], list[str]]:
    """As :func:`filled`, for the sizes of a recording."""
    made, left = copy.deepcopy(dict(values)), open_keys(values)
    words = [
        f"settings for {found.trials:,} training trials of {found.bins} bins and "
        f"{counted(found.neurons, 'held-in neuron')}:"
    ]
    for choice in choose(found, made["model"]["width"]):
        mine = {key: value for key, value in choice.values.items() if key in left}
        for key, value in mine.items():
            section, name = key.split(".")
            made[section][name] = value
        if mine:
            set_to = ", ".join(f"{key} {value:g}" for key, value in mine.items())
            words.append(f"  {set_to}: {choice.words}")
    return made, words


# Training trials below which a recording is small, and below which it has few trials.
SMALL, FEW = 500, 200
STEPS, EPOCHS, STEPS_LARGE = 1_200, 100, 5_000


def choose(found: Sizes, width: int | None = None) -> list[Choice]:
    """The rules.

    Args:
      found: sizes of the recording.
      width: of the model, where the user has set it.
    """
    return [_model(found, width), _noise(found), _context(found), _schedule(found)]


def _model(found: Sizes, set_width: int | None) -> Choice:
    """Width, layers and heads; the heads divide the width and the number of bins."""
    small = found.trials < SMALL
    words = "a small model for few trials" if small else "a wider, deeper model for many trials"
    width, layers = (32, 2) if small else (64, 4)
    width = width if set_width is None else set_width
    heads = 1
    if found.bins % 2:
        words += ", one head for an odd number of bins"
    elif width % 2 or not width:
        words += ", one head for an odd width" if width else ", one head for any number of neurons"
    else:
        heads = 2
    return Choice({"model.width": width, "model.layers": layers, "model.heads": heads}, words)


def _noise(found: Sizes) -> Choice:
    """Dropout, masks and weight decay."""
    few, small = found.trials < FEW, found.trials < SMALL
    values = {
        "model.dropout": 0.1,
        "model.dropout_rates": 0.1,
        "model.dropout_embedding": 0.4 if few else 0.2,
        "mask.ratio": 0.6 if small else 0.5,
        "optimizer.weight_decay": 0.1 if small and not few else 0.5,
    }
    return Choice(values, "the fewer the trials, the more noise while training")


def _context(found: Sizes) -> Choice:
    """How far a bin attends."""
    bins = min(30, found.bins)
    values = {"model.context_forward": bins, "model.context_backward": bins}
    return Choice(values, "30 bins to either side, or as many as a trial has")


def _schedule(found: Sizes) -> Choice:
    """Batches, epochs, learning rate."""
    small = found.trials < SMALL
    batch = 8 if small else 32
    per_epoch = max(1, found.trials // batch)
    if small:
        epochs = max(EPOCHS, round(STEPS / per_epoch))
    else:
        epochs = max(10, round(STEPS_LARGE / per_epoch))
    values = {
        "train.batch": batch,
        "train.epochs": epochs,
        "train.validate_every": max(1, round(epochs / 20)),
        "optimizer.learning_rate": 2e-3,
        "optimizer.warmup_epochs": round(0.07 * epochs, 2),
    }
    return Choice(values, f"{epochs * per_epoch:,} steps")
