"""What a run says while it works: metrics to files, progress to the terminal."""

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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stndt_jax import files
from stndt_jax.errors import UserError
from stndt_jax.types import Float, NDArray

logger = logging.getLogger("stndt_jax")

_ADVICE = (
    "free some space or mend the disk, then start the same command again to continue from the last "
    "checkpoint"
)


class RunLog:
    """Writes ``metrics.jsonl``, ``log.txt`` and, with tensorboardX, TensorBoard events.

    On a terminal, progress is a live line; elsewhere, a line now and then.
    """

    def __init__(
        self, workdir: Path, epochs: int, first_epoch: float = 0, quiet: bool = False
    ) -> None:
        self._console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._metrics = workdir / "metrics.jsonl"
        self._text = workdir / "log.txt"
        self._board = _Board.open(workdir / "tensorboard")
        self._epochs = epochs
        self._spoken = -math.inf
        lost = self._keep_until(first_epoch)
        if lost:
            self.say(f"{self._metrics} had {lost} damaged line(s), which were left out")
        self._progress = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=epochs, completed=int(first_epoch), words="")
        self._progress.start()

    def _keep_until(self, epoch: float) -> int:
        """Drops rows later than the checkpoint that training goes on from, and torn ones.

        Returns:
          The number of torn ones.
        """
        if not self._metrics.exists():
            return 0
        rows, lost = read_rows(self._metrics)
        kept = [json.dumps(row) + "\n" for row in rows if row["epoch"] <= epoch]
        files.write_text(self._metrics, "".join(kept), _ADVICE)
        return lost

    def say(self, text: str) -> None:
        """One line for the user, on the terminal and in the log file."""
        self._console.print(text, markup=False, highlight=False)
        self._log(text)

    def metrics(self, row: dict[str, Any], words: str) -> None:
        """One validation: a row of ``metrics.jsonl``, and the progress in ``words``.

        Args:
          row: ``epoch`` and, by name, lists with one number a member.
          words: the same for a person.
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
        self._progress.update(self._task, completed=row["epoch"], words=words)
        last = row["epoch"] >= self._epochs
        if last or time.monotonic() - self._spoken > 15:
            self._spoken = time.monotonic()
            line = f"epoch {row['epoch']}/{self._epochs}  {words}"
            self._log(line)
            if self._progress.disable:
                self._console.print(line, markup=False, highlight=False)

    def progress(self, epoch: float) -> None:
        """Between validations: how far training has come."""
        self._progress.update(self._task, completed=int(epoch))

    def _log(self, text: str) -> None:
        """One line of ``log.txt``, with the time."""
        files.append_line(self._text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", _ADVICE)

    def close(self) -> None:
        """Ends the live line."""
        self._progress.stop()
        if self._board is not None:
            self._board.close()


class Silent:
    """What a process has in place of a ``RunLog`` where another process writes it."""

    def say(self, text: str) -> None:
        """Nothing."""

    def metrics(self, row: dict[str, Any], words: str) -> None:
        """Nothing."""

    def progress(self, epoch: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); free some space or mend it, then start "
            f"the same command again to go on from the last checkpoint"
        ) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a ``metrics.jsonl``; one torn by a kill is left out."""
    rows, lost = read_rows(path)
    if lost:
        logger.warning("%s: %d damaged line(s) were left out", path, lost)
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
    """The whole rows, and how many lines are none."""
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
    """TensorBoard events of a folder, written in the caller's thread.

    tensorboardX's SummaryWriter writes in a thread of its own: on a full disk that thread dies
    with a traceback, and whoever waits for it waits for good. Here a failure can be told.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        self._folder, self._scalar, self._event = folder, summary.scalar, Event
        with _told(folder):
            folder.mkdir(exist_ok=True)
            self._events = EventsWriter(str(folder / "events"))
        self._flushed = -math.inf

    @classmethod
    def open(cls, folder: Path) -> _Board | None:
        """A board, or None without tensorboardX."""
        try:
            return cls(folder)
        except ImportError:
            return None

    def write(self, row: dict[str, Any]) -> None:
        """One row of metrics, a scalar a member."""
        scalars = [
            (f"{name}/member_{k}", value)
            for name, values in row.items()
            for k, value in enumerate(values if isinstance(values, list) else [])
            if value is not None
        ]
        with _told(self._folder):
            for name, value in scalars:
                scalar, now = self._scalar(name, value), time.time()
                self._events.write_event(
                    self._event(wall_time=now, step=row["epoch"], summary=scalar)
                )
            if time.monotonic() - self._flushed > 10:
                self._flushed = time.monotonic()
                self._events.flush()

    def close(self) -> None:
        """Writes out what is left, if it can be written."""
        # A run may end here because the disk is full, and says so already.
        with contextlib.suppress(OSError):
            self._events.close()
