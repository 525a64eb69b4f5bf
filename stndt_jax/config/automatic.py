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
      bin_ms: bin width, ms.
    """

    trials: int
    bins: int
    neurons: int
    bin_ms: float


class Choice(NamedTuple):
    """Some values that a rule chose, by dotted key, and the rule in words."""

    values: dict[str, Any]
    words: str


def sizes(data: SpikeData) -> Sizes:
    """The sizes of a recording."""
    return Sizes(trials=len(data.train), bins=data.bins, neurons=data.heldin, bin_ms=data.bin_ms)


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
        f"settings for {found.trials:,} training trials of {found.bins} bins of "
        f"{found.bin_ms:g} ms and {counted(found.neurons, 'held-in neuron')}:"
    ]
    for choice in choose(found, made):
        mine = {key: value for key, value in choice.values.items() if key in left}
        for key, value in mine.items():
            section, name = key.split(".")
            made[section][name] = value
        if mine:
            set_to = ", ".join(f"{key} {value:g}" for key, value in mine.items())
            words.append(f"  {set_to}: {choice.words}")
    return made, words


class Setting(NamedTuple):
    """The setting of recordings that have at least so many training trials.

    Attributes:
      trials: training trials from which it is chosen.
      width: factors.
      layers: of the model.
      dropout_embedding: rate, of the embedded inputs.
      mask_ratio: fraction of entries masked.
      batch: trials in a batch.
      steps: to train, but no fewer than ``epochs``.
      epochs: at least.
      words: why.
    """

    trials: int
    width: int
    layers: int
    dropout_embedding: float
    mask_ratio: float
    batch: int
    steps: int
    epochs: int
    words: str


SETTINGS = (
    Setting(0, 32, 2, 0.4, 0.6, 8, 1_200, 100, "a small model and much noise for few trials"),
    Setting(200, 64, 2, 0.2, 0.5, 16, 4_000, 10, "a wider model for hundreds of trials"),
    Setting(400, 64, 4, 0.2, 0.5, 16, 4_000, 10, "a wider, deeper model for many trials"),
    Setting(1_000, 96, 4, 0.2, 0.5, 32, 5_000, 10, "the widest model for a thousand trials"),
)

# Fewer held-in neurons than this say too little for a second layer.
FEW_NEURONS = 40
# Standard deviation of the Gaussian that inputs are mixed with, where trials are fewer than this.
SMOOTH_MS, SMOOTH_TRIALS = 30.0, 1_000


def choose(found: Sizes, given: Mapping[str, Any] | None = None) -> list[Choice]:
    """The rules.

    Args:
      found: sizes of the recording.
      given: a configuration with what the user has set: width, batch and epochs decide others.
    """
    model, train = ((given or {}).get(section, {}) for section in ("model", "train"))
    setting = [one for one in SETTINGS if found.trials >= one.trials][-1]
    return [
        _model(found, setting, model.get("width")),
        _noise(found, setting),
        _context(found),
        _smoothing(found),
        _schedule(found, setting, train.get("batch"), train.get("epochs")),
    ]


def _model(found: Sizes, setting: Setting, set_width: int | None) -> Choice:
    """Width, layers and heads; the heads divide the width and the number of bins."""
    words = setting.words
    width = setting.width if set_width is None else set_width
    heads = 1
    if found.bins % 2:
        words += ", one head for an odd number of bins"
    elif width % 2 or not width:
        words += ", one head for an odd width" if width else ", one head for any number of neurons"
    else:
        heads = 2
    layers = setting.layers
    if found.neurons < FEW_NEURONS:
        layers, words = 1, f"{words}, one layer for fewer than {FEW_NEURONS} neurons"
    values = {"model.width": width, "model.layers": layers, "model.heads": heads}
    return Choice(values, words)


def _noise(found: Sizes, setting: Setting) -> Choice:
    """Dropout, masks and weight decay."""
    few = found.neurons < FEW_NEURONS
    values = {
        "model.dropout": 0.3 if few else 0.1,
        "model.dropout_rates": 0.1,
        "model.dropout_embedding": 0.2 if few else setting.dropout_embedding,
        "mask.ratio": setting.mask_ratio,
        "optimizer.weight_decay": 0.1,
    }
    words = "the fewer the trials, the more noise while training"
    return Choice(values, words + "; with few neurons within the model" if few else words)


def _context(found: Sizes) -> Choice:
    """How far a bin attends."""
    bins = min(30, found.bins)
    values = {"model.context_forward": bins, "model.context_backward": bins}
    return Choice(values, "30 bins to either side, or as many as a trial has")


def _smoothing(found: Sizes) -> Choice:
    """The Gaussian that inputs are mixed with."""
    if found.trials >= SMOOTH_TRIALS:
        return Choice({"model.smooth": 0.0}, "inputs not smoothed: trials enough to learn from")
    bins = max(1.0, round(SMOOTH_MS / found.bin_ms, 1))
    words = f"inputs mixed with their mean over {bins * found.bin_ms:g} ms"
    return Choice({"model.smooth": bins}, words)


def _schedule(
    found: Sizes, setting: Setting, set_batch: int | None, set_epochs: int | None
) -> Choice:
    """Batches, epochs, learning rate."""
    batch = setting.batch if set_batch is None else set_batch
    per_epoch = max(1, found.trials // max(1, batch))
    epochs = max(setting.epochs, round(setting.steps / per_epoch))
    epochs = epochs if set_epochs is None else set_epochs
    values = {
        "train.batch": setting.batch,
        "train.epochs": epochs,
        "train.validate_every": max(1, round(epochs / 20)),
        "optimizer.learning_rate": 2e-3,
        "optimizer.warmup_epochs": round(0.07 * epochs, 2),
    }
    return Choice(values, f"{epochs * per_epoch:,} steps")
