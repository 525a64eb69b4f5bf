"""Reads run directories and ensemble directories: configuration, weights, recording."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from stndt_jax.config.schema import Config, Hyper
from stndt_jax.console import progress
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.runs import directory, ensemble_directory, recording
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import population, setup, step
from stndt_jax.types import Dims, Params

SelectedBy = Literal["cobps", "loss", "last"]
"""Which weights of a member: best by validation co-bps, best by validation loss, or the last."""

_SIZES = ("bins_observed", "bins_forward", "heldin", "heldout")


class Stored(NamedTuple):
    """What a run directory holds, read without its recording.

    Attributes:
      config: the configuration.
      record: ``run.json``.
      dims: sizes of a trial; whether the recording has gaps is not known without it.
      step: training steps taken.
      members: the members' weights and states, leading axis K.
    """

    config: Config
    record: dict[str, Any]
    dims: Dims
    step: int
    members: population.Member


class TrainedRun(NamedTuple):
    """A run directory and its recording.

    Attributes:
      path: the directory.
      config: the configuration.
      data: the recording.
      arch: the static part of the model and its training.
      hyper: the members' hyperparameters, leading axis K.
      members: the members' weights and states, leading axis K.
      epoch: epochs trained.
      other_data: a sentence if ``data`` is not the recording that it was trained on; else empty.
    """

    path: Path
    config: Config
    data: SpikeData
    arch: step.Arch
    hyper: Hyper
    members: population.Member
    epoch: float
    other_data: str = ""

    @property
    def usable(self) -> list[int]:
        """Members that have been validated at least once with a finite score."""
        reached = np.asarray(self.members.selection.cobps.epoch) > 0
        return [int(k) for k in np.flatnonzero(reached)]

    def params(self, member: int, select: SelectedBy) -> Params:
        """One member's weights."""
        kept = {
            "cobps": self.members.selection.cobps.params,
            "loss": self.members.selection.loss.params,
            "last": self.members.state.params,
        }
        return jax.tree.map(lambda leaf: leaf[member], kept[select])


class TrainedModel(NamedTuple):
    """One member of a trained population, and its weight in the mean rate."""

    trained: TrainedRun
    member: int
    weight: float

    @property
    def cobps(self) -> float:
        """Its validation co-bps; NaN where no trial selects."""
        return float(self.trained.members.selection.cobps.value[self.member])

    def params(self, select: SelectedBy) -> Params:
        """Its network weights."""
        return self.trained.params(self.member, select)

    @property
    def hyper(self) -> Hyper:
        """Its hyperparameters, scalars."""
        return jax.tree.map(lambda leaf: leaf[self.member], self.trained.hyper)


def read(path: Path) -> Stored:
    """Reads a run directory without its recording.

    Raises:
      UserError: it is no run directory, or holds no whole checkpoint.

    Warns:
      UserWarning: the newest checkpoint is damaged, so that an older one was read.
    """
    config, record = directory.read_config(path), directory.read_run(path)
    dims = Dims(*(record["sizes"][name] for name in _SIZES))
    # No shape depends on the steps of an epoch.
    at, _, members = _newest(path, config, step.arch(config, dims, 1))
    return Stored(config, record, dims, at, members)


def load(
    path: Path, data_path: str = "", targets: str = "", data: SpikeData | None = None
) -> TrainedRun:
    """Reads a run directory and its recording.

    Args:
      path: the run directory.
      data_path: the recording, if it has moved.
      targets: a target file, if the configuration names none.
      data: the recording itself, if it has been read already.

    Raises:
      UserError: it is no run directory, or its recording is missing or has other sizes.

    Warns:
      UserWarning: as :func:`read`, or the recording is not the one that the run was trained on.
    """
    config = directory.read_config(path)
    sizes = directory.read_run(path)["sizes"]
    data = data or recording.read(config, data_path, targets)
    dims = data.dims
    for name in _SIZES:
        if sizes[name] != getattr(dims, name):
            raise UserError(
                f"{data_path or config.data.path} is another recording than that of {path}: it has "
                f"{name} {getattr(dims, name)}, but the run was trained with {sizes[name]}; give "
                f"the same recording as data (--data)"
            )
    if other := recording.difference(path, config, data, data_path, targets):
        warnings.warn(other, stacklevel=2)
    arch = setup.prepare(config, data).arch
    at, hyper, members = _newest(path, config, arch)
    return TrainedRun(path, config, data, arch, hyper, members, at / arch.steps_per_epoch, other)


def models(path: Path, data_path: str = "", targets: str = "") -> list[TrainedModel]:
    """The models of a directory's mean rate; their weights sum to 1.

    Args:
      path: a run directory, whose usable members have equal weights, or an ensemble directory.
      data_path: the recording, if it has moved.
      targets: a target file, if the configuration names none.

    Raises:
      UserError: as :func:`load`, or no member was ever validated.
    """
    if not ensemble_directory.is_ensemble(path):
        trained = load(path, data_path, targets)
        if not trained.usable:
            raise UserError(f"no member of {path} has been validated yet; train it further")
        return [TrainedModel(trained, k, 1 / len(trained.usable)) for k in trained.usable]
    parts: dict[Path, TrainedRun] = {}
    found = []
    for part, member, weight in ensemble_directory.members(path):
        if part not in parts:
            data = next((t.data for t in parts.values()), None)
            parts[part] = load(part, data_path, targets, data)
        if member not in parts[part].usable:
            raise UserError(
                f"{part} holds no member {member}, which {path / ensemble_directory.FILE} names; "
                f"choose the ensemble again with stndt ensemble"
            )
        found.append(TrainedModel(parts[part], member, weight))
    return found


def best_run(found: Sequence[TrainedModel]) -> TrainedRun:
    """The run of the model with the highest validation co-bps."""
    return max(found, key=lambda model: np.nan_to_num(model.cobps, nan=-np.inf)).trained


def _newest(path: Path, config: Config, arch: step.Arch) -> tuple[int, Hyper, population.Member]:
    """The step number of the newest whole checkpoint, the hyperparameters, and the members."""
    like, hyper = population.abstract(config, arch)
    checkpoints = Checkpoints(path / "checkpoints", repair=False)
    for sentence in checkpoints.found:
        warnings.warn(f"{sentence}, so an older one is used", stacklevel=3)
    with progress.task(f"reading the weights of {path}"):
        at, members = checkpoints.load(like)
    return at, hyper, members
