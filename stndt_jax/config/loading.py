"""Configuration files and ``--config.KEY=VALUE`` flags, as one checked ``Config``."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from stndt_jax import files
from stndt_jax.config import schema
from stndt_jax.config.schema import Config
from stndt_jax.errors import UserError


def folder() -> Path:
    """Where the shipped configuration files are."""
    spec = importlib.util.find_spec("stndt_jax.configs")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def shipped() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(p.stem for p in folder().glob("*.py") if not p.stem.startswith("_"))


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Other arguments, and those of ``--config``, itself first."""
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
    """The path of a shipped name or of a file, an argument after ``:`` kept.

    Raises:
      UserError: there is no such file.
    """
    stem, colon, argument = name.partition(":")
    if stem in shipped():
        return str(folder() / f"{stem}.py") + colon + argument
    try:
        there = stem.endswith((".py", ".json")) and Path(stem).is_file()
    except OSError:
        there = False  # too long to be a name
    if not there:
        close = difflib.get_close_matches(stem, shipped(), n=1)
        hint = f"did you mean {close[0]}?" if close else "check it"
        raise UserError(
            f"--config={name} is neither a shipped configuration ({', '.join(shipped())}) nor "
            f"the path of a Python file or of a run's config.json; {hint}"
        )
    return str(Path(stem).absolute()) + colon + argument


# What Python says of a text that is no number, and what the user needs to hear.
_CONVERSIONS = {
    "invalid literal for int() with base 10:": "a whole number",
    "could not convert string to float:": "a number",
}


def _check_key(values: ConfigDict, key: str) -> None:
    """Refuses a key that the configuration does not have, with a suggestion."""
    node = values
    *sections, leaf = key.split(".")
    for i, part in enumerate([*sections, leaf]):
        if not isinstance(node, ConfigDict) or part not in node:
            where = ".".join(["config", *key.split(".")[: i + 1]])
            known = list(node) if isinstance(node, ConfigDict) else []
            raise UserError(f"--{where} is not a key; {schema.suggest(part, known)}")
        node = node[part]
    if isinstance(node, ConfigDict):
        raise UserError(f"--config.{key} holds other keys; set one of {', '.join(node)}")


def load(settings: list[str], run: Path | None = None) -> Config:
    """Reads a configuration file and applies the flags that override it.

    Args:
      settings: ``--config=NAME`` and then any number of ``--config.KEY=VALUE``.
      run: a run directory, whose configuration is used where no file is named.

    Raises:
      UserError: no or an unknown file, an unknown key, or a value that does not fit.
    """
    named = bool(settings) and settings[0].startswith("--config=")
    if not named and run is not None and (run / "config.json").is_file():
        settings = [f"--config={run / 'config.json'}", *settings]
    elif not named:
        raise UserError(f"--config is missing; give a path or one of {', '.join(shipped())}")
    path = find(settings[0].removeprefix("--config="))
    file = path.partition(":")[0]
    argv = ["stndt", f"--config={path}", *settings[1:]]
    plain = _read(argv[:2], file)
    for setting in settings[1:]:
        key = setting.partition("=")[0].removeprefix("--config.")
        _check_key(plain, key)
    return schema.from_mapping(_read(argv, file).to_dict())


def search_space(settings: list[str]) -> Any:
    """What ``get_search_space()`` returns, which stands beside ``get_config()`` in the file.

    Args:
      settings: as for :func:`load`.

    Raises:
      UserError: the file has no such function, or it fails.
    """
    file = find(settings[0].removeprefix("--config=")).partition(":")[0]
    if file.endswith(".json"):
        # The configuration of a run says what was, not what could be.
        file = str(folder() / "default.py")
    spec = importlib.util.spec_from_file_location("stndt_searched", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_search_space()
    except AttributeError as error:
        if hasattr(module, "get_search_space"):
            raise UserError(f"get_search_space() in {file} fails: {error}; mend it") from error
        raise UserError(
            f"{file} has no get_search_space(), which says what to search; see configs/default.py"
        ) from error
    except Exception as error:
        # Whatever the user's own file raises is the user's to mend.
        name = type(error).__name__
        raise UserError(f"{file} cannot be used: {name}: {error}; mend it") from error


def keys(settings: list[str]) -> list[str]:
    """The dotted keys that ``--config.KEY=VALUE`` flags set."""
    return [word.partition("=")[0].removeprefix("--config.") for word in settings[1:]]


def _of_run(path: Path) -> ConfigDict:
    """The configuration that a run directory holds."""
    values = files.read_json(path, "restore it, or name a shipped configuration")
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no configuration; name a shipped one")
    members = values.get("members")
    if isinstance(members, dict):
        # A flag for one of them is read as a tuple.
        values["members"] = {
            name: tuple(given) if isinstance(given, list) else given
            for name, given in members.items()
        }
    return ConfigDict(schema.with_later(values))


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
        # Where the file met an OSError, any attribute of the stand-in that we get raises it.
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
        # Whatever the user's own file raises while it is read is the user's to mend. Of a whole
        # traceback, which ml_collections makes the message of some, the last line says it.
        said = [line.strip() for line in text.splitlines() if line.strip()] or [""]
        name = type(error).__name__
        told = isinstance(error, flags.Error) or said[-1].startswith(name)
        reason = said[-1] if told else f"{name}: {said[-1]}"
        raise UserError(f"{file} cannot be used: {reason}; mend it or name another") from error
