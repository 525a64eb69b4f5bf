"""What is being done, how far it is, and how long it will still take.

A command or a public function opens the display with :func:`shown`; what runs inside says what it
does with :func:`task`. On a terminal the display is one live line of standard error; elsewhere it
is a plain line for every task that takes more than seconds, repeated at regular times. Outside of a
display, tasks show nothing.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stndt_jax.console.lines import duration

P = ParamSpec("P")
T = TypeVar("T")

FIRST_S = 2.0  # a task that has taken so long is named in a plain line
LIVE_S = 0.3  # a command that has taken so long gets a live line
_LATER_S = 5.0
_TICK_S = 0.1
_BAR = 20  # characters
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_RECENT = 50  # updates of a task from which its speed is estimated


class Task:
    """Something that takes time.

    Attributes:
      what: its name, in front of the numbers.
      total: how many parts it has; None if that is unknown.
      done: how many of them are finished.
      words: what else to show.
    """

    def __init__(self, what: str, total: float | None = None, done: float = 0) -> None:
        self.what, self.total, self.done, self.words = what, total, done, ""
        self.began, self.named = time.monotonic(), False
        self._updates: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    def at(self, done: float, words: str | None = None) -> None:
        """Notes how many parts are finished, and other words to show.

        Args:
          done: the number of finished parts.
          words: None keeps the words.
        """
        self.done = done
        self.words = self.words if words is None else words
        if not self._updates or done != self._updates[-1][1]:
            self._updates.append((time.monotonic(), done))

    @property
    def left_s(self) -> float | None:
        """Seconds until the end, by the recent speed; None where that is unknown or was wrong.

        The first update is only where the measurement begins, because compilation precedes it.
        """
        if self.total is None or len(self._updates) < 2:
            return None
        (first, begun), (last, done) = self._updates[0], self._updates[-1]
        if done <= begun:
            return None
        left = (self.total - done) * (last - first) / (done - begun) - (time.monotonic() - last)
        return left if left > 0 else None

    @property
    def count(self) -> str:
        """The name and, if they are known, the numbers of finished and of all parts."""
        return self.what if self.total is None else f"{self.what} {self.done:g}/{self.total:g}"

    @property
    def times(self) -> str:
        """The time left or, until that is known, the time taken; empty at the end."""
        if self.total is not None and self.done >= self.total:
            return ""
        if (left := self.left_s) is not None:
            return f"about {duration(left)} left"
        return f"{duration(time.monotonic() - self.began)} so far"

    @property
    def line(self) -> str:
        """All of it on one line."""
        return _line([self])


def pause_s(taken_s: float) -> float:
    """Seconds between two plain lines about something that has taken so long."""
    return min(60.0, max(15.0, taken_s / 8))


def _line(tasks: Sequence[Task]) -> str:
    """Tasks, one inside the other, on one line."""
    counts, words = "; ".join(one.count for one in tasks), tasks[-1].words
    parts = [counts, words, _timed(tasks).times]
    return ("  " if words else ", ").join(part for part in parts if part)


def _timed(tasks: Sequence[Task]) -> Task:
    """The task whose time is shown: the outermost whose end can be told, else the innermost."""
    return next((one for one in tasks if one.left_s is not None), tasks[-1])


class _Display:
    """Shows the innermost tasks until it is closed."""

    def __init__(self) -> None:
        self.tasks = [Task("working")]
        # Lines that are printed meanwhile are not wrapped.
        self.console = Console(stderr=True, soft_wrap=True)
        self._spoken, self._closed = time.monotonic(), threading.Event()
        self._live: Live | None = None
        # rich also takes a file for a terminal, if the environment asks for colours.
        if sys.stderr.isatty() and self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self._row,
                transient=True,
                refresh_per_second=1 / _TICK_S,
                redirect_stdout=sys.stdout.isatty(),
            )
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._thread.start()

    @property
    def live(self) -> bool:
        """Whether there is a live line, so that plain lines would only repeat it."""
        return self._live is not None

    def print(self, text: str) -> None:
        """Prints a line, above the live one."""
        self._spoken = time.monotonic()
        self.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Ends the display and removes the live line."""
        self._closed.set()
        self._thread.join()
        if self._live is not None:
            self._live.stop()

    def _show(self) -> None:
        if self._live is not None:
            if not self._closed.wait(LIVE_S):
                self._live.start()
            return
        while not self._closed.wait(_TICK_S):
            self._speak()

    def _speak(self) -> None:
        """Prints a plain line if it is time for one."""
        task, now = self.tasks[-1], time.monotonic()
        silent = now - self._spoken
        old_enough = now - task.began > FIRST_S or not self.tasks[0].named
        is_new = not task.named and old_enough and silent > FIRST_S
        # Later than a task that prints its own lines at regular times.
        due_s = max(FIRST_S, pause_s(now - self.tasks[0].began) + _LATER_S)
        if is_new or silent > due_s:
            task.named = self.tasks[0].named = True
            self.print(_line(self._named()))

    def _named(self) -> list[Task]:
        return self.tasks[1:] or self.tasks

    def _row(self) -> Text:
        """The live line; on a narrow terminal its end is cut off."""
        tasks = self._named()
        timed = _timed(tasks)
        counts = "; ".join(one.count for one in tasks)
        row = Text(f"{_FRAMES[int(time.monotonic() / _TICK_S) % len(_FRAMES)]} {counts} ")
        if timed.total:
            filled = min(_BAR, int(_BAR * timed.done / timed.total))
            row.append("━" * filled, "green").append("━" * (_BAR - filled), "dim")
        row.append(f" {timed.times}  {tasks[-1].words}")
        row.truncate(self.console.width - 1, overflow="ellipsis")
        return row


_display: _Display | None = None


@contextlib.contextmanager
def shown(quiet: bool = False) -> Iterator[None]:
    """Opens the display, unless it is open.

    Args:
      quiet: do not open it.
    """
    global _display
    if quiet or _display is not None:
        yield
        return
    _display = _Display()
    try:
        yield
    finally:
        off()


def displayed(function: Callable[P, T]) -> Callable[P, T]:
    """A public function that opens the display, unless its argument ``quiet`` is true."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with shown(bool(kwargs.get("quiet"))):
            return function(*args, **kwargs)

    return wrapped


def off() -> None:
    """Closes the display, if it is open."""
    global _display
    if _display is not None:
        _display.close()
        _display = None


@contextlib.contextmanager
def task(what: str, total: float | None = None, done: float = 0) -> Iterator[Task]:
    """Shows what is being done while the block runs, inside the task of the block around it.

    Args:
      what: what is done.
      total: how many parts it has, if that is known; :meth:`Task.at` then says how far it is.
      done: how many of them were finished before.
    """
    new, display = Task(what, total, done), _display
    if display is not None:
        display.tasks.append(new)
    try:
        yield new
    finally:
        if display is not None:
            display.tasks.remove(new)


def each(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, as the parts of a task; a single one is not counted."""
    with task(what, len(items) if len(items) > 1 else None) as shown_task:
        for done, item in enumerate(items):
            shown_task.at(done)
            yield item


def say(text: str) -> None:
    """Prints a line to standard error, above the live line if there is one."""
    if _display is not None:
        _display.print(text)
    else:
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


def is_live() -> bool:
    """Whether a live line shows the tasks."""
    return _display is not None and _display.live
