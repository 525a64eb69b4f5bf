"""Downloads that continue where they stopped and count only with the right digest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stndt_jax import files
from stndt_jax.errors import UserError

CHUNK = 1 << 20  # bytes


def fetch(
    path: Path, digest: str, size: int, rest: Callable[[int], Iterable[bytes]], source: str
) -> None:
    """Downloads a file, or the rest of it, beside ``path`` and renames it.

    Args:
      path: the file.
      digest: its SHA-256.
      size: its size in bytes.
      rest: gives its bytes from an offset on.
      source: who states the digest, for the message.

    Raises:
      UserError: the digest is wrong; what was downloaded is removed.
      OSError: of the network, or of the disk, with a file name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.resuming(path, digest) as (partial, file):
        if file.tell() > size:
            file.seek(0)
            file.truncate()
        if (have := file.tell()) < size:
            for chunk in rest(have):
                with _named(path):
                    # A server that sends too much is stopped.
                    file.write(chunk[: max(size + 1 - file.tell(), 0)])
                if file.tell() > size:
                    break
            with _named(path):
                file.flush()
                os.fsync(file.fileno())
        if file.tell() < size:
            raise ConnectionError(f"{file.tell()} of {size} bytes came")
        found = files.sha256(partial)
        if found != digest:
            partial.unlink()
            raise UserError(
                f"{path}: SHA-256 {found[:12]}... differs from {source} {digest[:12]}...; the "
                "download was damaged and is removed: repeat the command"
            )
        partial.replace(path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the name of the file to an error of the disk; those of the network have none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
