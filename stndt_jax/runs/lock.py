"""Locks: one process at a time in a run directory.

The kernel holds the lock (flock, on the file ``lock``) for as long as the process lives, however it
ends. Process numbers, host names and clocks, which containers share and which can be wrong, decide
nothing: the file says who holds the lock, for people to read, and a random token. A process whose
token is no longer in the file has lost its lock, because somebody removed the file, or the server
of a network file system released it. :meth:`Lock.check` finds this out before each write.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from stndt_jax.errors import UserError

NAME = "lock"
# Set to 1, processes go on where the file system has no locks; --no-lock sets it.
NO_LOCK = "STNDT_NO_LOCK"
# A probe by another process (stndt runs) holds the lock for an instant.
_PATIENCE_S = 0.5
# After a crash, the server of a network file system keeps the lock of a client for a while.
_LEASE_S = 120.0
# Earlier versions touched their lock file every 10 s instead of holding a lock of the kernel.
_LEGACY_S = 60.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class LockLost(UserError):  # noqa: N818
    """The lock of a directory is no longer this process's, which must write nothing more there."""


class _Busy(Exception):  # noqa: N818
    """Another process holds the lock."""


class _Replaced(Exception):  # noqa: N818
    """The file was removed between opening and locking it."""


class Lock:
    """The lock of a directory, as a context; held until it is released or the process ends."""

    def __init__(self, folder: Path, wait_s: float = _PATIENCE_S) -> None:
        """Acquires nothing yet.

        Args:
          folder: the directory, which exists.
          wait_s: how long to wait for a process that holds the lock.
        """
        self._path, self._wait_s = folder / NAME, wait_s
        self._content = b""
        self._kernel: filelock.BaseFileLock | None = None

    def __enter__(self) -> Lock:
        """Acquires the lock.

        Raises:
          UserError: another process holds it, the file cannot be written, or the file system has
            no locks.
        """
        end = time.monotonic() + self._wait_s
        while True:
            try:
                self._acquire(end)
                return self
            except _Replaced:
                continue
            except _Busy:
                if time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                who = _described(_read(self._path)) or "another process"
                raise UserError(
                    f"{who} is using {self._path.parent}; wait for it, stop it, or choose another "
                    f"directory"
                ) from None

    def __exit__(self, *_: object) -> None:
        kernel, self._kernel = self._kernel, None
        # The directory may have been moved or removed; a file of somebody else's stays.
        with contextlib.suppress(OSError):
            if self._content and _read(self._path) == self._content:
                self._path.unlink()
        self._content = b""
        if kernel is not None:
            with contextlib.suppress(OSError):
                kernel.release()

    def check(self) -> None:
        """Makes sure that this process still holds the lock; to be called before each write.

        Raises:
          LockLost: it does not.
        """
        found = _read(self._path)
        if self._content and found == self._content:
            return
        how = "was removed" if found is None else f"is now that of {_described(found)}"
        raise LockLost(
            f"{self._path} {how}, so this process stops and writes nothing more to "
            f"{self._path.parent}; what it saved before is kept: start the same command again to "
            f"continue, when no other process works there"
        )

    def _acquire(self, end: float) -> None:
        """Acquires the kernel's lock and writes who holds it.

        Args:
          end: when to stop waiting, on the monotonic clock.
        """
        before = _read(self._path)
        if before is not None and _is_of_earlier_version(self._path, before):
            raise _Busy
        self._content = _who()
        kernel = filelock.FileLock(
            self._path, thread_local=False, fallback_to_soft=False, on_acquired=self._write
        )
        try:
            kernel.acquire(timeout=max(end - time.monotonic(), 0.0), poll_interval=0.02)
        except filelock.Timeout:
            self._content = b""
            raise _Busy from None
        except (OSError, NotImplementedError) as error:
            code = getattr(error, "errno", None)
            if code not in _NO_LOCKS and not isinstance(error, NotImplementedError):
                raise self._unwritable(error) from error
            if not os.environ.get(NO_LOCK):
                raise UserError(_without_locks(self._path)) from error
            self._write_unlocked()
            return
        self._kernel = kernel

    def _write(self, descriptor: int) -> None:
        """Writes who holds the lock into the file that was just locked."""
        try:
            if not os.path.samestat(os.fstat(descriptor), self._path.stat()):
                raise _Replaced
        except FileNotFoundError:
            raise _Replaced from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._content, 0)
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink()
            raise

    def _write_unlocked(self) -> None:
        try:
            self._path.write_bytes(self._content)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(
            f"{self._path} cannot be written ({reason}); free some space or choose another "
            f"directory"
        )


def holder(folder: Path) -> str | None:
    """The process that holds the lock of a directory, as "process 1 on host"; None if none."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            content = file.read()
            if _is_of_earlier_version(path, content):
                return _described(content)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _described(content)
    except OSError:
        # No lock file, or a file system without locks.
        return None
    return None


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
            if error.errno not in _NO_LOCKS or not os.environ.get(NO_LOCK):
                raise UserError(_without_locks(path)) from error
        yield


def wait_until_free(folder: Path) -> None:
    """Waits until no process holds the lock of a directory; that of a dead host takes a while.

    Raises:
      UserError: a process holds it all the time.
    """
    with Lock(folder, _LEASE_S):
        pass


def _without_locks(path: Path) -> str:
    return (
        f"{path} cannot be locked, because its file system has no locks; choose a directory on "
        f"another, or repeat the command with --no-lock ({NO_LOCK}=1) if you make sure that only "
        f"one process works there"
    )


def _who() -> bytes:
    """The content of a lock file: who holds it, for people, and a random token."""
    about = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "container": _container(),
        "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "token": secrets.token_hex(16),
    }
    return json.dumps(about).encode()


def _container() -> str:
    """Which boot of which machine, and which PID namespace of it; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _read(path: Path) -> bytes | None:
    """The content of a lock file; None if there is none.

    Raises:
      UserError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read as a lock ({error.strerror}); move it away"
        ) from error


def _parsed(content: bytes | None) -> dict[str, object]:
    try:
        found = json.loads(content or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _names_a_process(found: dict[str, object]) -> bool:
    return isinstance(found.get("host"), str) and isinstance(found.get("pid"), int)


def _described(content: bytes | None) -> str:
    """Who holds a lock, in words."""
    found = _parsed(content)
    if not _names_a_process(found):
        return "another process"
    elsewhere = ""
    if found["host"] == socket.gethostname() and found.get("container", "") != _container():
        elsewhere = " in another container" if found.get("container") else ""
    since = f", since {found['since']}" if "since" in found else ""
    return f"process {found['pid']}{elsewhere} on {found['host']}{since}"


def _is_of_earlier_version(path: Path, content: bytes) -> bool:
    """Whether a process of an earlier version, which holds no lock of the kernel, is at work."""
    found = _parsed(content)
    if "token" in found or not _names_a_process(found):
        return False
    with contextlib.suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) <= _LEGACY_S
    return False
