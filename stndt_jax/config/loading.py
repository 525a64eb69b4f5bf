"""Loading a configuration file and ``--config.KEY=VALUE`` flags as a checked ``Config``."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import textwrap
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from stndt_jax import files
from stndt_jax.config import automatic, own_files, schema
from stndt_jax.config.schema import Config
from stndt_jax.console import tables
from stndt_jax.errors import UserError


def folder() -> Path:
    """The directory of the shipped configuration files."""
    spec = importlib.util.find_spec("stndt_jax.configs")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def shipped() -> list[str]:
    """The names of the shipped configurations."""
    return sorted(p.stem for p in folder().glob("*.py") if not p.stem.startswith("_"))


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Separates the configuration flags of a command line from its other arguments.

    Returns:
      The other arguments; then ``--config=NAME``, if given, and all ``--config.KEY=VALUE``.
    """
    rest: list[str] = []
    file: list[str] = []
    keys: list[str] = []
    words = iter(argv)
    for word in words:
        name, _, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not (name == "config" or name.startswith("config.")):
            rest.append(word)
            continue
        if "=" not in word:
            value = next(words, "")
        (file if name == "config" else keys).append(f"--{name}={value}")
    return rest, file[-1:] + keys


def find(name: str) -> str:
    """The path of a configuration, followed by ``:ARGUMENT`` if ``name`` has one.

    Args:
      name: the name of a shipped configuration, or the path of a file.

    Raises:
      UserError: there is no such file.
    """
    stem, colon, argument = name.partition(":")
    if stem in shipped():
        return str(folder() / f"{stem}.py") + colon + argument
    try:
        exists = stem.endswith((".py", ".json")) and Path(stem).is_file()
    except OSError:
        exists = False  # the name is too long for a file
    if not exists:
        close = difflib.get_close_matches(stem, shipped(), n=1)
        hint = f"did you mean {close[0]}?" if close else "check it"
        raise UserError(
            f"{name} is neither a shipped configuration ({', '.join(shipped())}) nor "
            f"the path of a Python file or of a run's config.json; {hint}"
        )
    return str(Path(stem).absolute()) + colon + argument


# Python's messages about text that is not a number, and what they become in ours.
_CONVERSIONS = {
    "invalid literal for int() with base 10:": "a whole number",
    "could not convert string to float:": "a number",
}


def _check_key(values: ConfigDict, key: str) -> None:
    """Checks that the configuration has a key.

    Raises:
      UserError: it does not; the message suggests similar keys.
    """
    node = values
    *sections, leaf = key.split(".")
    for i, part in enumerate([*sections, leaf]):
        if not isinstance(node, ConfigDict) or part not in node:
            where = ".".join(["config", *key.split(".")[: i + 1]])
            if not isinstance(node, ConfigDict):
                raise UserError(f"--{where} is not a key; config.{'.'.join(sections[:i])} has none")
            raise UserError(f"--{where} is not a key; {schema.suggest(part, list(node))}")
        node = node[part]
    if isinstance(node, ConfigDict):
        raise UserError(f"--config.{key} holds other keys; set one of {', '.join(node)}")


def load(settings: list[str]) -> Config:
    """Reads a configuration file, applies the flags that override it, and checks the result.

    What the configuration leaves open is chosen from the recording that it names.

    Args:
      settings: as for :func:`read`.

    Raises:
      UserError: as :func:`read`, or a value is invalid, or the recording cannot be read.
    """
    values = read(settings).to_dict()
    if automatic.open_keys(values):
        values, _ = automatic.filled(values, automatic.recording(values))
    return schema.from_mapping(values)


def read(settings: list[str], run: Path | None = None) -> ConfigDict:
    """Reads a configuration file and applies the flags that override it.

    A Python file is executed, so it should come from a source that is trusted as code is. A
    ``config.json`` is data: nothing in it, nor beside it, is imported or executed.

    Args:
      settings: ``--config=NAME`` and then any number of ``--config.KEY=VALUE``. Without a name it
        is the configuration ``auto``.
      run: a run directory, whose configuration is used if ``--config`` is missing.

    Raises:
      UserError: the file does not exist, or there is no such key.
    """
    if run is not None and (run / "config.json").is_file():
        settings = named(settings, str(run / "config.json"))
    settings = named(settings)
    path = find(settings[0].removeprefix("--config="))
    file = path.partition(":")[0]
    argv = ["stndt", f"--config={path}", *settings[1:]]
    plain = _read(argv[:2], file)
    for setting in settings[1:]:
        key = setting.partition("=")[0].removeprefix("--config.")
        _check_key(plain, key)
    return _read(argv, file)


def named(settings: list[str], name: str = "auto") -> list[str]:
    """The settings with ``--config=NAME`` first, where they name no configuration."""
    has_name = bool(settings) and settings[0].startswith("--config=")
    return settings if has_name else [f"--config={name}", *settings]


def get_config(name: str) -> ConfigDict:
    """A configuration to edit, not yet checked.

    Args:
      name: a shipped name, or the path of a Python file, which is executed, or of a run's
        ``config.json``, which is not.

    Raises:
      UserError: there is no such file, or it cannot be used.
    """
    path = find(name)
    return _read(["stndt", f"--config={path}"], path.partition(":")[0])


def documentation() -> str:
    """The shipped configurations, and every key with its default and meaning, as text."""
    names = textwrap.fill(f"shipped configurations: {', '.join(shipped())}", 80)
    about = textwrap.fill(
        "Defaults are those of --config=auto, which is used without --config; (rule): chosen from "
        "the sizes of the recording.",
        80,
    )
    values = get_config("auto").to_dict()
    rows = []
    for name, _, meaning in schema.documentation():
        section, _, leaf = name.partition(".")
        value = values[section].get(leaf, "") if leaf else values[section]
        rows.append([name, "(rule)" if value is None else str(value), meaning])
    heads = ["keys of --config", "default", "meaning"]
    return f"{names}\n\n{about}\n\n{tables.table(heads, rows, wrap=heads[1:])}"


def search_space(settings: list[str]) -> Any:
    """The search space of a configuration file: the result of its ``get_search_space()``.

    Args:
      settings: as for :func:`load`.

    Raises:
      UserError: the file has no such function, or it fails.
    """
    file, _, variant = find(settings[0].removeprefix("--config=")).partition(":")
    if file.endswith(".json"):
        # The configuration of a run has no search space.
        file = str(folder() / "default.py")
    spec = importlib.util.spec_from_file_location("stndt_searched", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = module.get_search_space
        return function(variant) if inspect.signature(function).parameters else function()
    except AttributeError as error:
        if hasattr(module, "get_search_space"):
            raise UserError(f"get_search_space() in {file} fails: {error}; correct it") from error
        raise UserError(
            f"{file} has no get_search_space(), which returns what to search; see "
            f"configs/default.py"
        ) from error
    except Exception as error:
        # Any exception of the user's own file is an error of the user's.
        name = type(error).__name__
        raise UserError(f"{file} cannot be used: {name}: {error}; correct it") from error


def keys(settings: list[str]) -> list[str]:
    """The dotted keys that the ``--config.KEY=VALUE`` flags set."""
    return [word.partition("=")[0].removeprefix("--config.") for word in settings[1:]]


def _of_run(path: Path) -> ConfigDict:
    """The configuration in a run's ``config.json``."""
    values = files.read_json(path, "restore it, or name a shipped configuration")
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no configuration; name a shipped one")
    members = values.get("members")
    if isinstance(members, dict):
        # Tuples, so that flags for them are parsed as tuples.
        values["members"] = {
            name: tuple(given) if isinstance(given, list) else given
            for name, given in members.items()
        }
    try:
        return ConfigDict(schema.with_later(own_files.expanded(values, path.parent)))
    except (AttributeError, TypeError, ValueError) as error:
        # ConfigDict refuses some keys: with dots, or that are its own attributes.
        raise UserError(
            f"{path} holds no configuration ({error}); restore it, or name a shipped one"
        ) from error


def _read(argv: list[str], file: str) -> ConfigDict:
    values = flags.FlagValues()
    if file.endswith(".json"):
        base = _of_run(Path(file))
        argv = [word for word in argv if not word.startswith("--config=")]
        flag = config_flags.DEFINE_config_dict("config", base, flag_values=values, sys_argv=argv)
    else:
        flag = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        values(argv)
        result = flag.value
        # If the file raised an OSError, ml_collections returns a placeholder, any attribute of
        # which raises that error.
        if not hasattr(result, "to_dict") or not isinstance(result, ConfigDict):
            raise UserError(f"get_config() in {file} returns no ConfigDict; see configs/default.py")
        return result
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        text = str(error)
        if isinstance(error, flags.Error) and "parsing config file" not in text:
            text = text.splitlines()[0].rstrip(".")
            for conversion, wanted in _CONVERSIONS.items():
                text = text.replace(conversion, f"must be {wanted}, not")
            raise UserError(f"{text.removeprefix('flag ')}; see stndt train --help") from error
        if "get_config() takes 0 positional arguments" in text:
            raise UserError(
                f"--config: {Path(file.partition(':')[0]).stem} has no variants; leave out what "
                f"follows the colon"
            ) from error
        # Any exception of the user's own file is an error of the user's. For some, the message of
        # ml_collections is the whole traceback, of which the last line is the message.
        lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
        name = type(error).__name__
        named = isinstance(error, flags.Error) or lines[-1].startswith(name)
        reason = lines[-1] if named else f"{name}: {lines[-1]}"
        raise UserError(f"{file} cannot be used: {reason}; correct it or name another") from error
