"""The files of a run directory other than its checkpoints.

``config.json``    the configuration, as ``config.schema.to_mapping`` returns it
``run.json``       a copy of the configuration, fingerprint and sizes of the recording, and the
                   sessions: for each process that trained the run, versions, commit, devices,
                   command line, times and how it ended
``metrics.jsonl``  one row per validation
``log.txt``        what was printed
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from stndt_jax import files
from stndt_jax.config import own_files, schema
from stndt_jax.config.schema import Config, from_mapping, to_mapping, with_later
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.runs import records

# Sizes of a trial, in run.json under sizes.
_SIZES = ("bins_observed", "bins_forward", "heldin", "heldout")
# Each makes a directory that of a run, or of what is left of one.
_MARKS = (
    *("config.json", "run.json", "ensemble.json", "metrics.jsonl", "checkpoints", "init.json"),
    *("population.json", "retrain.json", "seeds.json", "search.json", "study.json"),
)
# What a run directory may hold before these are written.
_OF_RUNS = (
    *("data.h5", "targets.h5", "log.txt", "lock", "figures", "compiled", "tensorboard"),
    "lost+found",  # of a volume
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "h5py", "nlb_tools")


def make(path: Path) -> None:
    """Creates a directory unless it exists.

    Raises:
      UserError: it cannot be created, or no file can be written to it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); choose another directory"
        ) from error


def check_free(path: Path) -> None:
    """Refuses a directory that holds files, but no run and nothing left of one.

    Hidden and temporary files, outputs of a batch system, recordings and scripts do not count.

    Raises:
      UserError: the directory holds other files.
    """
    if not path.is_dir() or any((path / name).exists() for name in _MARKS):
        return
    foreign = sorted(
        found.name
        for found in path.iterdir()
        if found.name not in _OF_RUNS
        and not found.name.startswith(".")
        and not files.is_temporary(found)
        and found.suffix not in (".out", ".err", ".log", ".h5", ".py", ".sh")
    )
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UserError(
            f"{path} is no run directory, but holds other files ({foreign[0]}{more}); choose an "
            f"empty or a new directory"
        )


@contextlib.contextmanager
def made(path: Path) -> Iterator[None]:
    """Creates a directory unless it exists; if the block raises and left it empty, it is removed.

    Raises:
      UserError: as :func:`make`.
    """
    is_new = not path.exists()
    make(path)
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def read_config(path: Path) -> Config:
    """The configuration of a run.

    Raises:
      UserError: ``config.json`` is missing or damaged.
    """
    copy = f"restore it; {path / 'run.json'} has a copy under config"
    values = files.read_json(path / "config.json", copy)
    if not isinstance(values, dict):
        raise UserError(f"{path / 'config.json'} holds no configuration; {copy}")
    try:
        return from_mapping(with_later(own_files.expanded(values, path)))
    except UserError as error:
        raise UserError(f"{path / 'config.json'} is damaged: {error}; {copy}") from error


def write_config(path: Path, config: Config) -> None:
    """Writes the configuration of the run in a directory.

    Raises:
      UserError: the file cannot be written.
    """
    values = own_files.contracted(to_mapping(config), path)
    files.write_json(path / "config.json", values)


def differences(old: Config, new: Config) -> list[str]:
    """The keys in which two configurations differ, as ``key: old -> new``."""
    a, b = schema.flat(old), schema.flat(new)
    return [
        f"{key}: {a.get(key)} -> {b.get(key)}" for key in {**a, **b} if a.get(key) != b.get(key)
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in ("stndt_jax", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def open_run(path: Path, config: Config, data: SpikeData, *, extend: bool = False) -> None:
    """Creates the files of a new run, or adds a session to an existing one.

    The caller holds the lock of the directory.

    Args:
      path: the run directory, which exists.
      config: what is to be trained.
      data: the recording to train on.
      extend: whether an existing run may be trained for more epochs than before.

    Raises:
      UserError: the run in the directory has another configuration or was trained on another
        recording, or its files are missing or damaged.
    """
    files.remove_temporary(path, older_than_s=3600)
    if not (path / "config.json").exists():
        # Only run.json: an earlier process was killed, or the disk was full, before training.
        if any((path / "checkpoints").glob("[0-9]*")) or (path / "metrics.jsonl").exists():
            raise UserError(
                f"{path} holds a run without config.json; restore that file (run.json has a copy "
                f"under config), or start a new run with --fresh (fresh=True), which sets this one "
                f"aside"
            )
        trials = {"train_trials": len(data.train), "eval_trials": len(data.eval)}
        sizes = trials | {name: getattr(data, name) for name in _SIZES}
        new = {
            "config": own_files.contracted(to_mapping(config), path),
            "data": data.name,
            "data_fingerprint": data.fingerprint(),
            "sizes": sizes,
        }
        records.write(path / "run.json", new | {"sessions": [session()]})
        write_config(path, config)
        return
    old, run = read_config(path), read_run(path)
    changed = [d for d in differences(old, config) if d.split(":")[0] not in schema.FREE]
    longer = [d for d in changed if d.startswith("train.epochs:")]
    if extend and longer and config.train.epochs > old.train.epochs:
        changed = [d for d in changed if d not in longer]
    if changed:
        hint = ", extend it with --extend (extend=True)," if longer and changed == longer else ""
        raise UserError(
            f"{path} holds a run with another configuration ({'; '.join(changed)}); repeat the old "
            f"settings to continue it{hint} or choose another directory"
        )
    if not data.matches(run["data_fingerprint"], old.data.name):
        raise UserError(
            f"{path} was trained on another recording than {config.data.path} (fingerprints "
            f"{run['data_fingerprint'][:12]} and {data.fingerprint()[:12]}); give the same "
            f"recording or choose another directory"
        )
    run["sessions"] = [*run["sessions"], session()]
    records.write(path / "run.json", run)
    if longer:
        write_config(path, config)


def note_end(path: Path, ending: str) -> None:
    """Writes into ``run.json`` when and how the last session ended, if it can be written."""
    # If the disk is full, that is what ended the session, and its own error is the one to report.
    with contextlib.suppress(UserError):
        run = read_run(path)
        run["sessions"][-1] |= {"ended": _now(), "how": ending}
        records.write(path / "run.json", run)


def set_aside(path: Path) -> Path | None:
    """Renames a run directory to a free name beside it; nothing is ever deleted.

    Returns:
      The new name, or None if the directory does not exist or is empty.

    Raises:
      UserError: it cannot be renamed, or holds files that are no run's.
    """
    check_free(path)
    if not path.is_dir() or not any(path.iterdir()):
        return None
    free = next(i for i in range(1, 10**6) if not Path(f"{path}.old{i}").exists())
    try:
        return path.rename(f"{path}.old{free}")
    except OSError as error:
        raise UserError(f"{path} cannot be renamed ({error.strerror}); move it by hand") from error


def read_run(path: Path) -> dict[str, Any]:
    """The ``run.json`` of a run directory, in the newest format.

    Raises:
      UserError: it is missing or damaged.
    """
    run = records.read(path / "run.json")
    fine = (
        isinstance(run.get("data_fingerprint"), str)
        and isinstance(run.get("sizes"), dict)
        and all(isinstance(run["sizes"].get(name), int) for name in _SIZES)
        and isinstance(run.setdefault("sessions", []), list)
        and all(isinstance(session, dict) for session in run["sessions"])
    )
    if not fine:
        raise UserError(
            f"{path / 'run.json'} is damaged: data_fingerprint, sizes or sessions are missing or "
            f"invalid; {files.RESTORE}"
        )
    return run


def session() -> dict[str, Any]:
    """The record of a session that begins now, for ``run.json``."""
    return {
        "began": _now(),
        "command": sys.argv,
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "versions": versions(),
        "commit": _commit(),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of the source tree; None if the package was installed without one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    ask = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
