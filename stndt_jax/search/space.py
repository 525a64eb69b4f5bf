"""Search spaces: the hyperparameters of a search and their ranges.

A configuration file defines one in ``get_search_space()``, which returns a dictionary of
name -> range, for example::

    {
        "dropout": ("uniform", 0.0, 0.4),
        "learning_rate": ("log", 1e-5, 1e-2),
        "context_forward": ("int", 1, 100),
        "model.layers": ("choice", 2, 4),
    }

A hyperparameter that may differ between the members of a population has its name under
``config.members``. Any other is static, has its dotted key, and must be a choice: all trials that
train together share it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.errors import UserError
from stndt_jax.types import Dims

KINDS = ("uniform", "log", "int", "choice")
# Sections and keys that cannot be searched.
_NOT_SEARCHED = ("seed", "population", "members", "data", "parallel")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, inclusive; with ``log``, uniform in the logarithm."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]


Dimension = Range | Choice
Params = dict[str, Any]


@dataclass(frozen=True)
class Space:
    """A checked search space.

    Attributes:
      own: hyperparameters with a value for each trial, by name.
      shared: hyperparameters that all trials of a population share, by dotted key.
    """

    own: Mapping[str, Dimension]
    shared: Mapping[str, Choice]

    def plain(self) -> dict[str, list[Any]]:
        """The space as JSON, to compare it with that of a file."""
        found: dict[str, list[Any]] = {}
        for name, one in {**self.shared, **self.own}.items():
            if isinstance(one, Choice):
                found[name] = ["choice", *one.values]
            else:
                kind = "log" if one.log else "int" if one.whole else "uniform"
                found[name] = [kind, one.low, one.high]
        return found


def check(given: Any, config: Config) -> Space:
    """Checks every name and range of a search space.

    Args:
      given: returned by ``get_search_space()``.
      config: the configuration of the same file.

    Raises:
      UserError: the configuration has no such key, or refuses a value.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError("get_search_space() must return a dictionary of name -> range")
    own: dict[str, Dimension] = {}
    shared: dict[str, Choice] = {}
    for name, entry in given.items():
        one = _dimension(name, entry)
        ends = one.values if isinstance(one, Choice) else (one.low, one.high)
        for value in ends:
            _try(name, value, config)
        if name in configs.HYPER_FIELDS:
            own[name] = one
        elif isinstance(one, Choice):
            shared[name] = one
        else:
            raise UserError(
                f"search space: {name} changes the compiled program, so all trials of a "
                f'population share it; give a choice, for example ("choice", 1, 2)'
            )
    return Space(own, shared)


def _dimension(name: Any, entry: Any) -> Dimension:
    shape = "a kind and its values, for example ('log', 1e-4, 1e-2)"
    if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) < 2:
        raise UserError(f"search space: {name} is {entry!r}; give {shape}")
    kind, *values = entry
    if kind not in KINDS:
        raise UserError(f"search space: {name} has kind {kind!r}; the kinds are {', '.join(KINDS)}")
    if kind == "choice":
        return Choice(tuple(dict.fromkeys(values)))
    number = all(isinstance(v, (int, float)) and math.isfinite(v) for v in values)
    if len(values) != 2 or not number or values[0] > values[1]:
        raise UserError(f"search space: {name} is {entry!r}; give the lowest and highest value")
    low, high = values
    if kind == "log" and low <= 0:
        raise UserError(f"search space: {name} starts at {low}; with log, give a number above 0")
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise UserError(f"search space: {name} is {entry!r}; give whole numbers")
    return Range(low, high, kind == "log", kind == "int")


def _try(name: Any, value: Any, config: Config) -> None:
    """Refuses a value that the configuration would refuse."""
    values = copy.deepcopy(configs.to_mapping(config)) | {"population": 1, "members": {}}
    if name in configs.HYPER_FIELDS:
        values["members"] = {name: [value]}
    else:
        _put(values, str(name), value)
    try:
        configs.from_mapping(values)
    except UserError as error:
        raise UserError(f"search space: {name} may be {value!r}, but {error}") from error


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of a nested mapping."""
    section, _, leaf = key.partition(".")
    known = {
        f"{name}.{inner}"
        for name, inside in values.items()
        if name not in _NOT_SEARCHED
        for inner in inside
    } - {inner for inner, _ in configs.HYPER_FIELDS.values()}
    if key not in known:
        names = [*configs.HYPER_FIELDS, *sorted(known)]
        raise UserError(f"{key} cannot be searched; {configs.suggest(key, names)}")
    values[section][leaf] = value


def without(space: Space, keys: Iterable[str]) -> Space:
    """The space without the dotted keys of the configuration that the user has set."""
    fixed = set(keys)
    own = {n: d for n, d in space.own.items() if configs.HYPER_FIELDS[n][0] not in fixed}
    return Space(own, {key: d for key, d in space.shared.items() if key not in fixed})


def fit(space: Space, config: Config, dims: Dims) -> Space:
    """The space without what does not fit this recording.

    Heads must divide the bins and the width of the model, which is the number of neurons where
    ``model.width`` is 0. Widths go that no number of heads divides, then numbers of heads that do
    not divide every width.

    Raises:
      UserError: no number of heads is left, or no hyperparameter.
    """
    shared = dict(space.shared)
    heads, widths, spatial = (
        shared[key].values if key in shared else (getattr(config.model, key.split(".")[1]),)
        for key in ("model.heads", "model.width", "model.spatial")
    )
    bins = [dims.bins] if any(spatial) else []

    def divides(number: int, width: int) -> bool:
        return not any(size % number for size in (width or dims.neurons, *bins))

    good_widths = tuple(w for w in widths if any(divides(h, w) for h in heads))
    good_heads = tuple(h for h in heads if all(divides(h, w) for w in good_widths))
    if not good_widths or not good_heads:
        sizes = [f"{w} factors" if w else f"{dims.neurons} neurons" for w in widths]
        raise UserError(
            f"none of the heads {list(heads)} divides "
            f"{' and '.join([*sizes, *(f'{T} bins' for T in bins)])}; give --config.model.heads=1"
        )
    for key, values in (("model.heads", good_heads), ("model.width", good_widths)):
        if key in shared:
            shared[key] = Choice(values)
    if not space.own and not shared:
        raise UserError(
            "no hyperparameter is left to search, because all are set; set fewer --config keys"
        )
    return Space(space.own, shared)


def of_config(config: Config, space: Space) -> Params:
    """The configuration's own values of the hyperparameters, as far as they are in the space."""
    values = configs.to_mapping(config)
    found: Params = {}
    for name, one in {**space.shared, **space.own}.items():
        key = configs.HYPER_FIELDS[name][0] if name in configs.HYPER_FIELDS else name
        section, leaf = key.split(".")
        value = values[section][leaf]
        if value in one.values if isinstance(one, Choice) else one.low <= value <= one.high:
            found[name] = value
    return found


def population(
    config: Config, space: Space, params: Sequence[Params], seeds: Sequence[int]
) -> Config:
    """The configuration of a population, with one member for each trial.

    Args:
      config: the configuration that the search starts from.
      space: the search space.
      params: hyperparameters of each trial; the shared ones are equal.
      seeds: of each trial.
    """
    values = copy.deepcopy(configs.to_mapping(config))
    values["population"] = len(params)
    for key in space.shared:
        _put(values, key, params[0][key])
    values["members"] = {name: [p[name] for p in params] for name in space.own}
    values["members"]["seed"] = list(seeds)
    return configs.from_mapping(values)
