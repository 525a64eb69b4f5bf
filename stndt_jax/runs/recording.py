"""The recording of a run: the files its configuration names, or its own copy of data in memory.

A recording that was given as arrays is written into the run directory, as ``data.h5`` and
``targets.h5``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from stndt_jax import files
from stndt_jax.config import automatic
from stndt_jax.config.schema import Config, DataConfig
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.parallel import multihost
from stndt_jax.runs import directory, ensemble_directory
from stndt_jax.runs.lock import Lock

# The files of the run's own copy.
DATA, TARGETS = "data.h5", "targets.h5"


def read(config: Config, path: str = "", targets: str = "") -> SpikeData:
    """Reads the recording that a configuration names.

    Args:
      config: names the files, and how to read them.
      path: another input file in place of ``config.data.path``.
      targets: another target file in place of ``config.data.targets``.

    Raises:
      UserError: no file is named, or it cannot be read.
    """
    return automatic.read(config.data, path, targets)


def difference(
    path: Path, config: Config, data: SpikeData, data_path: str = "", targets: str = ""
) -> str:
    """A sentence if a recording is not the one that a run was trained on; empty otherwise.

    Also if the target file is known to belong to another recording.

    Args:
      path: the run or ensemble directory.
      config: its configuration.
      data: the recording.
      data_path: where it was read from, if not where the configuration says.
      targets: as ``data_path``, of the target file. What a run is scored against is no part of what
        it was trained on.

    Raises:
      UserError: the fingerprint in the directory cannot be read.
    """
    other = _other_recording(path, config, data, data_path, targets)
    return other or _other_targets(config, data_path, targets)


def _other_targets(config: Config, data_path: str, targets: str) -> str:
    """As :func:`hdf5.other_targets`, of the files of a run; empty if they cannot be read."""
    named = config.data
    given = (data_path or named.path, targets or named.targets)
    if not all(given):
        return ""
    with contextlib.suppress(UserError):
        return hdf5.other_targets(*given, expected=named.name or None, bin_ms=named.bin_ms or None)
    return ""


def _other_recording(
    path: Path, config: Config, data: SpikeData, data_path: str, targets: str
) -> str:
    """The part of :func:`difference` that is about the recording."""
    trained, name = ensemble_directory.trained_on(path)

    def is_same(found: SpikeData) -> bool:
        # A file that states no name gives its own, which may have changed.
        named = dataclasses.replace(found, name=name or found.name)
        return any(x.matches(trained, config.data.name) for x in (found, named))

    if not trained or is_same(data):
        return ""
    if targets and targets != config.data.targets:
        with contextlib.suppress(UserError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_same(read(config, data_path)):
                return ""
    return (
        f"the recording {data_path or config.data.path} is not the one that {path} was trained on "
        f"(fingerprints {data.fingerprint()[:12]} and {trained[:12]}), so that its rates and "
        f"scores are of other data"
    )


class Watch:
    """Finds out whether the files of a recording changed, for example while a run trained on it."""

    def __init__(self, config: Config, data: SpikeData) -> None:
        """Notes the state of the files.

        Args:
          config: names them.
          data: the recording as it was read.
        """
        self._config, self._data = config, data
        self._before = self._state()

    def changed(self) -> str:
        """A sentence if the files no longer hold the recording; empty otherwise.

        They are read only if their size, time or inode changed.
        """
        if self._state() == self._before:
            return ""
        path, how = self._config.data.path, "has changed"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if read(self._config).fingerprint() == self._data.fingerprint():
                    return ""
        except UserError as error:
            how = f"can no longer be read ({error})"
        return (
            f"{path} {how} since training began; the run was trained on what the file held then, "
            f"so keep or restore that version to evaluate and continue it"
        )

    def _state(self) -> list[tuple[int, ...]]:
        named = (self._config.data.path, self._config.data.targets)
        return [_stat(Path(name)) for name in named if name]


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def of_data(config: Config, data: SpikeData, run: Path) -> tuple[Config, SpikeData]:
    """A configuration that names the files of a recording in memory, and the recording as read.

    Data that were read from files, and not changed since, stay there. Others are written into the
    run directory, unless it has a copy of them already.

    Args:
      config: of the run; its section ``data`` is replaced but for ``validation_fraction``.
      data: the recording.
      run: the run directory, new or to be continued.

    Raises:
      UserError: the configuration names other files, the run was trained on other data, or the
        copy cannot be written.
    """
    source = data.source
    if source is not None and source.fingerprint == data.fingerprint():
        named = DataConfig(
            path=source.path,
            targets=source.targets,
            name=source.name,
            bin_ms=source.bin_ms,
            validation_fraction=config.data.validation_fraction,
        )
        _same_file(config, source.path)
        return dataclasses.replace(config, data=named), data
    _same_file(config, str(run / DATA))
    own = DataConfig(
        path=str(run / DATA),
        targets="" if data.eval.heldout is None else str(run / TARGETS),
        name="",
        bin_ms=0.0,
        validation_fraction=config.data.validation_fraction,
    )
    with multihost.together():
        if multihost.first():
            _keep(data, run)
    config = dataclasses.replace(config, data=own)
    with multihost.together():
        return config, read(config)


def or_own(config: Config, run: Path) -> Config:
    """A configuration that names no recording, naming the run's own copy if there is one."""
    if config.data.path or not (run / DATA).is_file():
        return config
    targets = run / TARGETS
    own = dataclasses.replace(
        config.data, path=str(run / DATA), targets=str(targets) if targets.is_file() else ""
    )
    return dataclasses.replace(config, data=own)


def is_own(config: Config, run: Path) -> bool:
    """Whether a configuration names the copy that a run directory has of its recording."""
    return Path(config.data.path).resolve() == (run / DATA).resolve()


def copy(config: Config, source: Path, out: Path) -> Config:
    """Gives another run directory the copy of the recording that a run has of its own, if any.

    Args:
      config: of the run.
      source: its directory.
      out: the other directory.

    Returns:
      The configuration, naming the files in the other directory.

    Raises:
      UserError: the files cannot be written.
    """
    named = config.data
    for key, name in (("path", DATA), ("targets", TARGETS)):
        own = source / name
        if Path(getattr(named, key)).resolve() != own.resolve() or not own.is_file():
            continue
        with files.replacing(out / name) as partial:
            try:
                # These files are never changed in place, so that two directories may share them.
                os.link(own, partial)
            except OSError:
                shutil.copyfile(own, partial)
        changed: Any = {key: str(out / name)}
        named = dataclasses.replace(named, **changed)
    return dataclasses.replace(config, data=named)


def _same_file(config: Config, path: str) -> None:
    """Refuses a configuration that names another file than the data come from."""
    named = config.data.path
    if named and Path(named).absolute() != Path(path).absolute():
        raise UserError(
            f"config.data.path names {named}, but other data were given; leave one of the two out"
        )


def _keep(data: SpikeData, run: Path) -> None:
    """Writes the copy of a new run, or checks that of a run that is continued."""
    directory.check_free(run)
    directory.make(run)
    if not (run / "config.json").exists():
        with Lock(run):
            _write(data, run)
        return
    with tempfile.TemporaryDirectory() as folder:
        _write(data, Path(folder))
        given = _fingerprint(Path(folder))
    if given != directory.read_run(run)["data_fingerprint"]:
        raise UserError(
            f"{run} was trained on other data than those given; give the same data, or train in "
            f"another directory"
        )
    if not (run / DATA).is_file():
        _write(data, run)


def _write(data: SpikeData, folder: Path) -> None:
    hdf5.write(data, folder / DATA)
    if data.eval.heldout is not None:
        hdf5.write_targets(data, folder / TARGETS)


def _fingerprint(folder: Path) -> str:
    """The fingerprint of a written copy; writing does not keep everything as it was in memory."""
    targets = folder / TARGETS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hdf5.read(folder / DATA, targets if targets.exists() else None).fingerprint()
