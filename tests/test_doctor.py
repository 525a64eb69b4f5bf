"""What ``stndt --version`` and ``stndt doctor`` say about the installation."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from stndt_jax import __version__
from stndt_jax.cli import main
from stndt_jax.workflows import doctor


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    first, used = capsys.readouterr().out.splitlines()
    assert first == __version__
    assert f"jax {jax.__version__}, " in used and f"numpy {np.__version__}, Python 3." in used
    assert used.endswith("; 8 devices of cpu: cpu")


def test_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor.found
    monkeypatch.setattr(doctor, "found", lambda name: "" if name == "dynamax" else found(name))
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("dynamax"))
    assert "the LDS baseline" in line and line.endswith("pip install -e '.[lds]'")
    assert "file locks" in out and "GiB free in" in out


def test_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.locks(tmp_path) == "work"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "two processes can hold one" in doctor.locks(tmp_path)

    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    assert doctor.locks(tmp_path).startswith("do not work (No locks available)")


def test_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise RuntimeError("Unable to initialize backend\nmore")

    monkeypatch.setattr(jax, "devices", none)
    assert doctor.devices().startswith("no devices (Unable to initialize backend")


def test_the_compile_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for off in ("", "off"):
        monkeypatch.setenv("STNDT_CACHE", off)
        assert doctor.cache() == "off"
    folder = tmp_path / "cache"
    monkeypatch.setenv("STNDT_CACHE", str(folder))
    assert doctor.cache() == f"0 programs, 0 MiB, in {folder}"
    (folder / "jax").mkdir(parents=True)
    (folder / "jax" / "one-cache").write_bytes(bytes(3 * 2**20))
    assert doctor.cache() == f"1 program, 3 MiB, in {folder}"
    monkeypatch.setenv("STNDT_CACHE", str(folder / "jax" / "one-cache"))
    assert "cannot be written; set STNDT_CACHE" in doctor.cache()
