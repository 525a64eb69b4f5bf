"""The lock of a run directory: held, released, lost; by processes of any namespace and clock."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from stndt_jax.errors import UserError
from stndt_jax.runs import lock
from stndt_jax.runs.lock import Lock, LockLost


def _holder(folder: Path) -> subprocess.Popen[bytes]:
    """Another process, which holds the lock of a directory."""
    program = (
        "import sys, time; from pathlib import Path; from stndt_jax.runs.lock import Lock\n"
        f"Lock(Path({str(folder)!r})).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_one_at_a_time(tmp_path: Path) -> None:
    with Lock(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            Lock(tmp_path).__enter__()
        assert (tmp_path / "lock").exists()
        assert str(lock.holder(tmp_path)).startswith(f"process {os.getpid()} ")
    assert not (tmp_path / "lock").exists()
    assert lock.holder(tmp_path) is None
    with Lock(tmp_path):
        pass


def test_the_kernel_releases_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    process = _holder(tmp_path)
    with pytest.raises(UserError, match=f"process {process.pid} "):
        Lock(tmp_path).__enter__()
    _end(process)
    assert (tmp_path / "lock").exists()
    assert lock.holder(tmp_path) is None
    with Lock(tmp_path) as held:
        held.check()


@pytest.mark.parametrize("age", [-3600 * 24, 0, 3600], ids=["future", "now", "old"])
def test_neither_age_nor_process_number_matters(tmp_path: Path, age: float) -> None:
    process = _holder(tmp_path)
    when = time.time() - age
    # The number of a process that does not run here, as from another container.
    content = json.loads((tmp_path / "lock").read_bytes()) | {"pid": 2**22 + 1, "container": "x"}
    (tmp_path / "lock").write_text(json.dumps(content))
    os.utime(tmp_path / "lock", (when, when))
    with pytest.raises(UserError, match=f"process {2**22 + 1} in another container on"):
        Lock(tmp_path).__enter__()
    _end(process)
    os.utime(tmp_path / "lock", (when, when))
    with Lock(tmp_path):
        pass


def test_who_lost_the_lock_writes_no_more_and_removes_no_other(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    first.__enter__()
    first.check()
    (tmp_path / "lock").unlink()
    with pytest.raises(LockLost, match="was removed, so this process stops"):
        first.check()
    with Lock(tmp_path) as second:
        with pytest.raises(LockLost, match="is now that of process"):
            first.check()
        first.__exit__()
        second.check()
    assert not (tmp_path / "lock").exists()


def test_a_contender_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    with Lock(tmp_path) as held:
        before = (tmp_path / "lock").read_bytes()
        with pytest.raises(UserError, match="is using"):
            Lock(tmp_path).__enter__()
        assert (tmp_path / "lock").read_bytes() == before
        held.check()


def test_waits_for_a_process_that_ends(tmp_path: Path) -> None:
    process = _holder(tmp_path)
    timer = threading.Timer(0.5, process.kill)
    timer.start()
    with Lock(tmp_path, wait_s=30):
        pass
    timer.join()
    _end(process)


def test_earlier_versions_that_beat_are_respected(tmp_path: Path) -> None:
    about = {"host": "elsewhere", "pid": 1, "began": "1"}
    (tmp_path / "lock").write_text(json.dumps(about))
    assert lock.holder(tmp_path) == "process 1 on elsewhere"
    with pytest.raises(UserError, match="process 1 on elsewhere is using"):
        Lock(tmp_path).__enter__()
    for age in (61, -3600):
        (tmp_path / "lock").write_text(json.dumps(about))
        os.utime(tmp_path / "lock", (time.time() - age,) * 2)
        assert lock.holder(tmp_path) is None
        with Lock(tmp_path):
            pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b"null", b"\xff\0" * 99])
def test_a_torn_file_is_no_lock(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    with Lock(tmp_path) as held:
        held.check()
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(LockLost, match="is now that of another process"):
            held.check()
        with pytest.raises(UserError, match="another process is using"):
            Lock(tmp_path).__enter__()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UserError, match=r"file system has no locks.*--no-lock"):
        Lock(tmp_path).__enter__()
    with (
        pytest.raises(UserError, match=r"file system has no locks.*--no-lock"),
        lock.turn(tmp_path / "turn"),
    ):
        pass
    monkeypatch.setenv(lock.NO_LOCK, "1")
    with lock.turn(tmp_path / "turn"), Lock(tmp_path) as first:
        first.check()
        # The later one wins; the earlier one notices before it writes.
        with Lock(tmp_path) as second:
            second.check()
            with pytest.raises(LockLost):
                first.check()


def test_the_soft_locks_of_the_library_are_never_used(tmp_path: Path) -> None:
    with Lock(tmp_path) as held:
        assert isinstance(held._kernel, filelock.UnixFileLock)
        assert not held._kernel.fallback_to_soft


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match="cannot be read as a lock"):
        Lock(tmp_path).__enter__()
