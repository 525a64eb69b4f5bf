"""What a run says while it works: metrics to files, progress to the terminal."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stndt_jax.errors import UserError

logger = logging.getLogger("stndt_jax")


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
        self._board = _tensorboard(workdir / "tensorboard")
        self._epochs = epochs
        self._spoken = -math.inf
        self._keep_until(first_epoch)
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

    def _keep_until(self, epoch: float) -> None:
        """Drops rows later than the checkpoint that training goes on from, and torn ones."""
        if not self._metrics.exists():
            return
        kept = [row for row in read_metrics(self._metrics) if row["epoch"] <= epoch]
        partial = self._metrics.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        partial.replace(self._metrics)

    def say(self, text: str) -> None:
        """One line for the user, on the terminal and in the log file."""
        self._console.print(text, markup=False, highlight=False)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._append(self._text, f"{stamp} {text}\n")

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
        self._append(self._metrics, json.dumps(row) + "\n")
        if self._board is not None:
            for name, values in row.items():
                for k, value in enumerate(values if isinstance(values, list) else []):
                    if value is not None:
                        self._board.add_scalar(f"{name}/member_{k}", value, row["epoch"])
        self._progress.update(self._task, completed=row["epoch"], words=words)
        last = row["epoch"] >= self._epochs
        if last or time.monotonic() - self._spoken > 15:
            self._spoken = time.monotonic()
            line = f"epoch {row['epoch']}/{self._epochs}  {words}"
            self._append(self._text, time.strftime("%Y-%m-%d %H:%M:%S ") + line + "\n")
            if self._progress.disable:
                self._console.print(line, markup=False, highlight=False)

    def progress(self, epoch: float) -> None:
        """Between validations: how far training has come."""
        self._progress.update(self._task, completed=int(epoch))

    def _append(self, path: Path, text: str) -> None:
        try:
            with path.open("a") as file:
                file.write(text)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); free some space, then start the "
                f"same command again to go on from the last checkpoint"
            ) from error

    def close(self) -> None:
        """Ends the live line."""
        self._progress.stop()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a ``metrics.jsonl``; one torn by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            logger.warning("%s: a damaged line was left out", path)
            continue
        if isinstance(row, dict) and "epoch" in row:
            rows.append(row)
    return rows


def _tensorboard(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
