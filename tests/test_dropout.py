"""The dropouts of a network are sampled in one operation, each with the mask it had alone."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.models import registry, stndt
from stndt_jax.models.dropout import WHOLE_BATCH, drop, samples
from stndt_jax.models.layers import FeedForward, ForwardHyper
from stndt_jax.models.stndt import STNDT
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=5, bins_forward=1, heldin=5, heldout=3)
KEYS = {"dropout": jax.random.key(7)}


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, given: list[jax.Array] | None) -> list[jax.Array]:
        some: Any = given or [None] * 2
        return [drop(self, x, 0.5, WHOLE_BATCH, sample) for sample in some]


class Outer(nn.Module):
    """Drops once itself and twice within, twice."""

    together: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        inner, found = Inner(name="inner"), []
        for _ in range(2):
            given: dict[Any, Any] = {(): [None], ("inner",): None}
            if self.together:
                given = samples(self, {(): [x.shape], ("inner",): [x.shape] * 2}, WHOLE_BATCH)
            found += [drop(self, x, 0.5, WHOLE_BATCH, given[()][0]), *inner(x, given["inner",])]
        return found


def test_a_module_that_is_called_twice() -> None:
    x = jnp.ones((3, 45))
    apart, together = (Outer(together).apply({}, x, rngs=KEYS) for together in (False, True))
    assert len({np.asarray(y).tobytes() for y in apart}) == 6
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one, other)


class Within(nn.Module):
    """The network as a part of another."""

    network: STNDT

    @nn.compact
    def __call__(self, x: jax.Array) -> Any:
        return self.network(x)[0]


def _without_samples(self: STNDT, hyper: ForwardHyper, trials: int) -> list[ForwardHyper]:
    return [hyper] * (1 + self.config.layers)


CHANGES: list[dict[str, dict[str, Any]]] = [
    {"model": {"layers": 3}},
    {"model": {"spatial": False, "heads": 1}},
    {"model": {"width": 6, "norm": "post"}, "contrast": {"enabled": True, "layer": "decoder"}},
    {"model": {"remat": True}},
]


@pytest.mark.parametrize(
    ("changes", "within"), [(CHANGES[0], True), *((changes, False) for changes in CHANGES)]
)
def test_the_network_drops_what_it_drops_place_by_place(
    changes: dict[str, Any], within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = tiny.get_config().to_dict()
    mapping["model"] |= {"dropout": 0.3, "dropout_rates": 0.3, "dropout_embedding": 0.3}
    for section, values in changes.items():
        mapping[section] |= values
    network: Any = STNDT.from_config(schema.from_mapping(mapping), DIMS)
    outer = Within(network) if within else network
    x = jnp.asarray(np.random.default_rng(0).poisson(1.0, (4, 6, 8)), jnp.float32)
    variables = outer.init(jax.random.key(0), x)

    def found(once: bool) -> Any:
        # A new function each time, so that it is traced anew.
        def apply(x: Any) -> Any:
            with stndt.layers_traced_once() if once else contextlib.nullcontext():
                return outer.apply(variables, x, rngs=KEYS)

        return jax.jit(apply)(x)

    once, together, clean = found(True), found(False), outer.apply(variables, x)
    monkeypatch.setattr(STNDT, "_with_samples", _without_samples)
    apart = found(False)
    assert np.abs(jax.tree.leaves(apart)[0] - jax.tree.leaves(clean)[0]).max() > 1e-2
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, together, apart)
    jax.tree.map(close, once, apart)


def test_layers_of_a_registered_class_drop_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has keys of its own, others in every layer, and so has everything within it."""
    copy = dict(registry.TABLE["temporal_attention"])
    monkeypatch.setitem(registry.TABLE, "temporal_attention", copy)

    @registry.register("temporal_attention", "dropping")
    class Dropping(nn.Module):
        config: schema.ModelConfig
        dims: Dims

        @nn.compact
        def __call__(self, x_BTD: Any, mask_bTT: Any, hyper: ForwardHyper) -> Any:
            B, T, _ = x_BTD.shape
            # On fewer bins than the layer's own, under the same name.
            half = FeedForward(self.config, x_BTD.shape[-1], name="feedforward")(
                x_BTD[:, ::2], hyper
            )
            x_BTD = x_BTD.at[:, ::2].set(half)
            return x_BTD, drop(self, jnp.ones((B, T, T)), 0.5, hyper.shard)

    config = schema.from_mapping(tiny.get_config().to_dict())
    model = dataclasses.replace(config.model, temporal_attention="dropping", layers=3)
    network = STNDT.from_config(dataclasses.replace(config, model=model), DIMS)
    x = jnp.ones((4, DIMS.bins, DIMS.neurons))
    variables = network.init(jax.random.key(0), x)
    with stndt.layers_traced_once():
        maps_LBTT = network.apply(variables, x, rngs=KEYS)[1]["temporal_attention"]
    assert len({np.asarray(map_BTT).tobytes() for map_BTT in maps_LBTT}) == 3
    assert 0.3 < (np.asarray(maps_LBTT) == 0).mean() < 0.7


class Asking(STNDT):
    """A network that asks for a key of its own first."""

    @nn.compact
    def __call__(self, x_BTN: Any, *given: Any) -> Any:
        return super().__call__(drop(self, x_BTN, 0.5, WHOLE_BATCH), *given)


def test_a_network_that_asks_for_keys_itself_is_left_to_flax(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = schema.from_mapping(tiny.get_config().to_dict())
    network = Asking.from_config(config, DIMS)
    x = jnp.ones((4, DIMS.bins, DIMS.neurons))
    variables = network.init(jax.random.key(0), x)
    found = network.apply(variables, x, rngs=KEYS)[0]
    monkeypatch.setattr(STNDT, "_with_samples", _without_samples)
    np.testing.assert_array_equal(found, network.apply(variables, x, rngs=KEYS)[0])
