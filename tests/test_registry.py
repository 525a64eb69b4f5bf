"""A fork's own classes: registered, built, trained, refused; the model as plain flax."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax import models
from stndt_jax.config import schema
from stndt_jax.errors import UserError
from stndt_jax.models import attention, registry
from stndt_jax.models.layers import ForwardHyper
from stndt_jax.models.stndt import STNDT, layers_traced_once
from stndt_jax.training import step
from stndt_jax.types import Dims

DIMS = Dims(bins_observed=5, bins_forward=1, heldin=4, heldout=2)
CONFIG = schema.as_config(tiny.get_config())


class MeanOfTheWindow(nn.Module):
    """Attention without queries and keys: every bin takes the mean of its window."""

    config: schema.ModelConfig
    dims: Dims

    @nn.compact
    def __call__(self, x_BTN: Any, mask_bTT: Any, hyper: ForwardHyper) -> Any:
        weights = mask_bTT / jnp.sum(mask_bTT, axis=-1, keepdims=True)
        weights = jnp.broadcast_to(weights, (x_BTN.shape[0], *weights.shape[1:]))
        gain = self.param("gain", nn.initializers.ones, ())
        return gain * jnp.matmul(weights, x_BTN), weights


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """The table of temporal attention, as it was before the test when it is over."""
    copy = dict(registry.TABLE["temporal_attention"])
    monkeypatch.setitem(registry.TABLE, "temporal_attention", copy)
    return copy


def named(name: str) -> schema.Config:
    model = dataclasses.replace(CONFIG.model, temporal_attention=name)
    return dataclasses.replace(CONFIG, model=model)


def test_a_registered_class_is_built_and_trained(table: dict[str, type]) -> None:
    models.register("temporal_attention", "mean")(MeanOfTheWindow)
    arch = step.arch(named("mean"), DIMS, 1)
    hyper = jax.tree.map(lambda leaf: leaf[0], schema.hyper(named("mean")))
    state = jax.jit(functools.partial(step.init, arch))(hyper)
    assert set(state.params["layers_0"]["temporal"]) == {"gain"}
    counts = np.random.default_rng(0).poisson(1.0, (3, DIMS.bins, DIMS.neurons)).astype(np.uint8)
    batch = step.Batch(jnp.asarray(counts), jnp.ones(counts.shape, bool))
    # The first step of the warm-up has a learning rate of zero.
    state = state._replace(step=jnp.int32(1))
    trained, _ = jax.jit(functools.partial(step.train_step, arch))(state, hyper, batch)
    assert float(trained.params["layers_0"]["temporal"]["gain"]) != 1.0
    # Its weights are the maps that interpretation reads: rows within the window, equal, sum 1.
    x = jnp.asarray(counts, jnp.float32)
    window = ForwardHyper(1, 1, 0.0, 0.0, 0.0)
    _, out = arch.network.apply({"params": state.params}, x, window)
    np.testing.assert_allclose(out["temporal_attention"][0, 0, 0], [0.5, 0.5, 0, 0, 0, 0])


def test_a_class_that_is_replaced_is_not_used_again(table: dict[str, type]) -> None:
    """As when a cell of a notebook is changed and run again."""

    def register(scale: float) -> None:
        @models.register("temporal_attention", "mine")
        class Mine(MeanOfTheWindow):
            @nn.compact
            def __call__(self, x_BTN: Any, mask_bTT: Any, hyper: Any) -> Any:
                inner = MeanOfTheWindow(self.config, self.dims)
                y_BTN, weights = inner(x_BTN, mask_bTT, hyper)
                return scale * y_BTN, weights

    register(1.0)
    arch = step.arch(named("mine"), DIMS, 1)
    hyper = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), schema.hyper(named("mine")))
    params = step.init(arch, hyper).params
    x = jnp.asarray(np.random.default_rng(0).poisson(1.0, (2, DIMS.bins, DIMS.neurons)), jnp.uint8)
    first = step.log_rates(arch, params, hyper, x)
    register(0.0)
    assert np.abs(step.log_rates(arch, params, hyper, x) - first).max() > 1e-3


def test_layers_of_shipped_classes_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def counted(q: Any, k: Any, mask: Any = None) -> Any:
        traced.append(q.shape)
        return weights(q, k, mask)

    weights = attention.attention_weights
    monkeypatch.setattr(attention, "attention_weights", counted)
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, layers=3))
    # Sizes of no other test.
    dims = dataclasses.replace(DIMS, bins_forward=DIMS.bins_forward + 8)
    network = step.arch(config, dims, 1).network
    x = jnp.zeros((1, dims.bins, dims.neurons))
    variables = network.init(jax.random.key(0), x)

    def apply(x: Any) -> Any:
        with layers_traced_once():
            return network.apply(variables, x), network.apply(variables, 2 * x)

    plain = jax.jit(lambda x: network.apply(variables, x))(x)
    traced.clear()
    found, _ = jax.jit(apply)(x)
    assert len(traced) == 2 * config.model.heads
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), found, plain)
    # Nothing is kept for another trace.
    jax.jit(lambda x: apply(x))(x)
    assert len(traced) == 4 * config.model.heads


def test_what_is_shipped(table: dict[str, type]) -> None:
    assert models.are_shipped(CONFIG.model)
    models.register("temporal_attention", "mean")(MeanOfTheWindow)
    assert not models.are_shipped(named("mean").model)
    # Under the name of a shipped one, too.
    models.register("temporal_attention", "dot_product")(MeanOfTheWindow)
    assert not models.are_shipped(CONFIG.model)


class Sized(nn.Module):
    config: schema.ModelConfig
    dims: Dims


class OneArgument(Sized):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return x


class NoAttributes(nn.Module):
    @nn.compact
    def __call__(self, x: Any, mask: Any, hyper: Any) -> Any:
        return x, mask


class NoMap(Sized):
    @nn.compact
    def __call__(self, x: Any, mask: Any, hyper: Any) -> Any:
        return x


class OtherShape(Sized):
    @nn.compact
    def __call__(self, x: Any, mask: Any, hyper: Any) -> Any:
        return x[..., :2], jnp.zeros((x.shape[0], x.shape[1], x.shape[1]))


@pytest.mark.parametrize(
    ("kind", "cls", "words"),
    [
        ("temporal_attention", OneArgument, "OneArgument, .* not callable with x_BTD, mask_bTT, h"),
        ("temporal_attention", NoAttributes, "does not have the attributes config, dims; declare"),
        ("temporal_attention", dict, "dict, registered as temporal_attention 'mine', is no flax"),
        ("spatial_attention", MeanOfTheWindow, "is not callable with s_BDT; give __call__ the arg"),
        ("network", MeanOfTheWindow, "does not have the attributes config, contrast, dims, token"),
    ],
)
def test_a_class_that_cannot_be_called_is_refused(kind: str, cls: type, words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.register(kind, "mine")(cls)
    assert "mine" not in registry.TABLE[kind]


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (NoMap, r"'mine' returns \(2, 6, 6\); it must return \(2, 6, 6\), \(2, 6, 6\), as models"),
        (OtherShape, r"returns \(2, 6, 2\), \(2, 6, 6\); it must return \(2, 6, 6\), \(2, 6, 6\)"),
    ],
)
def test_what_a_class_returns_is_checked(table: dict[str, type], cls: type, words: str) -> None:
    models.register("temporal_attention", "mine")(cls)
    network = models.build(named("mine").model, CONFIG.contrast, DIMS)
    x = jnp.zeros((2, DIMS.bins, DIMS.neurons))
    with pytest.raises(UserError, match=words):
        jax.eval_shape(network.init, jax.random.key(0), x)


class Network(nn.Module):
    config: schema.ModelConfig
    contrast: schema.ContrastConfig
    dims: Dims
    token: str = "zero"

    @nn.compact
    def __call__(self, x: Any, hyper: Any = None, recorded: Any = None, masked: Any = None) -> Any:
        return nn.Dense(DIMS.neurons)(x), {}


class Fewer(Network):
    @nn.compact
    def __call__(self, x: Any, hyper: Any = None, recorded: Any = None, masked: Any = None) -> Any:
        return nn.Dense(2)(x), {}


class NoDictionary(Network):
    @nn.compact
    def __call__(self, x: Any, hyper: Any = None, recorded: Any = None, masked: Any = None) -> Any:
        return nn.Dense(DIMS.neurons)(x)


class NoParameters(Network):
    @nn.compact
    def __call__(self, x: Any, hyper: Any = None, recorded: Any = None, masked: Any = None) -> Any:
        return x, {}


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Network, ""),
        (Fewer, r"network 'mine' returns \(1, 6, 2\); it must return \(1, 6, 6\)"),
        (NoDictionary, "must return log-rates and a dictionary"),
        (NoParameters, "has no parameters to train"),
    ],
)
def test_a_network_is_checked_before_it_is_trained(cls: type[Network], words: str) -> None:
    network = cls(config=CONFIG.model, contrast=CONFIG.contrast, dims=DIMS)
    if not words:
        models.check_network("mine", network, DIMS)
        return
    with pytest.raises(UserError, match=words):
        models.check_network("mine", network, DIMS)


def test_counts_of_another_number_of_neurons_or_bins_are_refused() -> None:
    model = STNDT.from_config(tiny.get_config(), DIMS)
    for shape in ((2, DIMS.bins, 3), (2, 4, DIMS.neurons)):
        with pytest.raises(UserError, match=r"the model takes \(trials, 6 bins, 6 neurons\)"):
            model.init(jax.random.key(0), jnp.zeros(shape))


def test_unknown_names_are_refused_with_the_registered_ones() -> None:
    with pytest.raises(UserError, match="'mena', which is not registered; registered: dot_product"):
        models.build(named("mena").model, CONFIG.contrast, DIMS)
    with pytest.raises(UserError, match="'spatial' is no kind of class; choose one of network"):
        models.register("spatial", "x")
    with pytest.raises(UserError, match=r"give a recording or its data\.dims"):
        STNDT.from_config(tiny.get_config(), 3)


def test_plugins_are_imported_when_a_name_is_missing(
    table: dict[str, type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_fork_of_attention.py").write_text(
        "from stndt_jax import models\n"
        "from stndt_jax.models.attention import TemporalAttention\n"
        "@models.register('temporal_attention', 'mine')\n"
        "class Mine(TemporalAttention):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(registry.PLUGINS, "my_fork_of_attention")
    assert models.build(named("mine").model, CONFIG.contrast, DIMS).config == named("mine").model
    monkeypatch.setenv(registry.PLUGINS, "no_such_module_anywhere")
    with pytest.raises(UserError, match="names the module no_such_module_anywhere, which cannot"):
        models.build(named("other").model, CONFIG.contrast, DIMS)
    (tmp_path / "my_broken_syntax.py").write_text("x = 1\ndef (:\n")
    (tmp_path / "my_broken_import.py").write_text("import no_such_module_either\n")
    for module, message in (
        ("my_broken_syntax", r"my_broken_syntax\.py, line 2: SyntaxError"),
        ("my_broken_import", r"my_broken_import\.py, line 1: ModuleNotFoundError"),
        ("my_fork_of_attention.py", r"leave out \.py: STNDT_PLUGINS=my_fork_of_attention$"),
    ):
        monkeypatch.setenv(registry.PLUGINS, module)
        with pytest.raises(UserError, match=message):
            models.build(named("other").model, CONFIG.contrast, DIMS)


def test_the_model_is_plain_flax() -> None:
    model = STNDT.from_config(tiny.get_config(), DIMS)
    x = jnp.ones((2, DIMS.bins, DIMS.neurons))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    z, out = jax.jit(model.apply)(variables, x)
    assert z.shape == x.shape and out["spatial_attention"].shape == (2, 2, 6, 6)
    # Without hyperparameters of its own it takes those of the configuration.
    mine = ForwardHyper.from_config(CONFIG.model)
    np.testing.assert_array_equal(z, jax.jit(model.apply)(variables, x, mine)[0])
    # What is initialised is what a run of this seed begins with.
    hyper = jax.tree.map(lambda leaf: leaf[0], schema.hyper(CONFIG))
    begun = jax.jit(functools.partial(step.init, step.arch(CONFIG, DIMS, 1)))(hyper).params
    fresh = jax.jit(model.init)(step.key(jnp.int32(hyper.seed), "init"), x[:1])["params"]
    assert str(jax.tree.structure(begun)) == str(jax.tree.structure(fresh))
    for ours, theirs in zip(jax.tree.leaves(begun), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(UserError, match="the configuration is a list; give what get_config"):
        STNDT.from_config([1], DIMS)
    odd = tiny.get_config()
    odd.model.heads = 4
    with pytest.raises(UserError, match=r"config\.model\.heads is 4, which does not divide"):
        STNDT.from_config(odd, DIMS)


def test_configurations_from_before_a_key_get_what_was_in_effect() -> None:
    old = schema.to_mapping(CONFIG)
    late = [key for key, field in schema.FIELDS.items() if field.metadata["since"]]
    assert {"model.network", "train.rng", "parallel.engine"} <= set(late)
    for key in late:
        section, name = key.split(".")
        del old[section][name]
    with pytest.raises(UserError, match="is missing"):
        schema.from_mapping(old)
    found = schema.from_mapping(schema.with_later(old))
    assert found.model.network == "stndt" and found.train.rng == "threefry"
    assert found.train.restarts == 3 and found.parallel.engine == "mesh"
