"""The files of a run directory other than its checkpoints.

``config.json``   the configuration, as ``config.to_mapping`` gives it
``run.json``      versions, data fingerprint and sizes, devices, command line, how it ended
``metrics.jsonl`` one row a validation
``log.txt``       what was printed
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import jax

from stndt_jax.config import Config, from_mapping, to_mapping
from stndt_jax.errors import UserError

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "h5py", "nlb_tools")


def make(path: Path) -> None:
    """Makes the directory.

    Raises:
      UserError: it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"--workdir {path} cannot be written ({error.strerror}); choose another"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none; NaN and infinity become null.

    Raises:
      UserError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(finite(value), indent=2, allow_nan=False) + "\n")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error


def finite(value: Any) -> Any:
    """``value`` for JSON: what is not a finite number becomes None."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; {path.parent} is no run directory of stndt train"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it from a backup") from error


def read_config(path: Path) -> Config:
    """The configuration of the run in a directory."""
    values = read_json(path / "config.json")
    if not isinstance(values, dict):
        raise UserError(f"{path / 'config.json'} holds no configuration; restore it")
    return from_mapping(values)


def differences(old: Config, new: Config) -> list[str]:
    """The keys in which two configurations differ, as ``key: old -> new``."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in values.items():
            if isinstance(value, dict):
                found |= flat(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = list(value) if isinstance(value, tuple) else value
        return found

    a, b = flat(to_mapping(old)), flat(to_mapping(new))
    return [
        f"{key}: {a.get(key)} -> {b.get(key)}" for key in {**a, **b} if a.get(key) != b.get(key)
    ]


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("stndt_jax", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def provenance(fingerprint: str, sizes: dict[str, int]) -> dict[str, Any]:
    """What ``run.json`` says at the start of a run."""
    return {
        "versions": versions(),
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "machine": platform.machine(),
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data_fingerprint": fingerprint,
        "sizes": sizes,
    }
