"""Every requirement has a lower bound, which the oldest environments of tools/versions.py have."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
import versions

SETUP = (Path(__file__).resolve().parents[1] / "setup.py").read_text(encoding="utf-8")


def test_every_requirement_has_one_lower_bound() -> None:
    wanted = versions.requirements(SETUP)
    bounds = versions.constraints(wanted)
    # jax[cuda12] and the like name the same jax again.
    named = [text for text in wanted if not text.startswith("jax[")]
    packages = {line.partition("==")[0] for line in bounds}
    missing = [text for text in named if text.partition(">=")[0] not in packages]
    assert not missing
    assert {"jax", "flax", "orbax-checkpoint", "numpy", "optuna", "pytest"} <= packages


def test_constraints_are_the_lower_bounds() -> None:
    text = """
EXTRAS = {"a": ["one>=1.2,<3", "two"], "b": ["one>=1.2,<3", "three[x]>=4"]}
setup(install_requires=["four>=5.6; python_version >= '3.12'", "five<7"])
"""
    wanted = versions.requirements(text)
    assert len(wanted) == 5
    four = "four==5.6; python_version >= '3.12'"
    assert sorted(versions.constraints(wanted)) == [four, "one==1.2", "three==4"]
    with pytest.raises(ValueError, match=r"one has two lower bounds: 1\.2 and 1\.3"):
        versions.constraints([*wanted, "one>=1.3"])


def test_what_is_installed_here_is_permitted() -> None:
    """In the environments of ``make test-versions``, that is what the table stands for."""
    for line in versions.constraints(versions.requirements(SETUP)):
        name, _, bound = line.partition("==")
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        assert numbers(found) >= numbers(bound), f"{name} {found} is older than {bound}"


def numbers(version: str) -> list[int]:
    found = [int(part) for part in version.split(".") if part.isdecimal()]
    while found and not found[-1]:
        found.pop()
    return found


def test_this_interpreter_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(versions, "PYTHONS", (here, "3.99"))
    python = tmp_path / f"python{here}"
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert versions.interpreters() == {here: str(python)}


def test_an_environment_that_cannot_be_installed_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "interpreters", lambda: {"3.99": "python3.99"})
    monkeypatch.setattr(versions, "installed", lambda *_: "ERROR: no wheel")
    assert versions.main(["--only=3.99-newest", "--", "-q"]) == 1
    outcome = versions.tried("3.99", "python3.99", "newest", "dev", [])
    last = versions.table([outcome]).splitlines()[-1]
    assert last.split() == ["3.99", "newest", "FAILED", "ERROR:", "no", "wheel", "0"]
