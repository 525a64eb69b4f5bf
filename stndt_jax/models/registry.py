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
import inspect
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn

from stndt_jax.errors import UserError

Class = TypeVar("Class", bound=type)

# Kind, which is also the key below config.model -> name -> class.
TABLE: dict[str, dict[str, type]] = {
    "network": {},
    "temporal_attention": {},
    "spatial_attention": {},
}
PLUGINS = "STNDT_PLUGINS"
_OWN = __name__.removesuffix("registry")


class _Interface(NamedTuple):
    """How the package makes and calls a class of a kind.

    Attributes:
      like: the shipped class.
      attributes: it is made with, by name.
      arguments: of ``__call__``.
      optional: how many of these the package may leave out.
    """

    like: str
    attributes: tuple[str, ...]
    arguments: tuple[str, ...]
    optional: int = 0


_INTERFACES = {
    "network": _Interface(
        "stndt.STNDT",
        ("config", "contrast", "dims", "token"),
        ("x_BTN", "hyper", "recorded_BTN", "masked_BTN"),
        3,
    ),
    "temporal_attention": _Interface(
        "attention.TemporalAttention", ("config", "dims"), ("x_BTD", "mask_bTT", "hyper")
    ),
    "spatial_attention": _Interface("attention.SpatialAttention", ("config", "dims"), ("s_BDT",)),
}


def register(kind: str, name: str) -> Callable[[Class], Class]:
    """Class decorator that makes a class available as ``config.model.KIND = NAME``.

    A later class of the same kind and name replaces an earlier one, as when a notebook cell is
    run again.

    Args:
      kind: ``network``, ``temporal_attention`` or ``spatial_attention``.
      name: the value in the configuration.

    Raises:
      UserError: there is no such kind, or what is decorated is no class with the attributes and
        the arguments of the shipped one.
    """
    if kind not in TABLE:
        raise UserError(f"{kind!r} is no kind of class; choose one of {', '.join(TABLE)}")

    def add(cls: Class) -> Class:
        if not isinstance(cls, type):
            raise UserError(f"{name!r} is registered for {cls!r}; register a class, a flax Module")
        _check(kind, name, cls)
        TABLE[kind][name] = cls
        return cls

    return add


def _check(kind: str, name: str, cls: type) -> None:
    """Refuses a class that the package could not make or call.

    Raises:
      UserError: it is no flax Module, or has other attributes or arguments.
    """
    wanted = _INTERFACES[kind]
    where = f"{cls.__name__}, registered as {kind} {name!r},"
    if not issubclass(cls, nn.Module):
        raise UserError(f"{where} is no flax Module; derive it from flax.linen.Module")
    try:
        inspect.signature(cls).bind(**dict.fromkeys((*wanted.attributes, "name")))
        # Attention is made with the first two by position.
        if list(inspect.signature(cls).parameters)[:2] != list(wanted.attributes[:2]):
            raise TypeError
    except TypeError:
        raise UserError(
            f"{where} does not have the attributes {', '.join(wanted.attributes)}; declare them in "
            f"this order, as models.{wanted.like} does"
        ) from None
    call = next((c.__dict__["__call__"] for c in cls.__mro__ if "__call__" in c.__dict__), None)
    for number in range(len(wanted.arguments) - wanted.optional, len(wanted.arguments) + 1):
        try:
            inspect.signature(call).bind(None, *wanted.arguments[:number])  # type: ignore[arg-type]
        except TypeError:
            raise UserError(
                f"{where} is not callable with {', '.join(wanted.arguments)}; give __call__ the "
                f"arguments of models.{wanted.like}"
            ) from None


def check_result(kind: str, name: str, found: Any, shapes: tuple[tuple[Any, ...], ...]) -> Any:
    """What a class returned, if it is arrays of these shapes.

    Args:
      kind: of the class.
      name: that it is registered by.
      found: an array, or a tuple of several.
      shapes: of the arrays; while a model is exported, the number of trials is a symbol.

    Raises:
      UserError: it is something else.
    """
    parts = found if len(shapes) > 1 and isinstance(found, tuple | list) else (found,)
    if tuple(getattr(part, "shape", None) for part in parts) != shapes:
        given = ", ".join(str(getattr(part, "shape", type(part).__name__)) for part in parts)
        raise UserError(
            f"the class registered as {kind} {name!r} returns {given}; it must return "
            f"{', '.join(map(str, shapes))}, as models.{_INTERFACES[kind].like} does"
        )
    return found


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


def are_shipped(names: Mapping[str, str]) -> bool:
    """Whether classes are the package's own, of which it knows what they do.

    Args:
      names: name by kind.

    Raises:
      UserError: there is none of such a name.
    """
    return all(find(kind, name).__module__.startswith(_OWN) for kind, name in names.items())


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
