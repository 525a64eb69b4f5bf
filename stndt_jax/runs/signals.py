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


def in_thread(work: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    """Starts ``work()`` in a thread that ends with the process."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class Stop:
    """A context in which SIGTERM and SIGINT only set ``signal``.

    A second SIGINT ends the process immediately. This is safe at any time, because all files of a
    run directory are written atomically.

    Attributes:
      signal: the number of the signal; None before there is one.
      saves: whether the block will save before it stops, which a signal is answered with.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.saves = False
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
        how = b"saving, then stopping, after this chunk of steps" if self.saves else b"stopping"
        os.write(2, b"\nstndt: " + how + b"\n")

    def while_waiting(self, work: Callable[[], Any], sentence: str) -> Any:
        """Returns ``work()``, run in a thread, unless a signal is received meanwhile.

        For work that takes long and cannot be interrupted, such as compilation. After a signal its
        thread is left alone; it ends with the work or with the process.

        Args:
          work: the work.
          sentence: says what a signal leaves undone.

        Raises:
          Interrupted: a signal was received.
        """
        future = in_thread(work)
        while not future.done():
            concurrent.futures.wait([future], timeout=0.1)
            self.check(sentence)
        return future.result()

    def check(self, sentence: str) -> None:
        """Raises if a signal was received.

        Raises:
          Interrupted: with ``sentence`` and the exit code of the signal.
        """
        if self.signal is not None:
            raise Interrupted(self.signal, sentence)
