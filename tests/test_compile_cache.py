"""Compiled programs on disk: found again, never used when damaged, shared by processes."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import pytest

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.parallel import compile_cache

# Prints a result, then how many programs were found in the directory.
SCRIPT = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from stndt_jax.parallel import compile_cache

found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
compile_cache.keep_compiled(Path(sys.argv[1]), min_seconds=0.0)
for n in (1, 2, 3, 4, 5, 6):
    print(float(jax.jit(lambda x, n=n: jnp.sin(x @ x.T).sum() * n)(jnp.eye(8) * n)))
print(found.count("/jax/compilation_cache/cache_hits"))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(folder)]
    root = Path(__file__).resolve().parents[1]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True)


def end(process: subprocess.Popen[str]) -> tuple[list[str], int]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert not err
    *values, hits = out.splitlines()
    return values, int(hits)


def is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return hashlib.sha256(content[32:]).digest() == content[:32]


@pytest.mark.long
@pytest.mark.slow
def test_damaged_programs_are_compiled_again_and_replaced(tmp_path: Path) -> None:
    values, hits = end(start(tmp_path))
    kept = sorted((tmp_path / compile_cache.machine()).glob("*-cache"))
    assert hits == 0 and len(kept) >= 6
    assert end(start(tmp_path)) == (values, len(kept))
    for i, path in enumerate(kept):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        # One bit flipped, the first half, nothing, something else, and an earlier version's.
        path.write_bytes((content, content[: len(content) // 2], b"", b"junk", content[32:])[i % 5])
    assert end(start(tmp_path)) == (values, 0)
    assert all(is_whole(path) for path in kept)
    assert end(start(tmp_path)) == (values, len(kept))
    # What cannot be replaced is not kept, and does no harm.
    kept[0].unlink()
    kept[0].mkdir()
    (kept[0] / "file").touch()
    assert end(start(tmp_path)) == (values, len(kept) - 1)


@pytest.mark.slow
def test_processes_share_a_directory(tmp_path: Path) -> None:
    outcomes = [end(process) for process in [start(tmp_path) for _ in range(3)]]
    assert len({tuple(values) for values, _ in outcomes}) == 1
    found = list((tmp_path / compile_cache.machine()).iterdir())
    assert len(found) >= 6 and all(is_whole(path) for path in found)
    assert not any(files.is_temporary(path) for path in found)


def test_the_subdirectory_is_named_by_what_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    here = compile_cache.machine()
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert compile_cache.machine() == here
    names = {here}
    for change in (
        (jax, "__version__", "0.0.1"),
        (jaxlib, "__version__", "0.0.1"),
        (compile_cache, "_cpu", lambda: "another CPU"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(*change)
            names.add(compile_cache.machine())
    assert len(names) == 4


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"compiled programs cannot be kept in .*file \(Not a dir"):
        compile_cache.keep_compiled(tmp_path / "file")


def test_the_programs_used_longest_ago_are_removed(tmp_path: Path) -> None:
    for k in range(5):
        path = tmp_path / f"jax-{k % 2}" / f"{k}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (k, k))
    (tmp_path / "mine.txt").write_bytes(bytes(1000))
    compile_cache.bound(tmp_path, most=500, left=100)
    assert len(list(tmp_path.glob("*/*-cache"))) == 5
    compile_cache.bound(tmp_path, most=499, left=250)
    assert sorted(p.name for p in tmp_path.glob("*/*-cache")) == ["3-cache", "4-cache"]
    assert (tmp_path / "mine.txt").exists()


ASKS = """
import jax
import stndt_jax.parallel.lifts
print(jax.config.values["jax_compilation_cache_dir"])
"""


@pytest.mark.parametrize(
    ("cache", "own", "kept"),
    [("CACHE", "", True), ("off", "", False), ("", "", False), ("CACHE", "MINE", False)],
)
def test_the_environment_says_where(tmp_path: Path, cache: str, own: str, kept: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["STNDT_CACHE"] = str(tmp_path / "cache") if cache == "CACHE" else cache
    if own:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / own)
    found = subprocess.run(
        [sys.executable, "-c", ASKS], capture_output=True, text=True, check=True, env=environment,
        cwd=Path(__file__).resolve().parents[1],
    ).stdout.strip()  # fmt: skip
    inside = found.startswith(str(tmp_path / "cache" / "jax-"))
    assert inside == kept
    if own:
        assert found == str(tmp_path / own)


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", ASKS], capture_output=True, text=True, check=True,
        env=environment | {"STNDT_CACHE": str(tmp_path / "file" / "x")},
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert done.stdout.strip() == "None"
