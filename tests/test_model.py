"""The network against the float64 oracle, the published numbers, and its definition."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracle import contrastive_features, forward, oracle_context_mask, sinusoid
from helpers.published import make_options, random_state
from reference_parity import FORWARD_LIMIT, GRADIENT_LIMIT, compare
from scipy import stats
from stndt_jax.configs import default

from stndt_jax.config import schema
from stndt_jax.interop import torch_params
from stndt_jax.models import attention, dropout, layers
from stndt_jax.models.layers import ForwardHyper
from stndt_jax.models.stndt import STNDT
from stndt_jax.types import Dims

START = schema.from_mapping(default.get_config().to_dict())
FIXTURES = sorted((Path(__file__).parent / "data" / "reference").glob("*.npz"))
STILL = (0.0, 0.0, 0.0)


def relative(found: Any, wanted: Any) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(wanted).max())


def counts(trials: int, bins: int, neurons: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.7, (trials, bins, neurons)).astype(np.float32)


def sections(
    published: dict, spatial: bool, **changes: Any
) -> tuple[schema.ModelConfig, schema.ContrastConfig]:
    start = dataclasses.replace(START.model, spatial=spatial, **changes)
    return torch_params.options(published, start, START.contrast)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_published_numbers(path):
    errors = compare(str(path))
    assert errors.pop("file") == path.name
    assert errors.pop("gradient") < GRADIENT_LIMIT
    assert len(errors) == 7
    assert all(error < FORWARD_LIMIT for error in errors.values()), errors


# name: (bins, neurons, spatial, published options)
COMBINATIONS: dict[str, tuple[int, int, bool, dict[str, Any]]] = {
    "scale norm, offset, odd widths": (
        7,
        5,
        True,
        {
            "SCALE_NORM": True,
            "POSITION_OFFSET": True,
            "NUM_HEADS": 1,
            "USE_CONTRAST_PROJECTOR": True,
        },
    ),
    "four heads, causal, gelu": (
        8,
        4,
        True,
        {
            "NUM_HEADS": 4,
            "CONTEXT_FORWARD": 0,
            "CONTEXT_BACKWARD": 0,
            "ACTIVATION": "gelu",
            "CONTRAST_LAYER": "1",
        },
    ),
    "ndt, unlimited ahead": (
        7,
        6,
        False,
        {
            "CONTEXT_FORWARD": -1,
            "CONTEXT_BACKWARD": 2,
            "POSITION_OFFSET": True,
            "USE_CONTRAST_PROJECTOR": True,
            "LINEAR_PROJECTOR": True,
        },
    ),
    "post-norm, scale norm, learned": (
        6,
        4,
        True,
        {
            "PRE_NORM": False,
            "SCALE_NORM": True,
            "LEARNABLE_POSITION": True,
            "CONTEXT_BACKWARD": -4,
            "CONTRAST_LAYER": "0",
            "USE_CONTRAST_PROJECTOR": True,
            "LINEAR_PROJECTOR": True,
        },
    ),
    "decoder through an mlp": (
        6,
        4,
        True,
        {
            "FULL_CONTEXT": True,
            "NUM_LAYERS": 1,
            "CONTRAST_LAYER": "decoder",
            "USE_CONTRAST_PROJECTOR": True,
        },
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_equals_the_oracle(name):
    bins, neurons, spatial, changes = COMBINATIONS[name]
    published = make_options(**changes)
    dims = Dims(bins - 2, 2, neurons - 1, 1)
    state = random_state(np.random.default_rng(1), published, bins, neurons)
    architecture, contrast = sections(published, spatial)
    params = torch_params.parameters(state, architecture, contrast, dims)
    network = STNDT(architecture, contrast, dims)
    scalars = dataclasses.replace(START, model=architecture)
    window = schema.hyper(scalars)
    forward_hyper = ForwardHyper(
        int(window.context_forward[0]), int(window.context_backward[0]), *STILL
    )

    def run(params, x):
        z, out = network.apply({"params": params}, x, forward_hyper)
        return z, out, network.apply({"params": params}, x, forward_hyper, method="features")

    x = counts(3, bins, neurons)
    z, out, features = jax.jit(run)(params, x)
    wanted = forward(state, published, x, spatial)
    assert relative(z, wanted.lograte) < 1e-5
    assert relative(np.moveaxis(out["layers"], 0, -1), wanted.layer_outputs) < 1e-5
    assert relative(out["temporal_attention"], wanted.temporal_attention) < 1e-5
    assert ("spatial_attention" in out) == spatial
    if spatial:
        assert relative(out["spatial_attention"], wanted.spatial_attention) < 1e-5
    theirs = contrastive_features(state, published, x, spatial)
    assert len(features) == len(theirs) == (2 if spatial and contrast.layer == "embedder" else 1)
    for ours, (_, feature) in zip(features, theirs, strict=True):
        assert relative(ours, feature.reshape(3, -1)) < 1e-5


def test_context_mask_equals_the_loop():
    mask = jax.jit(attention.context_mask, static_argnums=0)
    for ahead in (-2, -1, 0, 1, 3, 9):
        for back in (-1, 0, 1, 2, 9):
            found = mask(6, jnp.int32(ahead), jnp.int32(back))
            np.testing.assert_array_equal(found, oracle_context_mask(6, ahead, back))


def test_sinusoid_equals_the_loop():
    for length, width, offset in [(7, 5, True), (7, 5, False), (4, 6, True), (3, 1, False)]:
        found = layers.sinusoid(length, width, offset)
        np.testing.assert_allclose(found, sinusoid(length, width, int(offset)), atol=1e-6)


def test_scale_norm_spares_rows_that_are_nearly_zero():
    x = jnp.asarray([[3e-7, 4e-7], [3.0, 4.0]], jnp.float32)
    found = layers.ScaleNorm(2).apply({"params": {"scale": jnp.float32(2.0)}}, x)
    np.testing.assert_allclose(found, [[0.06, 0.08], [1.2, 1.6]], rtol=1e-5)


# --- dropout ----------------------------------------------------------------------------

drop = jax.jit(dropout.dropout)
ONES = np.ones((301, 217), np.float32)  # no multiple of four: the last word is cut


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_dropout_rounds_its_rate_and_keeps_the_mean(rate):
    found = np.asarray(drop(jax.random.key(1), ONES, jnp.float32(rate)))
    share = round(rate * 256) / 256
    zeros = (found == 0).sum()
    spread = math.sqrt(ONES.size * share * (1 - share))
    assert abs(zeros - ONES.size * share) <= 5 * spread
    np.testing.assert_allclose(found[found != 0], 1 / (1 - share), rtol=1e-6)
    # The share is of every row and column: bytes of one word are independent entries.
    for axis in (0, 1):
        along = (found == 0).sum(axis=axis)
        if share:
            length = found.shape[axis]
            assert along.var() == pytest.approx(length * share * (1 - share), rel=0.5)


def test_dropout_of_the_same_rate_after_rounding_is_the_same():
    at = lambda rate: np.asarray(drop(jax.random.key(2), ONES, jnp.float32(rate)))  # noqa: E731
    np.testing.assert_array_equal(at(64 / 256), at(64.4 / 256))
    assert (at(64 / 256) != at(65 / 256)).any()
    np.testing.assert_array_equal(at(0.4 / 256), ONES)


def test_dropout_differs_by_key_and_not_between_calls():
    first, again, other = (
        np.asarray(drop(jax.random.key(seed), ONES, jnp.float32(0.5))) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    agree = ((first == 0) == (other == 0)).mean()
    assert abs(agree - 0.5) < 5 * 0.5 / math.sqrt(ONES.size)


def test_dropout_just_below_one_is_finite():
    assert np.isfinite(drop(jax.random.key(0), ONES, jnp.float32(0.999))).all()


# --- one small model, drawn ---------------------------------------------------------------

DIMS = Dims(14, 2, 9, 3)
FEEDFORWARD = 20


@functools.cache
def drawn(tfixup: bool) -> dict[str, np.ndarray]:
    """Initial weights by path, those of the layers stacked.

    Without T-Fixup, the final norm is ScaleNorm and positions are learned.
    """
    architecture = dataclasses.replace(
        START.model, layers=3, heads=4, feedforward=FEEDFORWARD, tfixup=tfixup
    )
    if not tfixup:
        architecture = dataclasses.replace(architecture, final_norm="scale", position="learned")
    network = STNDT(architecture, START.contrast, DIMS)
    forward_hyper = ForwardHyper(-1, -1, *STILL)
    x = jnp.zeros((1, DIMS.bins, DIMS.neurons))
    init = jax.jit(lambda key: network.init(key, x, forward_hyper)["params"])
    params = init(jax.random.key(0))
    layers = [params.pop(f"layers_{i}") for i in range(3)]
    params["layers"] = jax.tree.map(lambda *leaves: np.stack(leaves), *layers)
    flat, _ = jax.tree.flatten_with_path(params)
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in flat}


def bounds(tfixup: bool) -> dict[str, float]:
    """The largest initial magnitude of every uniform draw, 0 where weights start at 0."""
    T, N, F = DIMS.bins, DIMS.neurons, FEEDFORWARD
    fixup = 0.67 * 3**-0.25 if tfixup else 1.0
    by_hand = {
        "embedder/kernel": 0.1,
        "embedder/bias": N**-0.5,
        "spatial_embedder/kernel": T**-0.5,
        "spatial_embedder/bias": T**-0.5,
        "decoder/kernel": 0.1,
        "decoder/bias": 0.0,
        "projector/out/kernel": N**-0.5,
        "projector/out/bias": N**-0.5,
        "spatial_projector/out/kernel": T**-0.5,
        "spatial_projector/out/bias": T**-0.5,
        "layers/temporal/qkv/kernel": math.sqrt(6 / (N + 3 * N)),
        "layers/temporal/qkv/bias": 0.0,
        "layers/temporal/out/kernel": fixup * N**-0.5,
        "layers/temporal/out/bias": 0.0,
        "layers/spatial/qk/kernel": math.sqrt(6 / (T + 3 * T)),
        "layers/spatial/qk/bias": 0.0,
    }
    for name, factor in (("feedforward", fixup), ("feedforward_spatial", 1.0)):
        by_hand |= {
            f"layers/{name}/in/kernel": factor * N**-0.5,
            f"layers/{name}/in/bias": N**-0.5,
            f"layers/{name}/out/kernel": factor * F**-0.5,
            f"layers/{name}/out/bias": F**-0.5,
        }
    return by_hand


@pytest.mark.parametrize("tfixup", [True, False])
def test_initial_weights_are_uniform_within_their_bounds(tfixup):
    found = drawn(tfixup)
    wanted = bounds(tfixup)
    norms = {name for name in found if "norm" in name and name != "final_norm/scale"}
    tables = set() if tfixup else {"position", "spatial_position"}
    assert set(found) - norms - {"final_norm/scale"} == set(wanted) | tables
    for name, bound in wanted.items():
        if bound == 0.0:
            assert (found[name] == 0).all(), name
            continue
        scaled = found[name].ravel() / bound
        assert np.abs(scaled).max() <= 1 + 1e-6, name
        assert stats.kstest(scaled, stats.uniform(-1, 2).cdf).pvalue > 1e-4, name
    for name in norms:
        assert (found[name] == (1.0 if name.endswith("scale") else 0.0)).all(), name


def test_every_layer_is_drawn_on_its_own():
    found = drawn(True)
    for name in ("layers/temporal/qkv/kernel", "layers/feedforward/in/bias"):
        first, second, third = found[name]
        assert (first != second).all() and (second != third).all() and (first != third).all()


def test_scale_norm_and_learned_positions_start_as_defined():
    found = drawn(False)
    assert (drawn(True)["final_norm/scale"] == 1).all()
    assert found["final_norm/scale"] == pytest.approx(math.sqrt(DIMS.neurons), rel=1e-6)
    assert found["position"].shape == (DIMS.bins, DIMS.neurons)
    assert found["spatial_position"].shape == (DIMS.neurons, DIMS.bins)
    both = np.concatenate([found["position"].ravel(), found["spatial_position"].ravel()])
    assert stats.kstest(both, "norm").pvalue > 1e-4


@functools.cache
def small(dtype: str = "float32", spatial: bool = True) -> tuple[Any, Any, Any]:
    """A small model: (apply without dropout, apply with a key, counts)."""
    published = make_options()
    dims = Dims(6, 2, 5, 1)
    state = random_state(np.random.default_rng(2), published, dims.bins, dims.neurons)
    architecture, contrast = sections(published, spatial, dtype=dtype)
    params = torch_params.parameters(state, architecture, contrast, dims)
    network = STNDT(architecture, contrast, dims)

    def plain(x, forward_hyper):
        return network.apply({"params": params}, x, forward_hyper)

    def noisy(x, forward_hyper, key):
        return network.apply({"params": params}, x, forward_hyper, rngs={"dropout": key})[0]

    return jax.jit(plain), jax.jit(noisy), counts(3, dims.bins, dims.neurons)


def forward_hyper(forward: int, backward: int, *rates: float) -> ForwardHyper:
    return ForwardHyper(jnp.int32(forward), jnp.int32(backward), *(jnp.float32(r) for r in rates))


def test_no_key_no_dropout():
    plain, noisy, x = small()
    still = np.asarray(plain(x, forward_hyper(2, 3, *STILL))[0])
    np.testing.assert_array_equal(plain(x, forward_hyper(2, 3, 0.5, 0.5, 0.5))[0], still)
    # A key with rates of zero drops nothing either.
    np.testing.assert_allclose(
        noisy(x, forward_hyper(2, 3, *STILL), jax.random.key(0)), still, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("which", range(3))
def test_every_dropout_rate_acts_and_differs_by_key(which):
    plain, noisy, x = small()
    rates = [0.0, 0.0, 0.0]
    rates[which] = 0.5
    still = np.asarray(plain(x, forward_hyper(2, 3, *STILL))[0])
    first, again, other = (
        np.asarray(noisy(x, forward_hyper(2, 3, *rates), jax.random.key(seed)))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05
    assert np.abs(first - still).max() > 0.05


def test_dropout_before_the_decoder_drops_its_inputs():
    # The decoder is linear, so with only this dropout the mean over keys is the model without.
    plain, noisy, x = small()
    still = np.asarray(plain(x, forward_hyper(2, 3, *STILL))[0])
    many = np.stack(
        [noisy(x, forward_hyper(2, 3, 0.0, 0.25, 0.0), jax.random.key(i)) for i in range(400)]
    )
    error = many.std(axis=0) / 20
    assert (np.abs(many.mean(axis=0) - still) < 5 * error + 1e-3).all()


def test_bfloat16_is_close_to_float32():
    z, out = small()[0](small()[2], forward_hyper(2, 3, *STILL))
    rough, maps = small("bfloat16")[0](small()[2], forward_hyper(2, 3, *STILL))
    assert rough.dtype == jnp.float32
    error = relative(rough, np.asarray(z, np.float64))
    assert 1e-5 < error < 0.05
    for name in out:
        assert relative(maps[name], np.asarray(out[name], np.float64)) < 0.1, name


def test_context_bounds_what_a_bin_can_see():
    # In one pass of two layers, a window of 1 back and 0 ahead reaches two bins back.
    plain, _, x = small(spatial=False)
    base = np.asarray(plain(x, forward_hyper(0, 1, *STILL))[0])
    moved = x.copy()
    moved[:, 3] += 2.0
    change = np.abs(np.asarray(plain(moved, forward_hyper(0, 1, *STILL))[0]) - base).max(
        axis=(0, 2)
    )
    assert (change[:3] == 0).all() and (change[6:] == 0).all()
    assert (change[3:6] > 1e-4).all()
    assert (np.abs(np.asarray(plain(moved, forward_hyper(-1, 0, *STILL))[0]) - base) > 0).all()
