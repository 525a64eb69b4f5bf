"""What the commands of the command line share: flags, their help, positional arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import flags

from stndt_jax.errors import UserError


class HelpShown(Exception):  # noqa: N818
    """The user asked for help and got it."""


def new_flags() -> flags.FlagValues:
    """An empty set of flags, one for each command line that is read."""
    return flags.FlagValues()


def wants_help(argv: list[str]) -> bool:
    """Whether the user asked what a command does."""
    return any(arg in ("--help", "-help", "-h", "--helpfull", "help") for arg in argv)


def print_help(fv: flags.FlagValues, command: Callable) -> None:
    """Prints a command's docstring and its flags."""
    lines = (command.__doc__ or "").splitlines()
    print("\n".join(line.removeprefix("    ") for line in lines).rstrip() + "\n")
    for name in fv:
        print(
            f"  --{name.replace('_', '-'):18} {fv[name].help} (default: {fv[name].value or 'none'})"
        )


def _underscored(word: str) -> str:
    """A flag as absl knows it: ``--compile-cache=DIR`` as ``--compile_cache=DIR``."""
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


def parse(
    fv: flags.FlagValues, argv: list[str], command: Callable, positional: int, optional: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """The values of the flags, and the positional arguments, up to ``optional`` ones more."""
    if wants_help(argv):
        print_help(fv, command)
        raise HelpShown
    try:
        fv.set_gnu_getopt(True)
        rest = fv(["stndt", *map(_underscored, argv)])[1:]
    except (flags.Error, ValueError) as error:
        # A ValueError is of a --flagfile that holds no text.
        raise UserError(f"{str(error).rstrip('.')}; --help lists the flags") from error
    if not positional <= len(rest) <= positional + optional:
        usage = next(line for line in (command.__doc__ or "").splitlines() if "usage:" in line)
        got = " ".join(rest) or "nothing"
        raise UserError(f"{positional} argument(s) expected but got {got}; {usage.strip()}")
    return {name: fv[name].value for name in fv}, list(rest)
