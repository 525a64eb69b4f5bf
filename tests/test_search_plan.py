"""How many trials train together: enough populations to learn from, no more than memory holds."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.config.schema import Config
from stndt_jax.data import synthetic
from stndt_jax.search import plan
from stndt_jax.search.space import Choice, Space
from stndt_jax.training import memory

TINY = schema.from_mapping(tiny.get_config().to_dict())
SPACE = Space({}, {"model.layers": Choice((1, 3, 2)), "model.norm": Choice(("pre", "post"))})
DATA = synthetic.make(
    "reach", trials=16, eval_trials=4, bins=6, heldin=4, heldout=2, directions=2, curved=False
)


def auto(trials: int) -> int:
    return plan.auto(TINY, SPACE, DATA, trials)


def test_on_cpus_there_are_eight_populations_or_more() -> None:
    assert [auto(trials) for trials in (1, 8, 9, 24, 120)] == [1, 1, 2, 3, 8]


@pytest.mark.parametrize(
    ("devices", "room", "found"), [(1, 1000, 15), (1, 6, 6), (4, 1000, 16), (4, 8, 8)]
)
def test_on_accelerators_the_largest_model_must_fit(
    monkeypatch: pytest.MonkeyPatch, devices: int, room: int, found: int
) -> None:
    asked: list[Config] = []

    def members(given: Config, *_: object) -> int:
        asked.append(given)
        return room

    one = SimpleNamespace(platform="gpu")
    monkeypatch.setattr(jax, "devices", lambda: [one] * devices)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(memory, "members", members)
    assert auto(120) == found
    assert [given.model.layers for given in asked] == [3]
