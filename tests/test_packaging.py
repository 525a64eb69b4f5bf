"""What leaves the repository: the wheel, and what git holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import stndt_jax

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 400_000  # bytes


def tracked() -> list[Path]:
    """The files git holds, or is about to."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout and git")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    if not files:
        pytest.skip("git holds no files yet")
    return [path for path in files if path.is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without network from a copy: a build folder left in the checkout would leak in."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("stndt_jax", "configs", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for pattern in ("setup.py", "*.toml", "*.md", "*.in", "LICENSE"):
        for path in ROOT.glob(pattern):
            shutil.copy(path, copy)
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", out, copy),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "stndt_jax").rglob("*.py")}
    wanted |= {f"stndt_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    wanted |= {"stndt_jax/py.typed", "stndt_jax/report/page.css", "stndt_jax/report/page.js"}
    info = f"stndt_jax-{stndt_jax.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == wanted
    # Before version 77, setuptools puts it beside the metadata.
    assert {info + "licenses/LICENSE", info + "LICENSE"} & set(names)


@pytest.mark.slow
def test_the_wheel_names_what_it_needs(wheel: Path):
    info = f"stndt_jax-{stndt_jax.__version__}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(info + "METADATA").decode()
        scripts = archive.read(info + "entry_points.txt").decode()
    assert re.search(r"^Requires-Python: >=3\.11$", metadata, re.M)
    needed = {
        re.split(r"[<>=;\[ ]", line)[0].lower().replace("-", "_")
        for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.M)
        if "extra ==" not in line
    }
    assert needed == {
        *(
            "absl_py",
            "filelock",
            "flatbuffers",
            "flax",
            "h5py",
            "jax",
            "ml_collections",
            "numpy",
            "optax",
        ),
        *("orbax_checkpoint", "rich", "scikit_learn", "scipy"),
    }
    # An index shows it, without the files that README.md links to.
    description = metadata.partition("\n\n")[2]
    assert description.startswith("# stndt_jax") and "## Results" in description
    targets = re.findall(r"\]\(([^)]*)\)", description)
    assert targets and all(target.startswith("https://") for target in targets)
    assert "![" not in description
    assert re.search(r"^Description-Content-Type: text/markdown$", metadata, re.M)
    for python in ("3.11", "3.12", "3.13"):
        assert f"Classifier: Programming Language :: Python :: {python}\n" in metadata
    assert re.search(r"^Keywords: .*neuroscience", metadata, re.M)
    # Its pins cannot be installed with ours.
    assert not re.findall(r"^Requires-Dist: nlb.*$", metadata, re.M)
    assert "stndt = stndt_jax.cli.main:entry" in scripts


@pytest.mark.long
def test_the_sdist_holds_what_git_holds(tmp_path: Path):
    """Everything but files of git and of its hosts, so that the tests can run from it."""
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    for name in names:
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "copy" / name)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)],
        cwd=tmp_path / "copy",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in held if ".egg-info/" in name}
    assert held - made == {name for name in names if not name.startswith(".")}


@pytest.mark.slow
def test_the_wheel_works_away_from_the_repository(wheel: Path, tmp_path: Path):
    code = """
import importlib, pkgutil, sys
site = sys.argv[1]
sys.path.insert(0, site)
import stndt_jax.configs
from stndt_jax.cli.main import entry
names = [m.name for m in pkgutil.iter_modules(stndt_jax.configs.__path__, "stndt_jax.configs.")]
for name in ["stndt_jax", "stndt_jax.cli", "stndt_jax.configs", *names]:
    assert importlib.import_module(name).__file__.startswith(site), name
assert callable(entry)
print(*names)
"""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    away = tmp_path / "away"
    away.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "site")],
        cwd=away,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    configs = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__"}
    assert {name.rpartition(".")[2] for name in done.stdout.split()} == configs


def test_git_holds_no_trace_of_one_machine():
    """Absolute paths and the hosts of package registries, put together here so as not to match."""
    paths = [f"/{folder}/" for folder in ("work", "root", "home")]
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pypi", "python", "org"),
            ("pythonhosted", "org"),
            ("anaconda", "org"),
            ("download", "pytorch", "org"),
        )
    ]
    forbidden = [text.encode() for text in paths + hosts]
    found = [
        f"{path.relative_to(ROOT)} holds {text.decode()}"
        for path in tracked()
        for text in forbidden
        if text in path.read_bytes()
    ]
    assert not found, "; ".join(found)


def test_git_holds_no_large_file():
    large = [
        f"{path.relative_to(ROOT)} has {path.stat().st_size:,} bytes"
        for path in tracked()
        if path.stat().st_size > LARGEST and ROOT / "tests/data" not in path.parents
    ]
    assert not large, "; ".join(large)
