"""The lock of a run directory: held, released, stale."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stndt_jax.errors import UserError
from stndt_jax.runs import lock
from stndt_jax.runs.lock import Lock


def test_one_at_a_time(tmp_path: Path) -> None:
    with Lock(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            Lock(tmp_path).__enter__()
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
    with Lock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_stale(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from stndt_jax.runs.lock import Lock\n"
        f"Lock(Path({str(tmp_path)!r})).__enter__(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {process.pid} "):
        Lock(tmp_path).__enter__()
    process.kill()
    process.wait()
    process.stdout.close()
    with Lock(tmp_path):
        pass


def _held_by(path: Path, **holder: object) -> None:
    (path / "lock").write_text(json.dumps(holder))


def test_a_number_that_was_given_again_is_not_the_holder(tmp_path: Path) -> None:
    if lock._began(os.getpid()) is None:
        pytest.skip("this system does not say when a process began")
    _held_by(tmp_path, host=socket.gethostname(), pid=os.getpid(), began="1")
    with Lock(tmp_path):
        pass


def test_another_hosts_lock_is_stale_after_a_minute(tmp_path: Path) -> None:
    _held_by(tmp_path, host="elsewhere", pid=1, began="1")
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        Lock(tmp_path).__enter__()
    old = time.time() - lock.STALE_S - 1
    os.utime(tmp_path / "lock", (old, old))
    with Lock(tmp_path):
        pass


def test_the_holder_touches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    with Lock(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        until = time.monotonic() + 5
        while (tmp_path / "lock").stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert (tmp_path / "lock").stat().st_mtime > 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', "null", '{"pid": "x"}'])
def test_a_torn_lock_is_waited_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    with pytest.raises(UserError, match="is using"):
        Lock(tmp_path).__enter__()
    os.utime(tmp_path / "lock", (0, 0))
    with Lock(tmp_path):
        pass
