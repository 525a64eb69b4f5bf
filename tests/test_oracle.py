"""The oracle against the published model's numbers, and against arithmetic where none exist."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.oracle import (
    Array,
    activate,
    attention_maps,
    forward,
    load_fixture,
    losses,
    numerical_gradient,
    oracle_bits_per_spike,
    oracle_context_mask,
    oracle_contrastive,
    oracle_poisson,
    scale_norm,
    sinusoid,
    total_loss,
)
from helpers.published import make_options, random_state

FIXTURES = sorted((Path(__file__).parent / "data" / "reference").glob("*.npz"))
on_every_fixture = pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)


def relative_error(found: Array, wanted: Array) -> float:
    """Largest difference over the largest magnitude wanted."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def counts(seed: int, trials: int = 3, bins: int = 8, neurons: int = 12) -> Array:
    """Small random spike counts (B, T, N)."""
    return np.random.default_rng(seed).poisson(0.6, size=(trials, bins, neurons))


def test_all_fixtures_are_present():
    assert {path.stem for path in FIXTURES} >= {
        "learned_position",
        "linear_projector",
        "postnorm_gelu_one_head",
        "prenorm_context_window",
        "prenorm_full_context",
    }


@on_every_fixture
def test_forward_equals_published_model(path):
    fixture = load_fixture(path)
    out = forward(fixture.params, fixture.options, fixture.arrays["input"])
    wanted = fixture.arrays
    assert relative_error(out.lograte, wanted["lograte"]) < 4e-6
    assert relative_error(out.layer_outputs, wanted["layer_outputs"]) < 4e-6
    assert relative_error(out.temporal_attention, wanted["temporal_attention"]) < 4e-6
    assert out.spatial_attention is not None
    assert relative_error(out.spatial_attention, wanted["spatial_attention"]) < 4e-6
    reached = (wanted["temporal_attention"] > 0).all(axis=(0, 1))
    np.testing.assert_array_equal((out.temporal_attention > 0).all(axis=(0, 1)), reached)


@on_every_fixture
def test_losses_equal_published_model(path):
    fixture = load_fixture(path)
    arrays = fixture.arrays
    out = forward(fixture.params, fixture.options, arrays["input"])
    found = losses(
        fixture.params,
        fixture.options,
        out.lograte,
        arrays["labels"],
        arrays["view1"],
        arrays["view2"],
    )
    for name in ("poisson_nll", "contrastive", "loss"):
        assert getattr(found, name) == pytest.approx(float(arrays[name]), rel=0, abs=1e-6)


@on_every_fixture
def test_position_buffers_hold_the_formula(path):
    fixture = load_fixture(path)
    _, bins, neurons = fixture.arrays["input"].shape
    for prefix, length, width in (
        ("src_pos_encoder", bins, neurons),
        ("spatial_pos_encoder", neurons, bins),
    ):
        buffer = fixture.params[f"{prefix}.pe"]
        offset = int(fixture.options["POSITION_OFFSET"])
        if fixture.options["LEARNABLE_POSITION"]:
            np.testing.assert_array_equal(buffer, np.arange(length)[:, None] + offset)
        else:
            wanted = sinusoid(length, width, offset)[:, None, :]
            np.testing.assert_allclose(buffer, wanted, rtol=0, atol=1e-6)


@on_every_fixture
def test_slope_along_a_random_direction_in_every_kind_of_parameter(path: Path) -> None:
    fixture = load_fixture(path)
    rng = np.random.default_rng(5)
    kinds: dict[str, list[str]] = {}
    for name in fixture.grads:
        kinds.setdefault(re.sub(r"layers\.\d+", "layers", name), []).append(name)
    for names in kinds.values():
        directions = {n: rng.choice([-1.0, 1.0], size=fixture.params[n].shape) for n in names}

        def moved_loss(step, directions=directions):
            moved = {n: fixture.params[n] + step[0] * d for n, d in directions.items()}
            return total_loss(fixture.params | moved, fixture.options, fixture.arrays)

        (slope,) = numerical_gradient(moved_loss, np.zeros(1), [(0,)], epsilon=1e-6)
        wanted = sum(float((fixture.grads[n] * d).sum()) for n, d in directions.items())
        largest = max(float(np.abs(fixture.grads[n]).max()) for n in names)
        assert slope == pytest.approx(wanted, rel=0, abs=1e-4 * largest)


def test_gradient_entries_of_every_parameter_post_norm():
    fixture = load_fixture(next(p for p in FIXTURES if p.stem == "postnorm_gelu_one_head"))
    rng = np.random.default_rng(6)
    for name, value in fixture.params.items():
        if name.endswith(".pe"):
            continue
        indices = [tuple(rng.integers(size) for size in value.shape) for _ in range(2)]
        found = numerical_gradient(
            lambda moved, name=name: total_loss(
                fixture.params | {name: moved}, fixture.options, fixture.arrays
            ),
            value,
            indices,
        )
        gradient = fixture.grads.get(name)
        if gradient is None:  # spatial output projection, and here LN_S: without effect
            np.testing.assert_array_equal(found, 0.0)
        else:
            wanted = np.array([gradient[index] for index in indices])
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(gradient).max())


# --- what no fixture covers -------------------------------------------------------------


def test_first_layer_of_two_is_the_one_layer_model():
    two = make_options()
    state = random_state(np.random.default_rng(0), two, bins=8, neurons=12)
    out_two = forward(state, two, counts(1))
    out_one = forward(state, two | {"NUM_LAYERS": 1}, counts(1))
    assert out_one.layer_outputs.shape[-1] == 1
    np.testing.assert_array_equal(out_one.layer_outputs[..., 0], out_two.layer_outputs[..., 0])


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_sinusoid_by_hand(width):
    table = sinusoid(4, width, offset=1)
    np.testing.assert_array_equal(table[:-1], sinusoid(4, width)[1:])
    for row in range(4):
        for pair in range((width + 1) // 2):
            angle = (row + 1) / 10000 ** (2 * pair / width)
            assert table[row, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-12)
            if 2 * pair + 1 < width:
                assert table[row, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-12)


def test_position_offset_with_odd_widths_reaches_the_model():
    options = make_options(NUM_HEADS=1)
    state = random_state(np.random.default_rng(0), options, bins=7, neurons=5)
    x = counts(1, bins=7, neurons=5)
    from_zero, from_one = (
        forward(state, options | {"POSITION_OFFSET": offset}, x) for offset in (False, True)
    )
    assert np.isfinite(from_one.lograte).all()
    assert relative_error(from_one.lograte, from_zero.lograte) > 1e-3


def test_learned_table_holding_the_sinusoid_is_the_sinusoid():
    options = make_options()
    learned = options | {"LEARNABLE_POSITION": True}
    state = random_state(np.random.default_rng(0), learned, bins=8, neurons=12)
    state["src_pos_encoder.pos_embedding.weight"] = sinusoid(8, 12)
    state["spatial_pos_encoder.pos_embedding.weight"] = sinusoid(12, 8)
    np.testing.assert_array_equal(
        forward(state, learned, counts(1)).lograte,
        forward(state, options, counts(1)).lograte,
    )
    offset = {"POSITION_OFFSET": True}
    np.testing.assert_array_equal(  # a table without a row to skip is used whole
        forward(state, learned | offset, counts(1)).lograte,
        forward(state, options, counts(1)).lograte,
    )
    state["src_pos_encoder.pos_embedding.weight"] = sinusoid(9, 12)
    state["spatial_pos_encoder.pos_embedding.weight"] = sinusoid(13, 8)
    np.testing.assert_array_equal(
        forward(state, learned | offset, counts(1)).lograte,
        forward(state, options | offset, counts(1)).lograte,
    )


def test_ndt_is_the_model_whose_spatial_updates_are_zero():
    options = make_options()
    state = random_state(np.random.default_rng(0), options, bins=8, neurons=12)
    silenced = dict(state)
    for name in state:
        if ".ts_norm1." in name or ".ts_linear2." in name:
            silenced[name] = np.zeros_like(state[name])
    ndt = forward(state, options, counts(1), spatial=False)
    assert ndt.spatial_attention is None
    np.testing.assert_allclose(
        ndt.lograte, forward(silenced, options, counts(1)).lograte, atol=1e-12
    )


def test_four_heads_are_four_slices():
    rng = np.random.default_rng(0)
    q_XD, k_XD = rng.normal(size=(2, 5, 8))
    scores_HXY = np.einsum("xhd,yhd->hxy", q_XD.reshape(5, 4, 2), k_XD.reshape(5, 4, 2))
    weights_HXY = np.exp(scores_HXY / math.sqrt(2))
    weights_HXY /= weights_HXY.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention_maps(q_XD, k_XD, heads=4), weights_HXY, atol=1e-14)


def test_scale_norm_gives_rows_of_length_g_and_spares_tiny_ones():
    x = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(np.linalg.norm(scale_norm(x, 2.5), axis=-1), 2.5)
    np.testing.assert_allclose(scale_norm(np.array([3e-7, 4e-7]), 2.0), [0.06, 0.08])
    options = make_options(SCALE_NORM=True)
    state = random_state(np.random.default_rng(0), options, bins=8, neurons=12)
    out = forward(state, options, counts(1))
    wanted = scale_norm(out.layer_outputs[..., -1], 1.1 * math.sqrt(12))
    wanted = wanted @ state["src_decoder.0.weight"].T + state["src_decoder.0.bias"]
    np.testing.assert_allclose(out.lograte, wanted, atol=1e-12)


def test_exact_gelu_by_hand():
    # The normal distribution function at 1 is 0.8413447460685429.
    np.testing.assert_allclose(
        activate(np.array([-1.0, 0.0, 1.0]), "gelu"),
        [-0.15865525393145707, 0.0, 0.8413447460685429],
        atol=1e-15,
    )


def test_context_mask_by_hand():
    np.testing.assert_array_equal(
        oracle_context_mask(4, forward=1, backward=2).astype(int),
        [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]],
    )
    np.testing.assert_array_equal(oracle_context_mask(4, 0, 0), np.tri(4, dtype=bool))
    np.testing.assert_array_equal(oracle_context_mask(4, 0, -3), np.tri(4, dtype=bool))
    band = np.tri(4, k=3, dtype=bool) & np.tri(4, k=1, dtype=bool).T
    np.testing.assert_array_equal(oracle_context_mask(4, -1, 1), band)
    assert oracle_context_mask(4, -1, 0).all()


def contrastive_of(options: dict, state: dict) -> float:
    """Lambda times the contrastive loss of two fixed views."""
    x = counts(1)
    out = forward(state, options, x)
    return losses(state, options, out.lograte, x, counts(2), counts(3)).contrastive


@pytest.mark.parametrize("layer", [0, 1, "decoder"])
def test_contrast_layer_takes_its_features_from_the_encoder(layer):
    options = make_options(CONTRAST_LAYER=layer)
    state = random_state(np.random.default_rng(0), options, bins=8, neurons=12)
    first, second = (forward(state, options, counts(seed)) for seed in (2, 3))
    if layer == "decoder":
        features = first.lograte, second.lograte
    else:
        features = first.layer_outputs[..., layer], second.layer_outputs[..., layer]
    flat = np.concatenate([f.reshape(3, -1) for f in features])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    similarity = np.exp(flat @ flat.T / 0.07)
    np.fill_diagonal(similarity, 0.0)
    positive = similarity[np.arange(6), [3, 4, 5, 0, 1, 2]]
    wanted = -0.1 * np.log(positive / similarity.sum(axis=1)).mean()
    assert contrastive_of(options, state) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("layer", [1, "decoder", "embedder"])
def test_projectors_written_out(layer):
    line = make_options(CONTRAST_LAYER=layer, USE_CONTRAST_PROJECTOR=True, LINEAR_PROJECTOR=True)
    mlp = line | {"LINEAR_PROJECTOR": False}
    state = random_state(np.random.default_rng(0), line, bins=8, neurons=12)
    state |= random_state(np.random.default_rng(0), mlp, bins=8, neurons=12, projector=10)
    wanted_line = wanted_mlp = 0.0
    pairs = {}
    outs = [forward(state, line, counts(seed)) for seed in (2, 3)]
    if layer == "embedder":
        pairs["projector"] = [out.embedding for out in outs]
        pairs["spatial_projector"] = [out.spatial_embedding for out in outs]
    elif layer == "decoder":
        pairs["projector"] = [out.lograte for out in outs]
    else:
        pairs["projector"] = [out.layer_outputs[..., layer] for out in outs]
    for name, views in pairs.items():
        w, w0, w2 = (state[f"{name}{i}.weight"].T for i in ("", ".0", ".2"))
        b, b0, b2 = (state[f"{name}{i}.bias"] for i in ("", ".0", ".2"))
        wanted_line += 0.1 * oracle_contrastive(*(x @ w + b for x in views), 0.07)
        hidden = [np.maximum(x @ w0 + b0, 0.0) for x in views]
        wanted_mlp += 0.1 * oracle_contrastive(*(h @ w2 + b2 for h in hidden), 0.07)
    assert contrastive_of(line, state) == pytest.approx(wanted_line, rel=1e-9)
    assert contrastive_of(mlp, state) == pytest.approx(wanted_mlp, rel=1e-9)


def test_contrastive_by_hand():
    # Two orthogonal trials, views equal but for their length: similarities are 1 and 0.
    first = np.array([[[2.0], [0.0]], [[0.0], [5.0]]])
    wanted = -math.log(math.exp(1 / 0.5) / (math.exp(1 / 0.5) + 2))
    assert oracle_contrastive(first, 3.0 * first, 0.5) == pytest.approx(wanted, rel=1e-14)


def test_poisson_by_hand():
    z = np.log(np.array([[1.0, 2.0], [3.0, 4.0]]))
    labels = np.array([[2, -100], [0, 1]])
    wanted = ((1 - 0) + (3 - 0) + (4 - math.log(4))) / 3
    assert oracle_poisson(z, labels) == pytest.approx(wanted, rel=1e-14)


def test_bits_per_spike_agrees_with_nlb_tools():
    evaluation = pytest.importorskip("nlb_tools.evaluation")
    rng = np.random.default_rng(0)
    spikes = rng.poisson(0.4, size=(6, 7, 5)).astype(float)
    spikes[..., 3] = 0.0
    spikes[rng.random(spikes.shape) < 0.2] = np.nan
    spikes[..., 0] = np.where(np.arange(6)[:, None] < 3, np.nan, spikes[..., 0])
    rates = rng.gamma(2.0, 0.2, size=spikes.shape)
    wanted = evaluation.bits_per_spike(rates.copy(), spikes)
    assert oracle_bits_per_spike(rates, spikes) == pytest.approx(wanted, rel=1e-12)


def test_bits_per_spike_by_hand():
    # One neuron, counts 0 and 2, mean 1: each nat gained is ln of the rate at the two spikes.
    counts_RN = np.array([[0.0], [2.0], [np.nan]])
    rates_RN = np.array([[0.5], [1.5], [9.0]])
    assert oracle_bits_per_spike(rates_RN, counts_RN) == pytest.approx(math.log2(1.5), rel=1e-14)


def test_numerical_gradient_of_a_cubic():
    found = numerical_gradient(
        lambda a: float((a**3).sum()), np.array([[1.0, 2.0]]), [(0, 0), (0, 1)]
    )
    np.testing.assert_allclose(found, [3.0, 12.0], rtol=1e-8)
