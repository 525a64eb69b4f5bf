"""The model with a width of its own against a forward pass in numpy, float64."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Container
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stndt_jax.configs import tiny

from stndt_jax.config import schema
from stndt_jax.errors import UserError
from stndt_jax.models import attention
from stndt_jax.models.layers import ForwardHyper
from stndt_jax.models.stndt import CONSTANTS
from stndt_jax.training import batches, masking, step
from stndt_jax.types import Dims

# Seven neurons, a prime: only the factors need be divided by the heads.
DIMS = Dims(bins_observed=5, bins_forward=1, heldin=5, heldout=2)
D, SMOOTH, WINDOW = 6, 1.3, ForwardHyper(2, 3, 0.0, 0.0, 0.0)
Tree = dict[str, Any]


def config(**changes: Any) -> schema.Config:
    """Two layers of 6 factors; ``model__heads=1`` changes a key."""
    mapping = tiny.get_config().to_dict()
    mapping["model"] |= {
        **{"width": D, "input": "standardised", "rate_start": "mean", "heads": 2},
        "feedforward": 8,
        "smooth": SMOOTH,
    }
    mapping["mask"] |= {"token": "learned", "ratio": 0.4}
    for name, value in changes.items():
        section, _, key = name.partition("__")
        mapping[section][key] = value
    return schema.from_mapping(mapping)


def batch(seed: int = 0, trials: int = 4, missing: float = 0.0) -> step.Batch:
    rng = np.random.default_rng(seed)
    shape = (trials, DIMS.bins, DIMS.neurons)
    has_count = rng.random(shape) >= missing
    counts = rng.poisson(1.0, shape) * has_count
    return step.Batch(jnp.asarray(counts, jnp.uint8), jnp.asarray(has_count))


def scalars(made: schema.Config) -> schema.Hyper:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), schema.hyper(made))


@functools.cache
def started() -> step.State:
    """A model of the statistics of a batch, every parameter moved off its initial value."""
    made, rng = config(), np.random.default_rng(3)
    init = functools.partial(step.init, step.arch(made, DIMS, 1))
    state = jax.jit(init)(scalars(made), batches.statistics(batch(), DIMS))
    params = {
        name: leaf
        if name in CONSTANTS
        else jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), leaf)
        for name, leaf in state.params.items()
    }
    return state._replace(params=params)


def linear(p: Tree, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(p["kernel"], float) + np.asarray(p["bias"], float)


def layer_norm(p: Tree, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * np.asarray(p["scale"], float) + np.asarray(p["bias"], float)


def feedforward(p: Tree, x: np.ndarray) -> np.ndarray:
    return linear(p["out"], np.maximum(linear(p["in"], x), 0))


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sinusoid(length: int, width: int) -> np.ndarray:
    """One number at a time; positions start at 1."""
    found = np.zeros((length, width))
    for position in range(length):
        for column in range(width):
            pair = column - column % 2
            angle = (position + 1) * math.exp(-math.log(10000.0) * pair / width)
            found[position, column] = math.cos(angle) if column % 2 else math.sin(angle)
    return found


def smooth(u_TN: np.ndarray, share_N: np.ndarray, unrecorded: Container = ()) -> np.ndarray:
    """Mixed with the mean of the bins from 3 before to 2 after, one entry at a time."""
    mixed, entries = u_TN.copy(), range(DIMS.bins_observed)
    for n in range(DIMS.heldin):
        for t in entries:
            if (t, n) in unrecorded:
                continue
            near = [i for i in entries if t - 3 <= i <= t + 2 and (i, n) not in unrecorded]
            weights = [math.exp(-((t - i) ** 2) / (2 * SMOOTH**2)) for i in near]
            mean = sum(w * u_TN[i, n] for w, i in zip(weights, near, strict=True)) / sum(weights)
            share = 1 / (1 + math.exp(-share_N[n]))
            mixed[t, n] = (1 - share) * u_TN[t, n] + share * mean
    return mixed


def one_trial(
    params: Tree, x_TN: np.ndarray, masked_TN: np.ndarray, expected: float = 0.0
) -> tuple[np.ndarray, Tree]:
    """Log-rates (T, N) of one trial and the attention of the last layer, heads in a loop."""
    T = len(x_TN)
    token_N = np.asarray(params["mask_token"], float)
    mean, deviation = (np.asarray(params[name], float) for name in CONSTANTS)
    u_TN = (np.sqrt(x_TN) - mean) / (deviation + 0.01)
    u_TN[DIMS.bins_observed :] = 0
    u_TN[:, DIMS.heldin :] = 0
    for t in range(DIMS.bins_observed):
        for n in range(DIMS.heldin):
            u_TN[t, n] = (1 - expected) * u_TN[t, n] + expected * token_N[n]
    u_TN = smooth(np.where(masked_TN, token_N, u_TN), np.asarray(params["smooth_share"], float))
    e_TD = linear(params["embedder"], u_TN)
    x = e_TD + sinusoid(T, D)
    s_DT = linear(params["spatial_embedder"], e_TD.T) + sinusoid(D, T)
    out = {}
    for i in range(2):
        p, s_next = params[f"layers_{i}"], x.T
        qkv = np.split(linear(p["temporal"]["qkv"], layer_norm(p["norm1"], x)), 3 * 2, axis=-1)
        heads = []
        for h in range(2):
            q, k, v = qkv[h], qkv[2 + h], qkv[4 + h]
            scores = q @ k.T / math.sqrt(D / 2)
            for t in range(T):
                for other in range(T):
                    if not t - 3 <= other <= t + 2:
                        scores[t, other] = -np.inf
            heads.append(softmax(scores) @ v)
        x = x + linear(p["temporal"]["out"], np.concatenate(heads, axis=-1))
        x = x + feedforward(p["feedforward"], layer_norm(p["norm2"], x))
        tokens = layer_norm(p["norm_spatial"], s_DT if i == 0 else s_next)
        qk = np.split(linear(p["spatial"]["qk"], tokens), 2 * 2, axis=-1)
        maps = [softmax(qk[h] @ qk[2 + h].T / math.sqrt(T / 2)) for h in range(2)]
        a_DD = sum(maps) / 2
        x = x + (a_DD @ layer_norm(p["norm3"], x).T).T
        x = x + feedforward(p["feedforward_spatial"], layer_norm(p["norm4"], x))
        out["spatial"] = a_DD
    return linear(params["decoder"], layer_norm(params["final_norm"], x)), out


def test_the_forward_pass_is_that_of_numpy() -> None:
    arch, params = step.arch(config(), DIMS, 1), started().params
    x_BTN = masking.clean(batch().counts, DIMS)
    rng = np.random.default_rng(1)
    masked_BTN = (rng.random(x_BTN.shape) < 0.4) & ~np.asarray(masking.predicted(DIMS))
    z, out = arch.network.apply({"params": params}, x_BTN, WINDOW, None, jnp.asarray(masked_BTN))
    for b in range(len(x_BTN)):
        wanted, maps = one_trial(params, np.asarray(x_BTN[b], float), masked_BTN[b])
        np.testing.assert_allclose(z[b], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out["spatial_attention"][-1, b], maps["spatial"], atol=1e-5)
    assert out["spatial_attention"].shape == (2, 4, D, D)


@pytest.mark.parametrize("ratio", [0.4, 0.15])
def test_the_expected_input_enters_rates(ratio: float) -> None:
    arch, params = step.arch(config(mask__inference="expected"), DIMS, 1), started().params
    hyper = scalars(config())._replace(
        mask_ratio=jnp.float32(ratio),
        context_forward=jnp.int32(WINDOW.context_forward),
        context_backward=jnp.int32(WINDOW.context_backward),
    )
    found = step.log_rates(arch, params, hyper, batch().counts)
    x_BTN = np.asarray(masking.clean(batch().counts, DIMS), float)
    nothing = np.zeros(x_BTN.shape[1:], bool)
    for b in range(len(x_BTN)):
        wanted, _ = one_trial(params, x_BTN[b], nothing, expected=ratio)
        np.testing.assert_allclose(found[b], wanted, rtol=1e-4, atol=1e-5)


def test_the_expected_input_is_the_mean_over_masks_of_training() -> None:
    made = config(mask__inference="expected")
    arch, params, hyper = step.arch(made, DIMS, 1), started().params, scalars(made)
    given = batch(trials=1)
    network, variables = arch.network, {"params": params}

    def masked(index: Any) -> Any:
        noise = jax.random.key(index)
        x_VBTN, masked_VBTN = step.corrupted_views(arch, hyper, given, noise, jnp.float32(0))
        return network.apply(variables, x_VBTN[0], None, masked_VBTN[0], method="inputs")

    mean = jax.jit(lambda: jax.vmap(masked)(jnp.arange(4_000)).mean(axis=0))()
    x_BTN, _ = step.clean_input(arch, given.counts)
    expected = network.apply(variables, x_BTN, None, None, made.mask.ratio, method="inputs")
    np.testing.assert_allclose(mean, expected, atol=0.06)
    plain = network.apply(variables, x_BTN, None, None, method="inputs")
    assert np.abs(np.asarray(plain - expected)).max() > 0.3


def test_smoothing_leaves_out_what_was_not_recorded() -> None:
    network, params = step.arch(config(), DIMS, 1).network, started().params
    u_BTN = np.random.default_rng(5).normal(size=(1, DIMS.bins, DIMS.neurons))
    u_BTN[:, DIMS.bins_observed :] = u_BTN[..., DIMS.heldin :] = 0
    recorded = np.ones(u_BTN.shape, bool)
    recorded[0, 2, 1] = recorded[0, 0, 4] = False
    recorded[0, 3] = False
    given = jnp.where(recorded, jnp.asarray(u_BTN, jnp.float32), 0)
    mask = attention.temporal_mask(DIMS, WINDOW, attention.attendable(jnp.asarray(recorded), DIMS))
    found = network.apply({"params": params}, given, mask, jnp.asarray(recorded), method="smoothed")
    missing = {(t, n) for t, n in np.argwhere(~recorded[0])}
    wanted = smooth(np.asarray(given[0], float), np.asarray(params["smooth_share"]), missing)
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_without_bins_ahead_smoothing_is_causal() -> None:
    network, params = step.arch(config(), DIMS, 1).network, started().params
    mask = attention.temporal_mask(DIMS, WINDOW._replace(context_forward=0), None)
    x_BTN = masking.clean(batch().counts, DIMS).astype(jnp.float32)
    later = x_BTN.at[:, 3, : DIMS.heldin].add(4)
    before, after = (
        np.asarray(network.apply({"params": params}, counts, mask, method="smoothed"))
        for counts in (x_BTN, later)
    )
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.all(before[:, 3:5, : DIMS.heldin] != after[:, 3:5, : DIMS.heldin])


def test_the_expected_input_needs_a_learned_token() -> None:
    with pytest.raises(UserError, match=r"set config\.mask\.inference='unmasked' too"):
        config(mask__inference="expected", mask__token="zero")


def test_statistics_are_those_of_the_recorded_training_trials() -> None:
    given = batch(missing=0.3)
    found = batches.statistics(given, DIMS)
    counts, has_count = np.asarray(given.counts, float), np.asarray(given.has_count)
    for n in range(DIMS.neurons):
        roots = np.sqrt(counts[:, : DIMS.bins_observed, n][has_count[:, : DIMS.bins_observed, n]])
        held_in = n < DIMS.heldin
        assert found.mean[n] == pytest.approx(roots.mean() if held_in else 0.0, rel=1e-5)
        assert found.deviation[n] == pytest.approx(roots.std() if held_in else 1.0, rel=1e-5)
        rate = counts[..., n].sum() / has_count[..., n].sum()
        assert found.log_rate[n] == pytest.approx(math.log(rate), rel=1e-4, abs=1e-6)
    silent = given._replace(counts=given.counts.at[..., 0].set(0))
    quiet = batches.statistics(silent, DIMS)
    assert quiet.deviation[0] == 1.0 and math.isfinite(quiet.log_rate[0])


def test_a_new_model_begins_at_the_mean_rates() -> None:
    made, given = config(), batch()
    arch = step.arch(made, DIMS, 1)
    init = jax.jit(functools.partial(step.init, arch))
    state = init(scalars(made), batches.statistics(given, DIMS))
    rates = step.rates(arch, state.params, scalars(made), given.counts)
    mean = np.asarray(given.counts, float).mean(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(rates).mean(axis=(0, 1)), mean, rtol=0.05)


def test_a_step_moves_everything_but_what_the_data_gave() -> None:
    made, given = config(optimizer__weight_decay=0.5), batch()
    arch = step.arch(made, DIMS, 1)
    state = started()._replace(step=jnp.int32(1))
    train = jax.jit(functools.partial(step.train_step, arch))
    trained, metrics = train(state, scalars(made), given)
    assert np.isfinite(float(metrics["loss"])) and bool(trained.healthy)
    for name in CONSTANTS:
        np.testing.assert_array_equal(trained.params[name], state.params[name])
    assert np.all(np.asarray(trained.params["mask_token"])[: DIMS.heldin] != 0)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), trained.params, state.params)
    still = {name for name, leaf in moved.items() if not any(jax.tree.leaves(leaf))}
    assert still == set(CONSTANTS)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"model__norm": "post", "model__final_norm": "scale", "contrast__layer": "1"},
            marks=LONG,
        ),
        pytest.param({"model__spatial": False, "contrast__enabled": False}, marks=LONG),
        pytest.param({"model__position": "learned", "contrast__projector": "mlp"}, marks=LONG),
        pytest.param({"contrast__layer": "decoder", "model__remat": True}, marks=LONG),
        pytest.param({"model__dtype": "bfloat16", "mask__mode": "timestep"}, marks=LONG),
        pytest.param({"model__width": 0, "model__heads": 1, "mask__token": "zero"}, marks=LONG),
        pytest.param({"model__input": "counts", "mask__mode": "neuron"}, marks=LONG),
    ],
    ids=lambda changes: ",".join(changes),
)
def test_every_option_trains_and_scores_with_gaps(changes: Tree) -> None:
    made, given = config(**changes), batch(missing=0.2)
    dims = dataclasses.replace(DIMS, gaps=True)
    arch, hyper = step.arch(made, dims, 1), scalars(made)
    state = jax.jit(functools.partial(step.init, arch))(hyper, batches.statistics(given, dims))
    train = jax.jit(functools.partial(step.train_step, arch))
    for _ in range(2):
        state, metrics = train(state, hyper, given)
    assert bool(state.healthy) and np.isfinite(float(metrics["masked_loss"]))
    scores = step.evaluate_step(arch, state.params, hyper, given, jnp.int32(0)).values()
    assert all(np.isfinite(float(value)) for value in scores.values())


def test_what_was_not_recorded_is_as_if_it_were_not_there() -> None:
    dims = dataclasses.replace(DIMS, gaps=True)
    arch, hyper = step.arch(config(), dims, 1), scalars(config())
    given = batch()
    has_count = np.ones(given.counts.shape, bool)
    has_count[:, 2, 1] = False
    odd = np.asarray(given.counts).copy()
    odd[:, 2, 1] = 9
    both = [
        step.rates(arch, started().params, hyper, jnp.asarray(counts), jnp.asarray(has_count))
        for counts in (np.asarray(given.counts) * has_count, odd)
    ]
    np.testing.assert_array_equal(both[0], both[1])
    # A count that was not recorded is no count of zero: its input is the neuron's mean.
    zero = step.rates(
        arch,
        started().params,
        hyper,
        jnp.asarray(np.asarray(given.counts) * has_count),
        jnp.ones(has_count.shape, bool),
    )
    assert not np.allclose(zero, both[0], rtol=1e-4)
