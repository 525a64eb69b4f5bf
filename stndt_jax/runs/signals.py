"""Stopping when asked: signals become a flag that the training loop reads."""

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
    """While open, SIGTERM and SIGINT set ``signal``; a second SIGINT ends the process at once.

    That is safe at any moment, because a run directory is good at any moment.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        # Only the main thread may; elsewhere (in a notebook's thread) signals stay as they are.
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
            os.write(2, b"\nstndt: left at once; the last checkpoint stands\n")
            os._exit(128 + number)
        self.signal = number
        os.write(2, b"\nstndt: stopping after this chunk of steps, saving first\n")

    def while_waiting(self, work: Callable[[], Any]) -> Any:
        """``work()``, in a thread; a signal ends the process, for there is nothing to save yet.

        For compilation, which takes long and cannot be stopped.
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
        """Raises what ends the run, if a signal has asked for it.

        Raises:
          Interrupted: with the sentence and the signal's exit code.
        """
        if self.signal is not None:
            raise Interrupted(self.signal, sentence)
