"""The flags of commands: those that several share, reading a command line, printing help.

A command makes a :class:`Flags`, adds its flags and calls :meth:`Flags.parse`::

    flags = Flags(evaluate)
    shared.data(flags)
    flags.text("name", "NAME", "name of the method")
    flag, (path,) = flags.parse(argv, 1)
    flag["data"]

The command's docstring is its help: a sentence, ``usage:``, prose, ``example:``.
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl

from stndt_jax.errors import UserError


class HelpShown(Exception):  # noqa: N818
    """The user asked for help and got it."""


class Values(dict[str, Any]):
    """The values of a command's flags, by name.

    Attributes:
      given: names of the flags that stand on the command line.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE``, as :mod:`stndt_jax.config.loading`
        reads them.
    """

    def __init__(self, values: dict[str, Any], given: set[str], settings: list[str]) -> None:
        super().__init__(values)
        self.given, self.settings = given, settings

    def refuse(self, *names: str, when: str) -> None:
        """Refuses flags that would be ignored.

        Args:
          names: of the flags.
          when: in which case they are ignored, to follow "has no effect".

        Raises:
          UserError: one of them was given.
        """
        for name in names:
            if name in self.given:
                raise UserError(f"{self.spelled(name)} has no effect {when}; leave it out")

    def refuse_keys(self, *keys: str, when: str) -> None:
        """Refuses ``--config.KEY=VALUE`` flags that would be ignored, as :meth:`refuse`."""
        for word in self.settings:
            name = word.partition("=")[0]
            if name.removeprefix("--config.") in keys:
                raise UserError(f"{name} has no effect {when}; leave it out")

    def if_given(self, name: str) -> Any:
        """The value of a flag that stands on the command line, otherwise None."""
        return self[name] if name in self.given else None

    def spelled(self, name: str) -> str:
        """A flag as the user wrote it."""
        return f"--{'no' * (self[name] is False)}{name.replace('_', '-')}"


class Flags:
    """The flags of one command."""

    def __init__(self, command: Callable[[list[str]], int]) -> None:
        """Starts without flags.

        Args:
          command: its docstring is the help.
        """
        self._help = command.__doc__ or ""
        self._values = absl.FlagValues()
        self._values.set_gnu_getopt(True)
        self._kinds: dict[str, str] = {}
        self._required: dict[str, str] = {}
        self._takes_config = self._takes_name = False
        self._config_rows: list[list[str]] = []

    def text(
        self, name: str, kind: str, meaning: str, default: str = "", *, required: str = ""
    ) -> None:
        """Adds a flag that takes text.

        Args:
          name: of the flag, with underscores; the command line also takes hyphens.
          kind: what stands for the value in the help, for example ``FILE``.
          meaning: for the help.
          default: the value if it is not given.
          required: an example value, which makes the flag required.
        """
        absl.DEFINE_string(name, default, meaning, flag_values=self._values)
        self._kinds[name] = kind
        if required:
            self._required[name] = required

    def whole(
        self,
        name: str,
        meaning: str,
        default: int,
        least: int | None = None,
        most: int | None = None,
    ) -> None:
        """Adds a flag that takes a whole number, from ``least`` to ``most``."""
        absl.DEFINE_integer(name, default, meaning, least, most, flag_values=self._values)
        self._kinds[name] = "N"

    def number(
        self, name: str, kind: str, meaning: str, default: float | None, *, required: str = ""
    ) -> None:
        """Adds a flag that takes a number; the arguments are those of :meth:`text`."""
        absl.DEFINE_float(name, default, meaning, flag_values=self._values)
        self._kinds[name] = kind
        if required:
            self._required[name] = required

    def choice(self, name: str, meaning: str, choices: Sequence[str], default: str | None) -> None:
        """Adds a flag that takes one of some words."""
        absl.DEFINE_enum(name, default, list(choices), meaning, flag_values=self._values)
        self._kinds[name] = "|".join(choices)

    def switch(self, name: str, meaning: str, default: bool = False) -> None:
        """Adds a flag without a value; ``--noNAME`` turns it off."""
        absl.DEFINE_boolean(name, default, meaning, flag_values=self._values)

    def words(self, name: str, kind: str, meaning: str, *, required: str = "") -> None:
        """Adds a flag that takes words separated by commas."""
        absl.DEFINE_list(name, [], meaning, flag_values=self._values)
        self._kinds[name] = f"{kind},..."
        if required:
            self._required[name] = required

    def config(self, default: str = "auto", *, recording: str = "", named: bool = True) -> None:
        """Adds ``--config=NAME|FILE`` and ``--config.KEY=VALUE``.

        Args:
          default: the configuration that is used without ``--config``.
          recording: what the help says of ``--config.data.path``; empty where the command has
            another flag for the recording.
          named: whether ``--config=NAME|FILE`` is taken, or keys only.
        """
        self._takes_config, self._takes_name = True, named
        if named:
            self._config_rows = [["--config=NAME|FILE", f"{CONFIG} (default: {default})"]]
        if recording:
            self._config_rows.append(["--config.data.path=FILE", recording])
        keys = "set a key of it" if named else "set a key of the configuration"
        self._config_rows.append(
            ["--config.KEY=VALUE", f"{keys}; stndt train --help lists the keys"]
        )

    def parse(
        self, argv: Sequence[str], positional: int = 0, optional: int = 0
    ) -> tuple[Values, list[str]]:
        """Reads a command line.

        Args:
          argv: the words after the command.
          positional: the number of arguments that are no flags.
          optional: how many more of them there may be.

        Returns:
          The values of the flags, and the positional arguments.

        Raises:
          HelpShown: help was asked for, and printed.
          UserError: a flag is unknown, malformed or missing, or the number of arguments is wrong.
        """
        if wants_help(argv):
            print(self.help())
            raise HelpShown
        self._refuse_repeated(argv)
        words: list[str] = list(argv)
        settings: list[str] = []
        if self._takes_config:
            from stndt_jax.config import loading

            words, settings = loading.split(words)
            if settings and settings[0].startswith("--config=") and not self._takes_name:
                raise UserError(
                    f"{settings[0]} cannot be set, as this command has a configuration of its own; "
                    f"set keys of it, such as --config.train.epochs=20"
                )
        for word in words:
            if word.lstrip("-").startswith("flagfile="):
                # Imported here: it imports h5py, and the list of commands should be quick.
                from stndt_jax import files

                files.check_input(word.partition("=")[2])
        try:
            rest = list(self._values(["stndt", *map(_underscored, words)])[1:])
        except (absl.Error, ValueError) as error:
            # A ValueError is raised for a --flagfile that holds no text.
            raise UserError(f"{str(error).rstrip('.')}; --help lists the flags") from error
        if not positional <= len(rest) <= positional + optional:
            usage = next(line for line in self._help.splitlines() if "usage:" in line).strip()
            names = itertools.takewhile(lambda word: word[0] not in "[-", usage.split()[3:])
            words = list(names)
            if len(rest) < positional <= len(words):
                missing = words[len(rest) : positional]
                verb = "is" if len(missing) == 1 else "are"
                raise UserError(f"{' and '.join(missing)} {verb} missing; {usage}")
            most = positional + optional
            number = f"at most {most}" if optional else f"{most or 'no'}"
            which = f" ({' '.join(words[:most])})" if most else ""
            raise UserError(
                f"{number} argument{'s' * (most > 1)} expected{which} but got "
                f"{' '.join(rest) or 'nothing'}; {usage}"
            )
        given = {name for name in list(self._values) if self._values[name].present}
        for name in given & set(self._kinds):
            if self._values[name].value in ("", []):
                spelled = name.replace("_", "-")
                raise UserError(f"--{spelled} is empty; give {self._kinds[name]} or leave it out")
        values = Values(self._values.flag_values_dict(), given, settings)
        missing = [name for name in self._required if not values[name]]
        if missing:
            flags = [values.spelled(name) for name in missing]
            example = [f"{values.spelled(name)}={self._required[name]}" for name in missing]
            raise UserError(
                f"{' and '.join(flags)} {'is' if len(flags) == 1 else 'are'} missing; for example "
                f"{' '.join(example)}"
            )
        return values, rest

    def _refuse_repeated(self, argv: Sequence[str]) -> None:
        """Refuses a flag that is given twice, of which the first would be ignored.

        Of ``--config.KEY`` the last one counts, as scripts append them to a command; it is said.

        Raises:
          UserError: there is one.
        """
        seen: set[str] = set()
        for word in itertools.takewhile(lambda word: word != "--", argv):
            spelled = word.lstrip("-").partition("=")[0]
            name = spelled.replace("-", "_")
            if name not in self._values and name.removeprefix("no") in self._values:
                name = name.removeprefix("no")
            ours = name in self._values or name == "config" or name.startswith("config.")
            if not word.startswith("-") or not ours:
                continue
            if name in seen and name.startswith("config."):
                warning = f"stndt: warning: --{spelled} is given twice; the last one counts"
                print(warning, file=sys.stderr)
            elif name in seen:
                raise UserError(f"--{spelled} is given twice; leave one of the two out")
            seen.add(name)

    def help(self) -> str:
        """The command's docstring, its flags before the examples."""
        from stndt_jax.console import tables

        lines = [line.removeprefix("    ").rstrip() for line in self._help.strip().splitlines()]
        text, mark, examples = "\n".join(lines).partition("\nexample:")
        rows = [[self._usage(name), self._meaning(name)] for name in self._values]
        rows += self._config_rows
        parts = [_wrapped(paragraph) for paragraph in text.strip().split("\n\n")]
        if rows:
            parts.append(tables.table(["flags", ""], rows, wrap=[""]))
        if mark:
            parts.append((mark + examples).strip())
        return "\n\n".join(parts)

    def _usage(self, name: str) -> str:
        flag = name.replace("_", "-")
        if name in self._kinds:
            return f"--{flag}={self._kinds[name]}"
        return f"--no{flag}" if self._values[name].default else f"--{flag}"

    def _meaning(self, name: str) -> str:
        """The meaning of a flag, with its default."""
        flag = self._values[name]
        # absl writes the choices in front of it.
        meaning = re.sub(r"^<[^>]*>: ", "", flag.help)
        if name in self._required:
            return f"{meaning} (required)"
        if name not in self._kinds or flag.default in (None, "", []) or "(default: " in meaning:
            return meaning
        return f"{meaning} (default: {flag.default})"


MOST_PATHS = 10_000  # on one command line
NEEDED = "HDF5 file of the recording (required, unless the configuration names one)"
CONFIG = (
    "a shipped configuration, a Python file, whose code is executed, or the config.json of a run"
)


def wants_help(argv: Sequence[str]) -> bool:
    """Whether the user asked what a command does."""
    return any(arg in ("--help", "-help", "-h", "--helpfull", "help") for arg in argv)


def _wrapped(paragraph: str) -> str:
    """A paragraph of prose in lines of 80 characters; usage and lists stay as they are."""
    if paragraph.startswith("usage:") or "\n " in f"\n{paragraph}":
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), 80, break_on_hyphens=False)


def _underscored(word: str) -> str:
    """A flag as absl knows it: ``--compile-cache=DIR`` as ``--compile_cache=DIR``."""
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


# The flags that several commands share.


def data(flags: Flags, *, required: bool = False) -> None:
    """``--data``: the recording."""
    if required:
        flags.text("data", "FILE", "HDF5 file of the recording", required="mc_maze.h5")
    else:
        meaning = "HDF5 file of the recording, if it has moved since training"
        flags.text("data", "FILE", f"{meaning} (default: that of the run)")


def targets(flags: Flags, default: str = "those of the run or in the recording") -> None:
    """``--targets``: what rates are scored against."""
    meaning = "HDF5 file of the targets to score against"
    flags.text("targets", "FILE", f"{meaning} (default: {default})")


def out(flags: Flags, kind: str, meaning: str, *, required: str = "") -> None:
    """``--out``: what to write."""
    flags.text("out", kind, meaning, required=required)


def workdir(flags: Flags, meaning: str, example: str) -> None:
    """``--workdir``: where the command keeps its work, so that it can be resumed."""
    flags.text("workdir", "DIR", meaning, required=example)


def select(flags: Flags) -> None:
    """``--select``: which of the weights that a run keeps of each member."""
    flags.choice(
        "select",
        "each member's weights: best validation co-bps, lowest validation loss, or the last epoch",
        ["cobps", "loss", "last"],
        "cobps",
    )


def seed(flags: Flags, meaning: str) -> None:
    """``--seed``: of whatever the command samples."""
    flags.whole("seed", f"random seed {meaning}", 0, 0, 2**31 - 1)


def quiet(flags: Flags, meaning: str) -> None:
    """``--quiet``: print less."""
    flags.switch("quiet", meaning)


def whole_numbers(name: str, words: Sequence[str]) -> list[int]:
    """Whole numbers from the words of a flag, or from the file that its only word names.

    Args:
      name: of the flag, for messages.
      words: numbers, ranges such as 0-47 (both ends included), or one file: .npy, or text with
        numbers between commas or white space.

    Raises:
      UserError: something is no whole number, or the file cannot be read.
    """
    from stndt_jax.data.numpy_files import load_numpy

    given, where = list(words), f"--{name.replace('_', '-')}"
    path = Path(given[0]) if len(given) == 1 else Path()
    if path.suffix == ".npy":
        array = load_numpy(path)
        if isinstance(array, dict) or array.ndim != 1 or array.dtype.kind not in "iu":
            raise UserError(f"{where}: {path} holds no list of whole numbers; save one such array")
        return [int(number) for number in array]
    if path.is_file():
        given, where = _words_of(path), f"{where}: {path}"
    numbers: list[int] = []
    for word in given:
        found = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", word)
        if found is None or int(found[2] or found[1]) - int(found[1]) not in range(10**6):
            what = "is" if where.endswith(name) else "has"
            raise UserError(
                f"{where} {what} {word!r}; give whole numbers or ranges, such as 0,3,8-11, or the "
                f"name of an existing .npy or text file of them"
            )
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return numbers


def _words_of(path: Path) -> list[str]:
    try:
        return path.read_text().replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}); give numbers") from None


def say(line: str) -> None:
    """Prints a line of progress at once."""
    print(line, flush=True)


def following(*words: str) -> None:
    """Prints the command that comes next, as a shell takes it."""
    print(f"next: {shlex.join(('stndt', *words))}")


def wrote(paths: Sequence[Path]) -> int:
    """Prints which files were written, one per line.

    Returns:
      The exit code 0.
    """
    print("wrote " + "\n      ".join(map(str, paths)))
    return 0
