"""Simulated recordings: against scipy's integrators, Poisson statistics and nlb_tools."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from nlb_tools import evaluation
from scipy import stats
from scipy.integrate import solve_ivp

from stndt_jax.data import hdf5, synthetic
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError

KINDS = ["lorenz", "rnn", "reach"]
SMALL: dict[str, dict[str, Any]] = {
    "lorenz": {"conditions": 4},
    "rnn": {"conditions": 4, "units": 20},
    "reach": {"directions": 2},
}
SHAPE = {"trials": 9, "eval_trials": 5, "bins": 12, "bins_forward": 3, "heldin": 6, "heldout": 2}


@pytest.fixture(scope="module", params=KINDS)
def default(request) -> SpikeData:
    return synthetic.make(request.param, seed=3)


@pytest.fixture(scope="module")
def reach() -> SpikeData:
    return synthetic.reach(seed=3)


def small(kind: str, **options: Any) -> SpikeData:
    return synthetic.make(kind, **(SHAPE | SMALL[kind] | options))


def together(data: SpikeData) -> tuple[np.ndarray, np.ndarray]:
    """Counts and true rates of all trials."""
    parts = (data.train, data.eval)
    counts = [trials.counts(data.bins_forward, data.heldout) for trials in parts]
    return np.concatenate(counts), np.concatenate([trials.rates for trials in parts])


def co_bps(rates: Any, data: SpikeData) -> float:
    """Bits per spike of rates of held-out neurons, as the benchmark counts them."""
    assert data.eval.heldout is not None
    return evaluation.bits_per_spike(rates.astype(float), data.eval.heldout.astype(float))


# Form


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_as_asked(kind):
    data = small(kind, bin_ms=15, seed=5)
    assert (data.name, data.bin_ms) == (kind, 15)
    for trials, count in ((data.train, 9), (data.eval, 5)):
        assert trials.heldin.shape == (count, 12, 6) and trials.heldin.dtype == np.uint8
        assert trials.heldout.shape == (count, 12, 2)
        assert trials.heldin_forward.shape == (count, 3, 6)
        assert trials.heldout_forward.shape == (count, 3, 2)
        assert trials.behavior.shape == (count, 12, 2 if kind == "reach" else 3)
        assert trials.rates.shape == (count, 15, 8) and trials.rates.dtype == np.float32
        assert set(trials.conditions) == {0, 1, 2, 3} and trials.recorded is None
    assert data.psth.shape == (4, 12, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_without_forward_bins(kind):
    data = small(kind, bins_forward=0)
    assert data.bins_forward == 0 and data.train.rates.shape == (9, 12, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    first = small(kind, seed=1)
    assert first.fingerprint() == small(kind, seed=1).fingerprint()
    other = small(kind, seed=2)
    assert (first.train.rates != other.train.rates).mean() > 0.9
    assert (first.train.heldin != other.train.heldin).any()


@pytest.mark.parametrize("kind", KINDS)
def test_make_calls_the_function_of_that_name(kind):
    options = SHAPE | SMALL[kind]
    direct = getattr(synthetic, kind)(seed=4, **options)
    assert synthetic.make(kind, 4, **options).fingerprint() == direct.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_are_balanced_in_both_splits(kind):
    data = small(kind, trials=21, eval_trials=10)
    assert sorted(np.bincount(data.train.conditions)) == [5, 5, 5, 6]
    assert sorted(np.bincount(data.eval.conditions)) == [2, 2, 3, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_files_hold_all_of_it(kind, tmp_path):
    data = small(kind, trials=40, bin_ms=20)
    hdf5.write(data, tmp_path / "in.h5")
    hdf5.write_targets(data, tmp_path / "out.h5")
    again = hdf5.read(tmp_path / "in.h5", tmp_path / "out.h5")
    assert again.fingerprint() == data.fingerprint()


# Statistics


def test_counts_are_poisson_with_the_true_rates(default):
    counts, rates = together(default)
    counts, rates = counts.astype(float), rates.astype(float)
    assert rates.min() > 0
    # Sums of Poisson counts are Poisson: sums over trials and bins, and over trials and neurons.
    for axes in ((0, 1), (0, 2), (1, 2)):
        x, mean = counts.sum(axes), rates.sum(axes)
        chi2 = np.sum((x - mean) ** 2 / mean)
        assert 1e-4 < stats.chi2.sf(chi2, x.size) < 1 - 1e-4
    # One by one: the variance is the mean.
    z2 = (counts - rates) ** 2 / rates
    error = np.sqrt(np.sum(2 + 1 / rates)) / z2.size
    assert abs(z2.mean() - 1) < 4 * error
    # The share of silent entries is the mean of exp(-rate).
    silent = np.exp(-rates)
    error = np.sqrt(np.sum(silent * (1 - silent))) / silent.size
    assert abs((counts == 0).mean() - silent.mean()) < 4 * error


def test_counts_are_independent_given_the_rates(default):
    counts, rates = together(default)
    residual = ((counts - rates) / np.sqrt(rates)).astype(float)
    for other in (np.roll(residual, 1, axis=2), np.roll(residual, 1, axis=1)):
        assert abs(np.mean(residual * other)) < 4 / np.sqrt(residual.size)


@pytest.mark.parametrize("kind", ["lorenz", "reach"])
def test_the_mean_rate_is_as_asked(kind):
    data = synthetic.make(kind, rate_hz=8.0, bin_ms=10)
    _, rates = together(data)
    assert rates.mean() * 1000 / 10 == pytest.approx(8.0, rel=1e-4)
    neurons_hz = rates.mean(axis=(0, 1)) * 100
    assert neurons_hz.min() > 8 * 0.4 and neurons_hz.max() < 8 * 2 and neurons_hz.std() > 0.5


def test_rates_of_the_network_lie_between_zero_and_twice_the_resting_rate():
    _, rates = together(synthetic.rnn(rate_hz=10.0, bin_ms=20, conditions=10))
    assert 0 < rates.min() < 0.05 and 0.35 < rates.max() < 0.4
    assert rates.mean() == pytest.approx(0.2, rel=0.1)


def test_psth_is_the_mean_true_rate_in_counts_per_bin(default):
    counts, rates = together(default)
    conditions = np.concatenate([default.train.conditions, default.eval.conditions])
    for condition, psth in enumerate(default.psth):
        rows = [r for r in range(len(counts)) if conditions[r] == condition]
        mean = sum(rates[r, : default.bins_observed].astype(float) for r in rows) / len(rows)
        np.testing.assert_allclose(psth, mean, rtol=1e-5)
        spikes_N = counts[rows, : default.bins_observed].sum(axis=(0, 1), dtype=float)
        expected_N = psth.sum(axis=0) * len(rows)
        assert np.all(np.abs(spikes_N - expected_N) < 6 * np.sqrt(expected_N))


@pytest.mark.parametrize("kind", KINDS)
def test_a_default_recording_can_be_learned(kind):
    """Held-in neurons tell the rates of held-out ones, and by much more than chance."""
    data = synthetic.make(kind)
    n, bins = data.heldin, data.bins_observed
    assert co_bps(data.eval.rates[:, :bins, n:], data) > 0.25
    log_in = np.log(data.train.rates[..., :n]).reshape(-1, n).astype(float)
    log_out = np.log(data.train.rates[..., n:]).reshape(len(log_in), -1).astype(float)
    log_in, log_out = log_in - log_in.mean(axis=0), log_out - log_out.mean(axis=0)
    left = log_out - log_in @ np.linalg.lstsq(log_in, log_out)[0]
    assert np.mean(left**2) < 0.05 * np.mean(log_out**2)


# Lorenz


def lorenz_flow(_: float, state: np.ndarray) -> list[float]:
    x, y, z = state
    return [10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 * z / 3.0]


def test_lorenz_path_is_scipys():
    start = np.array([[1.0, 2.0, 20.0], [-5.0, -4.0, 30.0]])
    path = synthetic.lorenz_path(start, 250, 0.004)
    times = 0.004 * np.arange(1, 251)
    for state, found in zip(start, path, strict=True):
        exact = solve_ivp(lorenz_flow, (0, 1), state, t_eval=times, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(found, exact.y.T, atol=1e-4)


def test_halving_the_step_divides_the_error_by_sixteen():
    start = np.array([[1.0, 2.0, 20.0]])
    exact = solve_ivp(lorenz_flow, (0, 0.4), start[0], rtol=1e-12, atol=1e-12).y[:, -1]
    errors = [
        np.abs(synthetic.lorenz_path(start, steps, 0.4 / steps)[0, -1] - exact).max()
        for steps in (40, 80)
    ]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.25)


def test_lorenz_rates_are_an_exponential_of_three_latents():
    data = synthetic.lorenz(
        bins=40, bins_forward=0, bin_ms=2
    )  # bins so short that means are states
    log_rates = np.log(data.train.rates.astype(float)).reshape(-1, data.neurons)
    latents = data.train.behavior.reshape(-1, 3).astype(float)
    design = np.column_stack([latents, np.ones(len(latents))])
    left = log_rates - design @ np.linalg.lstsq(design, log_rates)[0]
    assert np.sqrt(np.mean(left**2)) < 1e-3
    assert log_rates.std(axis=0) == pytest.approx(np.full(data.neurons, 0.7), rel=0.05)


@pytest.mark.parametrize("kind", ["lorenz", "rnn"])
def test_trials_of_a_lorenz_or_network_condition_share_their_rates(kind):
    data = small(kind)
    for trials in (data.train, data.eval):
        for condition in range(4):
            rows = trials.rates[trials.conditions == condition]
            assert len(rows) and np.all(rows == rows[:1])
            np.testing.assert_allclose(rows[0, :12], data.psth[condition], rtol=1e-5)


# Network


def test_rnn_path_is_scipys():
    rng = np.random.default_rng(0)
    weights, start = rng.normal(size=(8, 8)), rng.normal(size=(2, 8))

    def flow(_: float, x: np.ndarray) -> list[float]:
        return [
            -x[i] + sum(weights[i, j] * np.tanh(x[j]) for j in range(len(x))) for i in range(len(x))
        ]

    exact = [solve_ivp(flow, (0, 2), x, rtol=1e-10, atol=1e-10).y[:, -1] for x in start]
    errors = [
        np.abs(synthetic.rnn_path(weights, start, steps, 2 / steps)[:, -1] - exact).max()
        for steps in (400, 800)
    ]
    assert errors[1] < 0.02 and errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_more_gain_makes_for_faster_changes():
    changes = []
    for gain in (1.5, 2.5):
        _, rates = together(synthetic.rnn(gain=gain, trials=10, eval_trials=1, conditions=10))
        changes.append(np.diff(rates, axis=1).std() / rates.std())
    assert changes[1] > 1.2 * changes[0]


def test_a_network_without_gain_rests():
    _, rates = together(synthetic.rnn(gain=0.5, rate_hz=10.0, bin_ms=20, conditions=10))
    assert rates.std() < 0.02 and rates.mean() == pytest.approx(0.2, rel=0.02)


# Reaches


def test_reaches_differ_within_a_condition_and_their_own_rates_predict_better(reach):
    n, bins = reach.heldin, reach.bins_observed
    own = co_bps(reach.eval.rates[:, :bins, n:], reach)
    of_condition = co_bps(reach.psth[reach.eval.conditions][..., n:], reach)
    assert own > of_condition + 0.05
    of_others = reach.eval.rates[:, :bins, n:].copy()
    for condition in range(len(reach.psth)):
        rows = np.flatnonzero(reach.eval.conditions == condition)
        of_others[rows] = of_others[np.roll(rows, 1)]
    assert co_bps(of_others, reach) < of_condition


def test_reaches_without_variability_are_their_condition():
    data = synthetic.reach(variability=0.0, trials=48, eval_trials=16)
    for trials in (data.train, data.eval):
        mean = data.psth[trials.conditions]
        np.testing.assert_allclose(trials.rates[:, : data.bins_observed], mean, rtol=1e-5)


@pytest.mark.parametrize("options", [{"curved": False}, {"directions": 1}, {"directions": 2}])
def test_a_latent_that_does_not_move_drives_nothing(options):
    data = synthetic.reach(variability=0.0, trials=20, eval_trials=4, **options)
    assert np.isfinite(data.train.rates).all()
    assert len(data.psth) == options.get("directions", 8) * (
        2 if options.get("curved", True) else 1
    )
    straight = [np.abs(x).max() for x in data.train.behavior[data.train.conditions == 0][..., 1]]
    assert max(straight) < 1e-6  # towards the right


def test_the_hand_goes_to_the_target():
    """Straight reaches end in the target's direction; curved ones get there along a bend."""
    data = synthetic.reach(variability=0.0, trials=16, eval_trials=16, bins=100, bin_ms=10)
    assert data.train.behavior is not None and data.train.conditions is not None
    for velocity, condition in zip(data.train.behavior, data.train.conditions, strict=True):
        way = np.cumsum(velocity, axis=0) * 0.01  # mm
        target = 2 * np.pi * (condition % 8) / 8
        along = way @ [np.cos(target), np.sin(target)]
        aside = way @ [-np.sin(target), np.cos(target)]
        assert along[-1] > 20 and abs(aside[-1]) < 0.1 * along[-1]
        bend = np.abs(aside).max() / along[-1]
        assert bend < 0.02 if condition < 8 else bend > 0.1


def test_velocity_can_be_decoded_from_rates(reach):
    """In mm/s, from bell-shaped profiles that begin and end at rest."""
    masks = [np.ones((len(trials), 1), bool) for trials in (reach.train, reach.eval)]
    bins = slice(reach.bins_observed)
    r2 = evaluation.velocity_decoding(
        reach.train.rates[:, bins].astype(float),
        reach.train.behavior.astype(float),
        masks[0],
        reach.eval.rates[:, bins].astype(float),
        reach.eval.behavior.astype(float),
        masks[1],
        grid_search=False,
    )
    assert r2 > 0.9
    speed_RT = np.linalg.norm(reach.train.behavior, axis=-1)
    assert 200 < np.median(speed_RT.max(axis=1)) < 1500
    assert np.median(speed_RT[:, :10].max(axis=1)) < 0.2 * np.median(speed_RT.max(axis=1))


def test_activity_before_movement_tells_the_direction(reach):
    """The preparatory state: rates before the hand moves separate the targets."""
    bins = slice(round(0.25 * reach.bins_observed), round(0.35 * reach.bins_observed))
    parts = (reach.train, reach.eval)
    x, y = (np.log(trials.rates[:, bins]).mean(axis=1) for trials in parts)
    angle, expected = (2 * np.pi * (trials.conditions % 8) / 8 for trials in parts)
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.lstsq(design, np.column_stack([np.cos(angle), np.sin(angle)]))[0]
    found = np.column_stack([y, np.ones(len(y))]) @ weights
    error = np.angle(np.exp(1j * (np.arctan2(found[:, 1], found[:, 0]) - expected)))
    assert np.sqrt(np.mean(error**2)) < 0.5  # the trial's own direction differs by 0.25


def test_movement_changes_rates_wherever_it_goes():
    """What is left when the mean over all directions has removed the direction."""
    data = synthetic.reach(variability=0.0, curved=False, trials=8, eval_trials=8)
    mean_TN = np.log(data.psth).mean(axis=0)
    rest, movement = mean_TN[:5].mean(axis=0), mean_TN[40:45].mean(axis=0)
    assert np.std(movement - rest) > 0.3


def test_noise_of_a_trial_is_slow(reach):
    """Before the target is shown rates hold little else; the noise stays for five bins."""
    x, y = (np.log(reach.train.rates[:, t]) for t in (0, 1))
    correlations = [np.corrcoef(x[:, n], y[:, n])[0, 1] for n in range(reach.neurons)]
    assert 0.7 < np.mean(correlations) < 0.95


def test_nlb_tools_scores_true_rates(reach):
    data = dataclasses.replace(reach, name="mc_maze", bin_ms=5.0)
    n, bins = data.heldin, data.bins_observed
    rates = {
        "train_rates_heldin": data.train.rates[:, :bins, :n],
        "train_rates_heldout": data.train.rates[:, :bins, n:],
        "eval_rates_heldin": data.eval.rates[:, :bins, :n],
        "eval_rates_heldout": data.eval.rates[:, :bins, n:],
        "eval_rates_heldin_forward": data.eval.rates[:, bins:, :n],
        "eval_rates_heldout_forward": data.eval.rates[:, bins:, n:],
    }
    [found] = evaluation.evaluate({"mc_maze": hdf5.targets_of(data)}, {"mc_maze": rates})
    scores = found["mc_maze_split"]
    assert scores["co-bps"] == pytest.approx(co_bps(rates["eval_rates_heldout"].copy(), data))
    assert scores["psth R2"] > 0.8 and scores["vel R2"] > 0.9 and scores["fp-bps"] > 0.05


# What cannot be simulated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials is 0; give a whole number from 1"),
        ({"eval_trials": 0}, "eval_trials is 0"),
        ({"bins": 0}, "bins is 0"),
        ({"bins_forward": -1}, "bins_forward is -1; give a whole number from 0"),
        ({"heldin": 0}, "heldin is 0"),
        ({"heldout": 0}, "heldout is 0"),
        ({"bin_ms": 0.0}, "bin_ms is 0.0; give a positive number"),
        ({"bin_ms": float("nan")}, "bin_ms is nan"),
        ({"rate_hz": -1.0}, "rate_hz is -1.0; give a positive number"),
        ({"trials": 3}, "4 conditions do not fit into 3 training trials"),
        ({"neurons": 3}, "no option neurons; there are trials, eval_trials, bins"),
    ],
)
def test_options_that_make_no_recording(kind, options, message):
    with pytest.raises(UserError) as error:
        small(kind, **options)
    assert str(error.value).startswith(f"{kind}: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lorenz", {"conditions": 0}, "lorenz: conditions is 0"),
        ("lorenz", {"modulation": 0}, "lorenz: modulation is 0"),
        ("lorenz", {"speed": -2}, "lorenz: speed is -2"),
        ("rnn", {"gain": 0}, "rnn: gain is 0"),
        ("rnn", {"units": 40}, "rnn: 48 neurons cannot be observed in units = 40"),
        ("rnn", {"tau_ms": 2}, "rnn: tau_ms is 2; give 5 ms or more"),
        ("rnn", {"bin_ms": 2.5}, "rnn: bin_ms is 2.5; give whole ms"),
        ("reach", {"directions": 0}, "reach: directions is 0"),
        ("reach", {"variability": -1}, "reach: variability is -1"),
        ("reach", {"modulation": float("inf")}, "reach: modulation is inf"),
        ("maze", {}, "no simulation is called 'maze'; choose one of lorenz, rnn, reach"),
    ],
)
def test_options_of_one_simulation(kind, options, message):
    with pytest.raises(UserError) as error:
        synthetic.make(kind, **options)
    assert message in str(error.value)
