"""The table of classes that a configuration chooses from.

A research fork adds its own class from its own file and names it in the configuration; nothing in
the package is edited::

    from stndt_jax import models

    @models.register("temporal_attention", "linear")
    class LinearAttention(nn.Module):
        config: ModelConfig
        dims: Dims

        @nn.compact
        def __call__(self, x_BTD, mask_bTT, hyper): ...

    config.model.temporal_attention = "linear"

What a class of each kind receives and returns is that of the shipped one:
``attention.TemporalAttention``, ``attention.SpatialAttention``, ``stndt.STNDT``.

The commands find such a class when the environment variable ``STNDT_PLUGINS`` names the modules
that register it, separated by commas. Modules are never named by a run directory: opening the
files of others executes none of their code.
"""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from stndt_jax.errors import UserError

Class = TypeVar("Class", bound=type)

# Kind, which is also the key below config.model -> name -> class.
TABLE: dict[str, dict[str, type]] = {
    "network": {},
    "temporal_attention": {},
    "spatial_attention": {},
}
PLUGINS = "STNDT_PLUGINS"


def register(kind: str, name: str) -> Callable[[Class], Class]:
    """Class decorator that makes a class available as ``config.model.KIND = NAME``.

    A later class of the same kind and name replaces an earlier one, as when a notebook cell is
    run again.

    Args:
      kind: ``network``, ``temporal_attention`` or ``spatial_attention``.
      name: the value in the configuration.

    Raises:
      UserError: there is no such kind, or what is decorated is no class.
    """
    if kind not in TABLE:
        raise UserError(f"{kind!r} is no kind of class; choose one of {', '.join(TABLE)}")

    def add(cls: Class) -> Class:
        if not isinstance(cls, type):
            raise UserError(f"{name!r} is registered for {cls!r}; register a class, a flax Module")
        TABLE[kind][name] = cls
        return cls

    return add


def find(kind: str, name: str) -> Any:
    """The class registered under a name.

    Raises:
      UserError: there is none, also not in the modules that ``STNDT_PLUGINS`` names.
    """
    if name not in TABLE[kind]:
        _import_plugins()
    if name not in TABLE[kind]:
        raise UserError(
            f"config.model.{kind} is {name!r}, which is not registered; registered: "
            f"{', '.join(sorted(TABLE[kind]))}; import the module that registers it, or name that "
            f"module in the environment variable {PLUGINS}"
        )
    return TABLE[kind][name]


def _import_plugins() -> None:
    for module in filter(None, map(str.strip, os.environ.get(PLUGINS, "").split(","))):
        try:
            importlib.import_module(module)
        except UserError:
            raise
        except Exception as error:
            if not isinstance(error, ModuleNotFoundError) or error.name not in _parents(module):
                raise UserError(
                    f"{PLUGINS} names the module {module}, which cannot be imported: "
                    f"{_where(error)}{type(error).__name__}: {error}; mend that file"
                ) from error
            mend = "add its folder to PYTHONPATH"
            if module.endswith(".py"):
                mend = f"leave out .py: {PLUGINS}={module.removesuffix('.py')}"
            raise UserError(
                f"{PLUGINS} names the module {module}, which cannot be found; {mend}"
            ) from error


def _parents(module: str) -> list[str]:
    """A module's name, and those of the packages that it is in."""
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _where(error: Exception) -> str:
    """File and line of an error, for a message."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}: "
