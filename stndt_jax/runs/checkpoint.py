"""Checkpoints of a run. This is the only module that imports Orbax.

A checkpoint is a directory named by its number and, beside it, ``NUMBER.sha256`` with the digest of
every file. The digests are written last: a checkpoint without them is incomplete, and one that does
not match them is damaged. Neither is ever loaded.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.parallel import multihost
from stndt_jax.runs import lock

KEPT = 2
# A number as str() writes it, because a checkpoint's name is made from its number.
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger("stndt_jax")


class Checkpoints:
    """The numbered checkpoints in a directory, of which the two newest are kept.

    Attributes:
      latest: number of the newest intact checkpoint, or None.
      found: sentences about damaged or incomplete checkpoints.
    """

    def __init__(
        self, folder: Path, repair: bool = True, verify: Callable[[], None] = lambda: None
    ) -> None:
        """Finds the newest intact checkpoint.

        Args:
          folder: the directory of the checkpoints; it need not exist yet.
          repair: whether to move newer, damaged checkpoints to ``damaged/`` and to remove leftovers
            of incomplete saves.
          verify: called before each save; raises if this process may no longer write here.
        """
        self._folder, self._verify = folder, verify
        self.found: list[str] = []
        self.latest: int | None = None
        with multihost.together():
            if multihost.first():
                self._find_latest(repair)
        found = int(multihost.gathered([-1 if self.latest is None else self.latest])[0, 0])
        self.latest = None if found < 0 else found

    def _find_latest(self, repair: bool) -> None:
        """Sets ``latest`` and ``found``, and repairs the directory."""
        folder = self._folder
        for number in self._numbers():
            wrong = damage(folder, number)
            if wrong is None:
                self.latest = number
                break
            where = f"checkpoint {number} in {folder} {wrong}"
            self.found.append(f"{where}; it was moved to damaged/" if repair else where)
            if repair:
                self._set_aside(number)
        if repair:
            self._clear()
            if folder.exists() and not folder.is_dir():
                raise UserError(
                    f"{folder} is not a directory; move it away, or choose another directory"
                )

    def _numbers(self) -> list[int]:
        """Numbers of all checkpoints, intact or not, newest first."""
        if not self._folder.is_dir():
            return []
        # Files included, because a file with such a name would block the next save.
        names = [path.name for path in self._folder.iterdir()]
        return sorted((int(name) for name in names if _NUMBER.fullmatch(name)), reverse=True)

    def _clear(self) -> None:
        """Removes leftovers of incomplete saves."""
        for leftover in self._folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        files.remove_temporary(self._folder)

    def _set_aside(self, number: int) -> None:
        folder = self._folder.parent / "damaged"
        try:
            folder.mkdir(exist_ok=True)
            free = next(i for i in range(1, 10**6) if not (folder / f"{number}.{i}").exists())
            (self._folder / str(number)).rename(folder / f"{number}.{free}")
            digests = _digests(self._folder, number)
            if digests.exists():
                digests.rename(folder / f"{number}.{free}.sha256")
        except OSError as error:
            raise UserError(
                f"{self.found[-1].partition(';')[0]}, and cannot be moved to {folder} "
                f"({error.strerror}); move it away by hand"
            ) from error

    def save(self, number: int, tree: Any) -> None:
        """Saves ``tree`` under ``number``, unless that is the latest checkpoint already.

        Raises:
          UserError: the directory cannot be written, for example because the disk is full; earlier
            checkpoints are kept.
        """
        if number == self.latest:
            return
        path = (self._folder / str(number)).absolute()
        with multihost.together():
            self._verify()
            self._write(number, path, tree)
        self.latest = number
        for old in self._numbers()[KEPT:] if multihost.first() else ():
            _digests(self._folder, old).unlink(missing_ok=True)
            shutil.rmtree(self._folder / str(old), ignore_errors=True)

    def _write(self, number: int, path: Path, tree: Any) -> None:
        """Writes the arrays of this process and, in the first process, the digests."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _unlogged():
                ocp.save(path, _without_trailing_empties(tree))
            if not multihost.first():
                return
            lines = [f"{digest}  {name}" for name, digest in files.tree_sha256(path).items()]
            files.write_text(_digests(self._folder, number), "\n".join(lines) + "\n")
        except (OSError, ValueError, RuntimeError, UserError) as error:
            # Which exception Orbax raises for a full disk depends on the writer that met it.
            if not _is_of_the_disk(error):
                raise
            for name in _LOUD:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            shutil.rmtree(path, ignore_errors=True)
            self._clear()
            kept = "there is no earlier one"
            if self.latest is not None:
                kept = f"checkpoint {self.latest} is kept"
            raise UserError(
                f"no checkpoint could be written to {files.destination(self._folder)} "
                f"({_reason(error)}), {kept}; "
                f"free some space, then start the same command again to continue"
            ) from error

    def load(self, like: Any, sharding: Any = None) -> tuple[int, Any]:
        """Loads the newest intact checkpoint.

        Args:
          like: a tree of the same structure, of arrays or ``jax.ShapeDtypeStruct``.
          sharding: the sharding of the loaded arrays, independent of the devices that they were
            saved from; by default the first local device.

        Returns:
          Its number, and the tree.

        Raises:
          UserError: there is none, or its structure is another.
        """
        number = self.latest
        if number is None:
            damaged = f" ({'; '.join(self.found)})" if self.found else ""
            holder = lock.holder(self._folder.parent)
            advice = "train first"
            if holder is not None:
                advice = f"{holder} is still training, wait for its first checkpoint"
            raise UserError(f"{self._folder} holds no intact checkpoint{damaged}; {advice}")
        here = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like
        )
        try:
            bare = _without_trailing_empties(like)
            found = ocp.load((self._folder / str(number)).absolute(), bare)
            return number, jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(found))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"checkpoint {number} in {self._folder} is intact, but of another model or another "
                f"version ({_reason(error)}); train into another directory"
            ) from error


def _without_trailing_empties(tree: Any) -> Any:
    """The tree without the last items of tuples that hold no array.

    An optimiser's state has one for each link of its chain that keeps nothing. Left out, links
    may be added at its end and checkpoints from before still load.
    """
    if isinstance(tree, tuple):
        items = [_without_trailing_empties(item) for item in tree]
        if hasattr(tree, "_fields"):
            return type(tree)(*items)
        while items and not jax.tree.leaves(items[-1]):
            items.pop()
        return tuple(items)
    if isinstance(tree, dict):
        return {name: _without_trailing_empties(item) for name, item in tree.items()}
    return tree


def damage(folder: Path, number: int) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence; None if it is intact."""
    try:
        lines = _digests(folder, number).read_text().splitlines()
        wanted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except FileNotFoundError:
        return "is incomplete"
    except (OSError, ValueError):
        return "has an unreadable file of digests"
    try:
        found = files.tree_sha256(folder / str(number))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if missing := sorted(set(wanted) - set(found)):
        return f"lacks {missing[0]}" if _are_digests(wanted) else "has a damaged file of digests"
    if extra := sorted(set(found) - set(wanted)):
        return f"holds {extra[0]}, for which there is no digest"
    if not found:
        return "is empty"
    changed = [name for name in sorted(wanted) if found[name] != wanted[name]]
    return f"has a damaged {changed[0]}" if changed else None


def _are_digests(wanted: dict[str, str]) -> bool:
    """Whether all values have the form of a SHA-256 digest."""
    return all(_DIGEST.fullmatch(digest) for digest in wanted.values())


def _digests(folder: Path, number: int) -> Path:
    return folder / f"{number}.sha256"


# Loggers that log tracebacks of what a save raises, in threads that may outlive the save.
_LOUD = ("absl", "asyncio", "concurrent.futures")


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Silences logging during a save, because its failure is raised and reported once."""
    disabled, hook = logging.root.manager.disable, sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        # A callback of tensorstore may come after the save has failed, and then prints this.
        if "Event loop is closed" not in str(error):
            hook(kind, error, trace)

    logging.disable(logging.CRITICAL)
    sys.excepthook = quiet
    try:
        yield
        sys.excepthook = hook
    finally:
        logging.disable(disabled)


_DISK = re.compile(
    "no space left on device|disk quota exceeded|read-only file system|permission denied|"
    "file too large",
    re.IGNORECASE,
)


def _is_of_the_disk(error: BaseException) -> bool:
    return isinstance(error, OSError | UserError) or _DISK.search(str(error)) is not None


def _reason(error: BaseException) -> str:
    if match := _DISK.search(str(error)):
        return match.group()
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
    return text[:200]
