"""Files that are whole or not there, JSON, digests.

Whatever the package writes goes through :func:`replacing`: a file under a unique temporary name in
the same folder, flushed, then renamed. A reader sees the old file or the new one, never half of
one, and writers that meet, in threads or on hosts, do not touch each other's temporary file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stndt_jax.errors import UserError

# In the name of every temporary file, so that what a killed process left can be told apart.
PARTIAL = ".partial"

_SPACE = "free some space or mend the directory, then start the same command again"
_RESTORE = "restore it from a backup, or train with --fresh, which sets the run aside"


def temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody else has; it keeps the suffix, which tells the format."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}{PARTIAL}{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path, advice: str = _SPACE) -> Iterator[Path]:
    """Gives a temporary file to write, which then takes the place of ``path``.

    If the block raises, the temporary file is removed and what stood at ``path`` stays.

    Args:
      path: the file to make or replace.
      advice: what to do if it cannot be written.

    Raises:
      UserError: the file cannot be written.
    """
    partial = temporary(path)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written ({reason}); {advice}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def write_text(path: Path, content: str, advice: str = _SPACE) -> None:
    """Writes a whole text file or none.

    Args:
      path: the file.
      content: what is to stand in it.
      advice: what to do if it cannot be written.

    Raises:
      UserError: the file cannot be written.
    """
    with replacing(path, advice) as partial:
        partial.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, advice: str = _SPACE) -> None:
    """Writes a whole JSON file or none; NaN and infinity become null.

    Raises:
      UserError: the file cannot be written.
    """
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n", advice)


def finite(value: Any) -> Any:
    """``value`` for JSON: what is not a finite number becomes None."""
    if isinstance(value, dict):
        return {str(name): finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def read_json(path: Path, restore: str = _RESTORE) -> Any:
    """A JSON file.

    Args:
      path: the file.
      restore: what to do if it is damaged.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: {path.parent} is no run directory of stndt train, or not a "
            f"whole one; name another, or restore the file"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read ({reason}); {restore}") from error


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
