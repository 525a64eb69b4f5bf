"""The exceptions that are no bugs, and the checks of single arguments that raise them."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Something the user can mend: one sentence naming what, where and what to do.

    The command line prints the sentence without a traceback and exits with 2. Anything
    else that is raised is a bug and keeps its traceback.
    """

    exit_code = 2


class Diverged(UserError):  # noqa: N818
    """No member of a population can be trained further; exit code 3."""

    exit_code = 3


class Interrupted(Exception):  # noqa: N818
    """A signal asked the run to stop, and it did, saved; exit code 128 + the signal's number."""

    def __init__(self, signal: int, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + signal


def install(extra: str) -> str:
    """How to install an extra of the package, as the end of a sentence.

    No package index has the package, so it is installed from a clone.
    """
    return f"run in the clone of stndt_jax: pip install -e '.[{extra}]'"


def check_choice(what: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses a value that is none of the choices.

    Raises:
      UserError: it is not.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise UserError(f"{what} is {value!r}; choose one of {', '.join(map(repr, names))}")


def checked_whole(what: str, value: Any, least: int = 0) -> int:
    """A whole number from ``least``.

    Raises:
      UserError: it is something else, or less.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise UserError(f"{what} is {value!r}; give a whole number from {least}")
    return number


def is_number(value: Any) -> bool:
    """Whether this is a finite real number, and no boolean."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def checked_path(what: str, value: Any) -> Path:
    """A path, from text or a path.

    Raises:
      UserError: it is something else.
    """
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{what} is {value!r}; give a path, as text or pathlib.Path")
    return Path(value)
