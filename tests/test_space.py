"""Search spaces: the published ranges, every mistake named, populations built from trials."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import automatic, loading, schema
from stndt_jax.errors import UserError
from stndt_jax.search import space
from stndt_jax.types import Dims

BASE = schema.from_mapping(tiny.get_config().to_dict())

# The published table, by data set: MC_Maze, MC_RTT, Area2_Bump, DMFC_RSG.
PUBLISHED: dict[str, list[tuple[float, float] | None]] = {
    "dropout": [(0, 0.4), (0, 0.4), (0, 0.6), (0.3, 0.7)],
    "dropout_rates": [(0, 0.4), (0, 0.6), (0, 0.6), (0.3, 0.7)],
    "dropout_embedding": [(0, 0.6), (0, 0.5), (0, 0.6), (0.3, 0.7)],
    "context_forward": [(1, 100), (1, 100), (4, 100), (40, 240)],
    "context_backward": [(1, 100), (1, 100), (4, 100), (40, 240)],
    "learning_rate": [(1e-5, 1e-2), (1e-4, 1e-1), (1e-5, 1e-2), (1e-5, 5e-3)],
    "warmup_epochs": [(0, 7000), (0, 7000), (0, 7000), (0, 2000)],
    "mask_ratio": [(0.1, 0.4), (0.1, 0.4), (0.1, 0.6), (0.1, 0.4)],
    "mask_token_ratio": [(0.5, 1)] * 4,
    "mask_random_ratio": [(0.3, 1), (0.6, 1), (0.9, 1), (0.9, 1)],
    "mask_max_span": [(1, 7), (1, 7), None, (1, 7)],
    "contrast_ratio": [(0.05, 0.2)] * 4,
    "contrast_token_ratio": [(0.5, 1)] * 4,
    "contrast_random_ratio": [(0.3, 1)] * 4,
    "contrast_weight": [(0.01, 1)] * 4,
    "weight_decay": [(1e-8, 1e-3)] * 4,
}


NAMES = ["mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"]


@pytest.mark.parametrize(("column", "name"), list(enumerate(NAMES)))
def test_published_ranges(column: int, name: str) -> None:
    found = loading.search_space([f"--config={name}:paper"])
    wanted = {key: row[column] for key, row in PUBLISHED.items() if row[column] is not None}
    assert {key: entry[1:] for key, entry in found.items()} == wanted
    logarithmic = {key for key, entry in found.items() if entry[0] == "log"}
    assert logarithmic == {"learning_rate", "weight_decay", "mask_token_ratio"}


@pytest.mark.parametrize("name", loading.shipped())
def test_every_shipped_space_is_one(name: str) -> None:
    file = importlib.import_module(f"stndt_jax.configs.{name}")
    values, _ = automatic.filled_for(
        file.get_config().to_dict(), automatic.Sizes(100, 60, 32, 10.0)
    )
    loaded = schema.from_mapping(values)
    checked = space.check(file.get_search_space(), loaded)
    assert checked.own


MISTAKES = {
    "no dictionary": ([], "must return a dictionary"),
    "unknown name": ({"learnin_rate": ("log", 1e-4, 1e-2)}, "did you mean learning_rate"),
    "unknown key": ({"model.layer": ("choice", 1, 2)}, "did you mean model.layers"),
    "unknown kind": ({"dropout": ("normal", 0.1, 0.2)}, "has kind 'normal'"),
    "ends": ({"dropout": ("uniform", 0.5, 0.1)}, "lowest and highest"),
    "logarithm of 0": ({"weight_decay": ("log", 0.0, 1e-3)}, "give a number above 0"),
    "whole": ({"context_forward": ("int", 1.5, 3)}, "whole numbers"),
    "out of range": ({"dropout": ("uniform", 0.0, 1.0)}, "config.members.dropout is 1.0"),
    "no choice": ({"model.layers": ("int", 1, 4)}, "all trials of a population share it"),
    "by its key": ({"model.dropout": ("choice", 0.1, 0.2)}, "did you mean"),
    "fixed": ({"seed": ("choice", 1, 2)}, "seed cannot be searched"),
    "path": ({"data.path": ("choice", "a", "b")}, "data.path cannot be searched"),
    "no values": ({"dropout": "log"}, "give a kind and its values"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str) -> None:
    given, sentence = MISTAKES[mistake]
    with pytest.raises(UserError, match=sentence):
        space.check(given, BASE)


def _checked(**given: Any) -> space.Space:
    return space.check({name.replace("__", "."): entry for name, entry in given.items()}, BASE)


def test_heads_divide_what_is_there() -> None:
    wide = _checked(model__heads=("choice", 1, 2, 3, 4))
    assert space.fit(wide, BASE, Dims(6, 6, 4, 2)).shared["model.heads"].values == (1, 2, 3)
    assert space.fit(wide, BASE, Dims(6, 2, 4, 4)).shared["model.heads"].values == (1, 2, 4)
    factors = _checked(model__heads=("choice", 2, 3), model__width=("choice", 0, 5, 6, 12))
    # 7 neurons and 5 factors cannot be divided by 2 or 3, all that is left can.
    found = space.fit(factors, BASE, Dims(6, 6, 4, 3)).shared
    assert found["model.heads"].values == (2, 3) and found["model.width"].values == (6, 12)
    both = _checked(model__heads=("choice", 2, 3), model__width=("choice", 9, 6))
    assert space.fit(both, BASE, Dims(6, 6, 4, 3)).shared["model.heads"].values == (3,)
    with pytest.raises(UserError, match="divides 5 factors and 9 factors and 12 bins"):
        space.fit(_checked(model__width=("choice", 5, 9)), BASE, Dims(6, 6, 4, 3))
    with pytest.raises(UserError, match="none of the heads"):
        space.fit(_checked(model__heads=("choice", 2, 4)), BASE, Dims(5, 2, 4, 2))


def test_what_the_user_sets_is_not_searched() -> None:
    both = _checked(learning_rate=("log", 1e-3, 1e-2), model__layers=("choice", 1, 2))
    assert list(space.without(both, ["optimizer.learning_rate"]).own) == []
    left = space.without(both, ["model.layers", "train.epochs"])
    assert list(left.own) == ["learning_rate"]
    assert list(left.shared) == []
    with pytest.raises(UserError, match="no hyperparameter is left"):
        space.fit(space.Space({}, {}), BASE, Dims(6, 2, 4, 2))


def test_a_population_has_every_trials_values() -> None:
    both = _checked(dropout=("uniform", 0.0, 0.5), model__layers=("choice", 1, 2, 3))
    params = [{"dropout": 0.1, "model.layers": 3}, {"dropout": 0.4, "model.layers": 3}]
    full = space.population(BASE, both, params, [7, 9])
    assert full.population == 2
    assert full.model.layers == 3
    assert full.members == {"dropout": (0.1, 0.4), "seed": (7, 9)}
    assert full.optimizer == BASE.optimizer


@pytest.mark.parametrize(
    "name",
    ["factors", "auto", "reach", "lorenz", "rnn", "mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg"]
    + [f"mc_maze_{size}" for size in ("large", "medium", "small")],
)
def test_a_search_begins_around_the_setting_of_its_configuration(name: str) -> None:
    module = importlib.import_module(f"stndt_jax.configs.{name}")
    config = module.get_config() if name != "auto" else module.sized(trials=99, bins=9, neurons=9)
    for key, (kind, *bounds) in module.get_search_space().items():
        dotted = schema.HYPER_FIELDS[key][0] if key in schema.HYPER_FIELDS else key
        section, leaf = dotted.split(".")
        value = config[section][leaf]
        inside = value in bounds if kind == "choice" else bounds[0] <= value <= bounds[1]
        assert inside, f"{key} is {value}, searched in {bounds}"
