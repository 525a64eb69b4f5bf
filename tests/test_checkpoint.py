"""Checkpoints: what goes in comes out, the newest first, damage is one sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import sharded_saves

from stndt_jax.errors import UserError
from stndt_jax.parallel import lifts
from stndt_jax.runs import checkpoint
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.lock import Lock

ROOT = Path(__file__).resolve().parents[1]


class _Tree(NamedTuple):
    weights: dict
    step: jax.Array


def _tree(value: float) -> _Tree:
    return _Tree({"a": jnp.full((2, 3), value), "b": jnp.arange(4)}, jnp.int32(value))


def test_the_newest_of_two_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest is None
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, _tree(epoch))
    again = Checkpoints(tmp_path / "c")
    epoch, tree = again.load(jax.eval_shape(lambda: _tree(0.0)))
    assert epoch == 3
    np.testing.assert_array_equal(tree.weights["a"], np.full((2, 3), 3.0))
    np.testing.assert_array_equal(tree.weights["b"], np.arange(4))
    assert int(tree.step) == 3
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if p.name.isdecimal()) == ["2", "3"]


def test_nothing_to_load(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(UserError, match="holds no intact checkpoint"):
        checkpoints.load(_tree(0.0))
    with Lock(tmp_path), pytest.raises(UserError, match="is still training, wait"):
        checkpoints.load(_tree(0.0))


def test_another_shape_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"a": jnp.zeros(3)})
    with pytest.raises(UserError, match="checkpoint 1"):
        checkpoints.load({"b": jnp.zeros(3)})


def _damage(folder: Path, number: int) -> None:
    file = max((folder / str(number)).rglob("d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_bit_sends_back_to_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, _tree(epoch))
    _damage(folder, 2)
    reading = Checkpoints(folder, repair=False)
    assert reading.latest == 1
    assert (folder / "2").exists()
    found = Checkpoints(folder)
    assert found.latest == 1
    assert "checkpoint 2" in found.found[0] and "damaged" in found.found[0]
    assert (tmp_path / "damaged" / "2.1").is_dir()
    found.save(2, _tree(2.0))
    _damage(folder, 2)
    assert Checkpoints(folder).latest == 1
    assert (tmp_path / "damaged" / "2.2").is_dir()


def test_one_without_its_digests_was_never_finished(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    for epoch in (1, 2):
        Checkpoints(folder).save(epoch, _tree(epoch))
    (folder / "2.sha256").unlink()
    (folder / "3.orbax-checkpoint-tmp-1").mkdir()
    found = Checkpoints(folder)
    assert found.latest == 1
    assert "is incomplete" in found.found[0]
    assert not list(folder.glob("*tmp*"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    Checkpoints(folder).save(1, _tree(1))
    next((folder / "1").rglob("_METADATA")).unlink()
    found = Checkpoints(folder)
    assert found.latest is None
    assert "lacks state/_METADATA" in found.found[0]
    with pytest.raises(UserError, match=r"no intact checkpoint.*lacks"):
        found.load(_tree(0.0))


def test_a_full_disk_is_one_sentence_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, _tree(1))

    def full(path: Path, tree: object) -> None:
        path.mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file: No space left on device")

    monkeypatch.setattr(checkpoint.ocp, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*checkpoint 1 is kept"):
        checkpoints.save(2, _tree(2))
    assert Checkpoints(folder).latest == 1


def test_a_bug_in_saving_stays_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, tree: object) -> None:
        raise ValueError("not of the disk")

    monkeypatch.setattr(checkpoint.ocp, "save", broken)
    with pytest.raises(ValueError, match="not of the disk"):
        Checkpoints(tmp_path / "c").save(2, _tree(2))


def _saving(folder: Path, first: int, last: int, devices: int, processes: int = 1) -> Any:
    """Starts ``helpers/sharded_saves.py`` in a process group of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    script = ROOT / "tests" / "helpers" / "sharded_saves.py"
    command = [sys.executable, str(script), str(folder), str(first), str(last)]
    if processes > 1:
        launcher = ROOT / "launch" / "local_multiprocess.sh"
        command = ["bash", str(launcher), str(processes), *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def _saved(*arguments: int, folder: Path) -> None:
    process = _saving(folder, *arguments)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error


def _check_latest(folder: Path, at_least: int) -> int:
    """The newest checkpoint is whole, and read on one device and on eight."""
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest is not None and checkpoints.latest >= at_least
    wanted = sharded_saves.tree(checkpoints.latest)
    for sharding in (None, lifts.of_members(lifts.mesh(sharded_saves.ROWS))):
        number, found = checkpoints.load(sharded_saves.tree(0), sharding)
        assert number == checkpoints.latest
        for name, array in wanted.items():
            assert len(found[name].sharding.device_set) == (1 if sharding is None else 8)
            np.testing.assert_array_equal(found[name], array)
    return number


@pytest.mark.slow
def test_from_eight_devices_to_one_and_back(tmp_path: Path) -> None:
    """In processes that have so many devices; each reads what the one before it saved."""
    folder = tmp_path / "c"
    _saved(1, 1, 8, folder=folder)
    _saved(2, 2, 1, folder=folder)
    _saved(3, 3, 8, folder=folder)
    assert _check_latest(folder, 3) == 3


def _kill_while_saving(process: Any, folder: Path, finished: int, delay_s: float) -> int:
    """Kills all processes a moment after the start of a save, once others are finished.

    Returns:
      The last checkpoint that was reported as saved.
    """
    try:
        said = ""
        while f"saved {finished}\n" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        deadline = time.monotonic() + 120
        while not list(folder.glob("*.orbax-checkpoint-tmp*")):
            assert time.monotonic() < deadline and process.poll() is None
        time.sleep(delay_s)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    said += process.communicate(timeout=60)[0]
    return max(int(number) for number in re.findall(r"^saved (\d+)$", said, re.MULTILINE))


@pytest.mark.long
@pytest.mark.parametrize(("processes", "devices"), [(1, 8), (2, 4)])
def test_killed_while_saving_on_eight_devices(processes: int, devices: int, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    first, incomplete = 1, 0
    for delay_s in (0.0, 0.002, 0.005, 0.01, 0.02):
        process = _saving(folder, first, first + 50, devices, processes)
        kept = _kill_while_saving(process, folder, first + 1, delay_s)
        assert kept >= first + 1
        incomplete += bool(list(folder.glob("*.orbax-checkpoint-tmp*")))
        first = _check_latest(folder, kept) + 1
        assert not list(folder.glob("*tmp*"))
    assert incomplete >= 2
    # And saving goes on.
    process = _saving(folder, first, first, devices, processes)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert _check_latest(folder, first) == first
