"""Writing files whole or not at all, checks of inputs and outputs, reading JSON, and digests.

Everything the package writes goes through this module (tests/test_writers.py lists the exceptions).
A file is written under a unique temporary name in the same directory, flushed to the disk, and
renamed. A reader sees the old file or the new one, never part of one, and concurrent writers
(threads, processes, hosts) never share a temporary file: the last one to rename wins. Files that
belong together are written into a temporary directory and renamed after the last one is complete.

An output replaces an earlier one of the same kind, and nothing else (:func:`check_output`).
Recordings, runs and ensembles are not replaced by others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py

from stndt_jax.errors import UserError

# Part of the name of every temporary file and directory, so that leftovers can be recognised.
PARTIAL = ".partial"
_TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{16}\.partial(\..*)?")

_SPACE = "free some space or choose another directory, then start the same command again"
RESTORE = (
    "restore it from a backup, or train anew with --fresh (fresh=True), which sets the run aside"
)

# What an output can be, as the messages name it.
Output = Literal[
    "an HTML page",
    "a model card",
    "a table of stndt runs",
    "a .npy file of rates",
    "a submission file",
    "a file of exported rates",
    "an NWB file",
    "a recording",
    "a directory",
    "an exported model",
    "a directory of scores",
]
# The JSON file that is in an earlier output of a kind of directory, and a key of it.
_RECORDS = {
    "an exported model": ("manifest.json", "sha256"),
    "a directory of scores": ("scores.json", "data_fingerprint"),
}
# Either makes a directory that of a run or an ensemble.
_MARKS = ("run.json", "ensemble.json")
# What such a directory holds and cannot lose.
_OF_RUNS = {
    *_MARKS,
    *(
        "config.json",
        "checkpoints",
        "metrics.jsonl",
        "log.txt",
        "lock",
        "init.json",
        "imported.json",
        "scores.json",
    ),
    *("others.json", "submission.h5", "seeds.json", "search.json", "trials.csv", "retrain.json"),
}


def temporary(path: Path) -> Path:
    """A unique temporary name beside ``path``, with the same suffix."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}{PARTIAL}{path.suffix}")


def is_temporary(path: Path) -> bool:
    """Whether a name is that of a temporary file or directory, of this version or an earlier one.

    Earlier versions used fixed names such as ``run.json.partial``.
    """
    return _TEMPORARY.fullmatch(path.name) is not None or path.name.endswith(PARTIAL)


def destination(path: Path) -> Path:
    """The final name of a file or directory that is being written.

    Args:
      path: a name in a directory of :func:`filling`, or a temporary name; others are returned as
        they are.
    """
    parts = [_TEMPORARY.fullmatch(part) or part for part in path.parts]
    return Path(*(p if isinstance(p, str) else f"{p[1]}{p[2] or ''}" for p in parts))


def remove_temporary(directory: Path, older_than_s: float = 0.0) -> None:
    """Removes the temporary files and directories that killed processes left in a directory.

    Args:
      directory: where to look; subdirectories are left alone.
      older_than_s: minimum age in seconds of what is removed. Must be above the time that a
        writer needs unless the caller knows that nobody writes to this directory.
    """
    if not directory.is_dir():
        return
    newest = time.time() - older_than_s
    for path in directory.iterdir():
        with contextlib.suppress(OSError):
            if not is_temporary(path) or path.lstat().st_mtime > newest:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextlib.contextmanager
def replacing(path: Path, advice: str = _SPACE) -> Iterator[Path]:
    """Yields the name of a temporary file to write; on success, it is renamed to ``path``.

    If the block raises, the temporary file is removed and ``path`` stays as it was. The block
    should do nothing but write: an OSError raised in it is reported as a failure to write.

    Args:
      path: the file to create or replace.
      advice: how to proceed if it cannot be written, as the end of the message.

    Raises:
      UserError: the file cannot be written.
    """
    if kind := _special(path):
        raise UserError(f"{path} is {kind}, not a file; choose another output")
    partial = temporary(path)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error, advice) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def filling(folder: Path, last: str = "", advice: str = _SPACE) -> Iterator[Path]:
    """Yields a temporary directory to fill; on success, its content moves to ``folder``.

    A new directory appears with all its content at once. In an existing one, all files are complete
    on the disk before the first is renamed; they replace files of the same names. If the block
    raises, nothing is left of what it wrote. As in :func:`replacing`, it should only write.

    Args:
      folder: the directory to create or to add to.
      last: the name that is moved last, of the file that describes the others.
      advice: as for :func:`replacing`.

    Raises:
      UserError: the directory cannot be written, or holds a directory where a file is to be
        written, or the reverse.
    """
    real = folder.resolve()
    exists = real.is_dir()
    # Inside, its name has no stem, so that destination() drops it.
    partial = real / f"..{secrets.token_hex(8)}{PARTIAL}" if exists else temporary(real)
    try:
        partial.mkdir(parents=not exists)
        yield partial
        for path in partial.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as written:
                    os.fsync(written.fileno())
        if exists:
            _move(partial, real, last)
        else:
            partial.rename(real)
    except OSError as error:
        raise _unwritable(folder, error, advice) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(source: Path, target: Path, last: str) -> None:
    """Renames all that a directory holds into another one on the same file system.

    Raises:
      UserError: a directory would take the place of a file, or a file that of a directory; nothing
        was renamed.
      OSError: it cannot be written.
    """
    items = sorted(source.iterdir(), key=lambda path: (path.name == last, path.name))
    for item in items:
        there = target / item.name
        if there.is_dir() if not item.is_dir() else there.exists() and not _is_empty(there):
            kind = "directory" if there.is_dir() else "file"
            raise UserError(
                f"{there} cannot be written, because a {kind} of that name is in the way; move it "
                f"away, then start the same command again"
            )
    for item in items:
        item.replace(target / item.name)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write_bytes(path: Path, content: bytes | memoryview, advice: str = _SPACE) -> None:
    """Writes a binary file atomically.

    Args:
      path: the file to create or replace.
      content: all of its bytes.
      advice: as for :func:`replacing`.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path, advice) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str, advice: str = _SPACE) -> None:
    """Writes a text file atomically, as UTF-8.

    Args:
      path: the file to create or replace.
      content: all of its text; line ends are written as they are.
      advice: as for :func:`replacing`.

    Raises:
      UserError: the file cannot be written.
    """
    write_bytes(path, content.encode("utf-8", errors="backslashreplace"), advice)


def write_json(path: Path, value: Any, advice: str = _SPACE) -> None:
    """Writes a JSON file atomically; NaN and infinity become null.

    Raises:
      UserError: the file cannot be written.
    """
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n", advice)


def append_line(path: Path, line: str, advice: str = _SPACE, *, flush: bool = False) -> None:
    """Appends one line to a text file, in one write; on a full disk, nothing is appended.

    Args:
      path: the file, created if it does not exist.
      line: the text, without the line end.
      advice: as for :func:`replacing`.
      flush: wait until the line is on the disk.

    Raises:
      UserError: the line cannot be written.
    """
    content = f"{line}\n".encode(errors="backslashreplace")
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if flush:
                    os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise _unwritable(path, error, advice) from error


@contextlib.contextmanager
def resuming(path: Path, key: str) -> Iterator[tuple[Path, BinaryIO]]:
    """Opens a partly written file to append to, kept if the block raises, for downloads.

    Its name depends on ``key`` instead of being unique, so that the next call finds it; a lock of
    the kernel keeps concurrent callers apart.

    Args:
      path: the file that will be made of it. This is left to the caller, who checks the content.
      key: identifies the content, for example its digest.

    Yields:
      The name of the partly written file, and the file, open for appending at its end.

    Raises:
      UserError: another process or thread has it open.
      OSError: it cannot be opened.
    """
    partial = path.with_name(f".{path.name}.{sha256(key.encode())[:16]}{PARTIAL}")
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Otherwise another process has just completed the file and renamed it.
            free = os.path.samestat(os.fstat(file.fileno()), partial.stat())
        except (BlockingIOError, FileNotFoundError):
            free = False
        if not free:
            raise UserError(
                f"{path} is being written by another process; wait for it, then repeat the command"
            )
        yield partial, file


def check_input(path: str | Path) -> None:
    """Refuses what is not a regular file, before it is opened. Every reader begins with this.

    Opening a named pipe waits for a writer, and reading a device such as ``/dev/zero`` never ends.
    What does not exist or cannot be inspected is left to the reader, which gives the reason.

    Raises:
      UserError: it is a directory, a named pipe, a device or a socket, or may not be read.
    """
    kind = "a directory" if os.path.isdir(path) else _special(path)
    if kind:
        raise UserError(f"{path} is {kind}; give a regular file")
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        raise UserError(
            f"{path} cannot be read: Permission denied; check the permissions of it and of its "
            f"directory"
        ) from None
    except (OSError, ValueError):
        return


def _special(path: str | Path) -> str:
    """What a path is, if it exists and is neither a file nor a directory; else empty."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def check_output(path: Path, kind: Output, inputs: Sequence[str | Path] = ()) -> None:
    """Refuses an output that would destroy another file, and makes the directory for it.

    This is done before the work whose result is written. An earlier output may be replaced.

    Args:
      path: the file or directory to write.
      kind: what is to be written. What an existing recording holds is not compared here.
      inputs: what the command reads; empty names are ignored.

    Raises:
      UserError: the output is one of the inputs, one of a run's own files, or exists and is of
        another kind; or its directory cannot be made or written.
    """
    try:
        reason = _conflict(path, kind, [Path(given) for given in inputs if str(given)])
    except (OSError, RuntimeError):
        return  # The path cannot be used at all (a loop of links, for one): the writer reports it.
    if reason:
        raise UserError(f"{path} {reason}; choose another output")
    if path.parent not in [Path(given) for given in inputs if str(given)]:
        make_parent(path)


def make_parent(path: Path) -> None:
    """Makes the directory that a file or directory is to be written in.

    Raises:
      UserError: it cannot be made, or no file can be written to it.
    """
    folder, advice = path.parent, "choose another output"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder} cannot be made a directory ({reason}); {advice}") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written ({os.strerror(errno.EACCES)}); {advice}")


def _conflict(path: Path, kind: Output, inputs: Sequence[Path]) -> str:
    """Why an output must not be written, to follow its name; empty if it may be written."""
    real = path.resolve()
    if any(real == given.resolve() or _is_same(path, given) for given in inputs):
        return "is an input of this command, which would overwrite it"
    for inner in (real, *real.parents):
        if inner.name in _OF_RUNS and _is_of_a_run(inner.parent):
            return f"is a file of the run in {inner.parent}"
    if kind == "a directory" or kind in _RECORDS:
        if path.exists() and not path.is_dir():
            return "is a file, not a directory"
        if _is_of_a_run(path):
            return "holds a run"
        return _others_in(path, kind) if kind in _RECORDS and path.is_dir() else ""
    if path.is_dir():
        return f"is a directory, but {kind} is one file"
    if special := _special(path):
        return f"is {special}, but {kind} is a file"
    if kind == "a recording" or not path.is_file() or not path.stat().st_size:
        return ""
    found = _kind(path)
    return "" if found == kind else f"exists and is {found}, not {kind}"


def _others_in(folder: Path, kind: str) -> str:
    """Says what a directory holds that is no earlier output of a kind; empty if nothing."""
    name, key = _RECORDS[kind]
    try:
        if key in json.loads((folder / name).read_bytes()):
            return ""
    except (OSError, ValueError, TypeError):
        pass
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"holds other files ({found[0]}{more}), not {kind}" if found else ""


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _is_of_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in _MARKS)


def _kind(path: Path) -> str:
    """What a file is, by its content."""
    with path.open("rb") as file:
        begin = file.read(256)
    if begin.startswith(b"\x89HDF\r\n\x1a\n"):
        return _kind_of_hdf5(path)
    if begin.startswith(b"\x93NUMPY"):
        # What is inferred is float32; counts are mostly integers.
        return "a .npy file of rates" if b"'<f4'" in begin else "a .npy file of other numbers"
    text = begin.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if begin.startswith(b"# Model card"):
        return "a model card"
    return "a table of stndt runs" if text.startswith(b"path,kind,") else "another file"


def _kind_of_hdf5(path: Path) -> str:
    try:
        with h5py.File(path, "r") as file:
            if "nwb_version" in file.attrs:
                return "an NWB file"
            keys = list(file)
            inner = [key for name in keys if isinstance(file.get(name), h5py.Group)
                     for key in file[name]]  # fmt: skip
    except (OSError, RuntimeError, LookupError, ValueError, TypeError):
        return "a damaged HDF5 file"
    if any("_rates_held" in key for key in inner):
        return "a submission file"
    if "rates" in keys:
        return "a file of exported rates"
    return "a recording" if any("_spikes_" in key for key in keys + inner) else "an HDF5 file"


def _unwritable(path: Path, error: OSError, advice: str) -> UserError:
    return UserError(f"{destination(path)} cannot be written ({error.strerror or error}); {advice}")


def finite(value: Any) -> Any:
    """``value`` for JSON: numbers that are not finite become None, keys become strings."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def read_json(path: Path, restore: str = RESTORE) -> Any:
    """Reads a JSON file.

    Args:
      path: the file.
      restore: how to proceed if it is damaged, as the end of the message.

    Raises:
      UserError: it is missing or damaged.
    """
    if kind := _special(path):
        raise UserError(f"{path} is {kind}, not a file; {restore}")
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: {path.parent} is no run directory of stndt train, or not a "
            f"whole one; name another, or restore the file"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); {restore}") from error


def sha256(content: Path | bytes) -> str:
    """The SHA-256 digest of a file or of bytes, in hexadecimal.

    Raises:
      OSError: the file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_sha256(directory: Path) -> dict[str, str]:
    """The digest of every file below a directory, by its relative name with ``/``.

    Raises:
      OSError: a file cannot be read.
    """
    return {
        path.relative_to(directory).as_posix(): sha256(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
