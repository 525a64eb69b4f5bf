"""Stopping on a signal: SIGTERM and SIGINT set a flag that the training loop reads."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from stndt_jax.errors import Interrupted

_SHOW_CURSOR = "\x1b[?25h"


class Stop:
    """A context in which SIGTERM and SIGINT only set ``signal``.

    A second SIGINT ends the process immediately. This is safe at any time, because all files of a
    run directory are written atomically.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        # Python lets only the main thread set handlers; in other threads nothing is changed.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            if sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR.encode())
            os.write(2, b"\nstndt: ended immediately; the last checkpoint is kept\n")
            os._exit(128 + number)
        self.signal = number
        os.write(2, b"\nstndt: saving, then stopping, after this chunk of steps\n")

    def while_waiting(self, work: Callable[[], Any]) -> Any:
        """Returns ``work()``, run in a thread; a signal meanwhile ends the process immediately.

        For compilation, which takes long, cannot be interrupted, and leaves nothing to save.
        """
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while True:
                try:
                    return future.result(timeout=0.1)
                except TimeoutError:
                    if self.signal is not None and not future.done():
                        os._exit(128 + self.signal)

    def check(self, sentence: str) -> None:
        """Raises if a signal was received.

        Raises:
          Interrupted: with ``sentence`` and the exit code of the signal.
        """
        if self.signal is not None:
            raise Interrupted(self.signal, sentence)
