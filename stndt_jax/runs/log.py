"""The log of a run: metrics and messages to files and to the terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import files
from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.console.progress import Task
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

logger = logging.getLogger("stndt_jax")

_ADVICE = (
    "free some space or repair the disk, then start the same command again to continue from the "
    "last checkpoint"
)


def append(workdir: Path, text: str) -> None:
    """Appends a line with the time to a run's ``log.txt``.

    Raises:
      UserError: it cannot be written.
    """
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
    files.append_line(workdir / "log.txt", line, _ADVICE)


class RunLog:
    """Writes ``metrics.jsonl``, ``log.txt`` and, if tensorboardX is installed, TensorBoard events.

    Validations are shown in the live line of a terminal; otherwise a line is printed at regular
    times, as it is into ``log.txt``.
    """

    def __init__(
        self, workdir: Path, epochs: int, first_epoch: float = 0, quiet: bool = False
    ) -> None:
        self._quiet = quiet
        self._metrics = workdir / "metrics.jsonl"
        self._workdir = workdir
        self._board = _Board.open(workdir / "tensorboard")
        self._epochs, self._first_epoch = epochs, first_epoch
        self._spoken = -math.inf
        self._held = contextlib.ExitStack()
        self._shown: Task | None = None
        lost = self._keep_until(first_epoch)
        if lost:
            lines = counted(lost, "damaged line was", "damaged lines were")
            self.say(f"{self._metrics}: {lines} removed")

    def _keep_until(self, epoch: float) -> int:
        """Removes rows later than ``epoch``, that of the checkpoint, and damaged lines.

        Returns:
          The number of damaged lines.
        """
        if not self._metrics.exists():
            return 0
        rows, lost = read_rows(self._metrics)
        kept = [json.dumps(row) + "\n" for row in rows if row["epoch"] <= epoch]
        files.write_text(self._metrics, "".join(kept), _ADVICE)
        return lost

    def say(self, text: str) -> None:
        """Prints a line and appends it to ``log.txt``."""
        if not self._quiet:
            progress.say(text)
        self._log(text)

    def note(self, text: str) -> None:
        """Appends a line to ``log.txt`` only."""
        self._log(text)

    def metrics(self, row: dict[str, Any], words: str) -> None:
        """Logs a validation.

        Args:
          row: the row of ``metrics.jsonl``: ``epoch`` and, by name, lists of a number per member.
          words: the same in words, for the progress line and ``log.txt``.
        """
        row = {
            name: [v if math.isfinite(v) else None for v in value]
            if isinstance(value, list)
            else value
            for name, value in row.items()
        }
        files.append_line(self._metrics, json.dumps(row), _ADVICE)
        if self._board is not None:
            self._board.write(row)
        self._task.at(row["epoch"], words)
        last, now = row["epoch"] >= self._epochs, time.monotonic()
        if last or now - self._spoken > progress.pause_s(now - self._task.began):
            self._spoken, self._task.named = now, True
            self._log(self._task.line)
            if not self._quiet and not progress.is_live():
                progress.say(self._task.line)

    def progress(self, epoch: float) -> None:
        """Notes how far training is, between validations."""
        self._task.at(round(epoch, 1))

    @property
    def _task(self) -> Task:
        """What is shown of the training, from the first call on."""
        if self._shown is None:
            task = progress.task("epoch", self._epochs, round(self._first_epoch, 1))
            self._shown = self._held.enter_context(task)
        return self._shown

    def _log(self, text: str) -> None:
        append(self._workdir, text)

    def close(self) -> None:
        """Ends the progress and closes the TensorBoard file."""
        self._held.close()
        if self._board is not None:
            self._board.close()


class Silent:
    """Replaces ``RunLog`` in a process that writes no log, because another one does."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Does nothing."""

    def metrics(self, row: dict[str, Any], words: str) -> None:
        """Does nothing."""

    def progress(self, epoch: float) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Reports an OSError while writing as a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); {_ADVICE}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``, without lines that a killed process left incomplete."""
    rows, lost = read_rows(path)
    if lost:
        lines = counted(lost, "damaged line was", "damaged lines were")
        logger.warning("%s: %s skipped", path, lines)
    return rows


def values_by_epoch(
    rows: Sequence[Mapping[str, Any]], key: str
) -> tuple[Float[NDArray, " E"], Float[NDArray, "E K"]]:
    """Epochs and values of the members, from the rows that hold a key.

    Args:
      rows: as :func:`read_metrics` returns them: a value is one number, or one per member, None
        where it is unknown.
      key: name of the value.

    Returns:
      The epochs and, for each, the values of all members; NaN where unknown.
    """
    held = [row for row in rows if key in row and "epoch" in row]
    epochs = np.array([row["epoch"] for row in held], float)
    values = [np.atleast_1d(np.array(row[key], float)) for row in held]
    members = max((len(row) for row in values), default=0)
    padded = [np.pad(row, (0, members - len(row)), constant_values=np.nan) for row in values]
    return epochs, np.stack(padded) if padded else np.zeros((0, 0))


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The valid rows of a ``metrics.jsonl``, and the number of other lines."""
    rows: list[dict[str, Any]] = []
    lost = 0
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("epoch"), (int, float)):
            rows.append(row)
        elif line.strip():
            lost += 1
    return rows, lost


class _Board:
    """TensorBoard events of a directory, written in the caller's thread.

    tensorboardX's SummaryWriter writes in a thread of its own. On a full disk that thread dies with
    a traceback, and waiting for it never ends. Here the failure is raised to the caller.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        self._folder, self._scalar, self._event = folder, summary.scalar, Event
        with _explained(folder):
            folder.mkdir(exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
        self._flushed = -math.inf

    @classmethod
    def open(cls, folder: Path) -> _Board | None:
        """A board, or None if tensorboardX is not installed."""
        try:
            return cls(folder)
        except ImportError:
            return None

    def write(self, row: dict[str, Any]) -> None:
        """Writes a row of metrics, one scalar per member."""
        scalars = [
            (f"{name}/member_{k}", value)
            for name, values in row.items()
            for k, value in enumerate(values if isinstance(values, list) else [])
            if value is not None
        ]
        with _explained(self._folder):
            for name, value in scalars:
                scalar, now = self._scalar(name, value), time.time()
                self._events.write_event(
                    self._event(wall_time=now, step=row["epoch"], summary=scalar)
                )
            if time.monotonic() - self._flushed > 10:
                self._flushed = time.monotonic()
                self._events.flush()

    def close(self) -> None:
        """Flushes and closes the file, if it can be written."""
        # If the disk is full, this has been reported already.
        with contextlib.suppress(OSError):
            self._events.close()
