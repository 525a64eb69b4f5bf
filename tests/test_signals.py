"""Signals while something runs that cannot be interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stndt_jax.errors import Interrupted
from stndt_jax.runs.signals import Stop


def test_work_that_nothing_disturbs() -> None:
    def fail() -> None:
        raise TimeoutError("of the work itself")

    with Stop() as stop:
        assert stop.while_waiting(lambda: 7, "") == 7
        with pytest.raises(TimeoutError, match="of the work itself"):
            stop.while_waiting(fail, "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("saves", [False, True])
def test_a_signal_does_not_wait_for_the_work(
    number: signal.Signals, saves: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    end, began = threading.Event(), time.monotonic()
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    with Stop() as stop, pytest.raises(Interrupted, match="nothing to save") as caught:
        stop.saves = saves
        stop.while_waiting(lambda: end.wait(60), "there was nothing to save")
    end.set()
    assert time.monotonic() - began < 30
    assert caught.value.exit_code == 128 + number
    said = capfd.readouterr().err
    assert ("saving, then stopping" in said) == saves and "stopping" in said


@pytest.mark.parametrize(
    ("number", "words"), [("SIGTERM", "terminated"), ("SIGINT", "interrupted")]
)
def test_a_command_ends_with_a_word_and_the_code_of_the_signal(number: str, words: str) -> None:
    """Also where a library takes every Exception for a failure of its own."""
    code = """
import os, signal, sys, time, types
from stndt_jax.cli import main

def runs(argv):
    try:
        os.kill(os.getpid(), getattr(signal, argv[0]))
        time.sleep(60)
    except Exception:
        return 0

sys.modules["stndt_jax.cli.train"] = types.SimpleNamespace(runs=runs)
sys.argv[1:1] = ["runs"]
main.entry()
"""
    command = [sys.executable, "-c", code, number]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 128 + getattr(signal, number)
    assert done.stderr.splitlines()[-1] == f"stndt: {words}"
