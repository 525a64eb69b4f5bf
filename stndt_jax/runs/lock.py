"""Locks: one process at a time in a run directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stndt_jax.errors import UserError

BEAT_S = 10.0
STALE_S = 60.0


class Lock:
    """A file with the host and the id of this process, touched every 10 s while held.

    A lock of this host is stale if its process no longer runs. A lock of another host is stale if
    it has not been touched for a minute, because that host or its job has died.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._done = threading.Event()

    def __enter__(self) -> Lock:
        """Acquires the lock.

        Raises:
          UserError: another process holds it, or the file cannot be written.
        """
        for _ in range(2):
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self._remove_if_stale()
                continue
            except OSError as error:
                raise self._unwritable(error) from error
            try:
                with os.fdopen(descriptor, "w") as file:
                    holder = {"host": socket.gethostname(), "pid": os.getpid()}
                    json.dump(holder | {"began": _began(os.getpid())}, file)
            except OSError as error:
                self._path.unlink(missing_ok=True)
                raise self._unwritable(error) from error
            threading.Thread(target=self._beat, daemon=True).start()
            return self
        raise UserError(f"{self._path} has just been acquired by another process; try again")

    def __exit__(self, *_: object) -> None:
        self._done.set()
        # The directory may have been moved or removed.
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self._path} cannot be written ({error.strerror}); free some space or choose another "
            f"directory"
        )

    def _beat(self) -> None:
        while not self._done.wait(BEAT_S):
            try:
                os.utime(self._path)
            except OSError:
                # Somebody removed the file; this does not affect training.
                return

    def _remove_if_stale(self) -> None:
        found = _read(self._path)
        if found is None:
            return
        if not found.alive:
            self._path.unlink(missing_ok=True)
            return
        raise UserError(
            f"{found.holder} is using {self._path.parent} (its lock is "
            f"{max(found.age_s, 0):.0f} s old); wait for it, stop it, or choose another directory"
        )


class _Found(NamedTuple):
    """A lock file: which process wrote it, whether it still runs, and the age of the file."""

    holder: str
    alive: bool
    age_s: float


def _read(path: Path) -> _Found | None:
    """Reads a lock file; None if there is none.

    Raises:
      UserError: it cannot be read.
    """
    try:
        age = time.time() - path.stat().st_mtime
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read as a lock ({error.strerror}); move it away"
        ) from error
    try:
        holder = json.loads(content)
        host, pid, began = str(holder["host"]), int(holder["pid"]), holder.get("began")
        if pid <= 0:
            raise ValueError(pid)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        # Its process was killed while writing it, or is writing it now.
        host, pid, began = "an unknown host", 0, None
    alive = _runs(pid, began) if host == socket.gethostname() else age <= STALE_S
    return _Found(f"process {pid} on {host}", alive, age)


def holder(folder: Path) -> str | None:
    """The process that holds the lock of a run directory, as "process 1 on host"; None if none.

    Raises:
      UserError: the lock cannot be read.
    """
    found = _read(folder / "lock")
    return found.holder if found is not None and found.alive else None


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """A context that only one thread or process is in at a time; others wait. For short work.

    The kernel holds the lock, so it is released if the process dies.

    Args:
      path: a file on a file system with locks; created if it does not exist.

    Raises:
      UserError: the file cannot be written or locked.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{path} cannot be locked ({error.strerror}); choose a directory on a file system "
                f"with locks"
            ) from error
        yield


def wait_until_free(folder: Path) -> None:
    """Waits until the lock of a process that has died, on any host, is stale, and removes it.

    Raises:
      UserError: the process that holds the lock is alive.
    """
    end = time.monotonic() + STALE_S + 2 * BEAT_S
    while True:
        try:
            with Lock(folder):
                return
        except UserError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _began(pid: int) -> str | None:
    """When a process of this host began, in clock ticks since boot; None if unknown.

    Process ids are reused, most of all in containers; the pair of id and beginning is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A zombie still has an id, but no longer runs.
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None


def _runs(pid: int, began: str | None) -> bool:
    """Whether the process that acquired a lock still runs on this host."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return began is None or _began(pid) == began
