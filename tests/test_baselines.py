"""The smoothing baseline against a Python loop, scipy and the optimum's own conditions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import recordings
from nlb_tools.evaluation import bits_per_spike
from scipy.ndimage import gaussian_filter1d

from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import baselines
from stndt_jax.evaluation.submission import check as check_submission

BIN_MS = 10.0
OBSERVED, FORWARD = 30, 5
HELDIN, HELDOUT = 5, 3


def recording(period_bins: float = 20.0, trials: int = 24, seed: int = 0) -> SpikeData:
    """Neurons that follow one oscillation of random phase, with alternating signs."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> Trials:
        t = np.arange(OBSERVED + FORWARD)
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        latent = np.sin(2 * np.pi * t / period_bins + phase)
        sign = np.where(np.arange(HELDIN + HELDOUT) % 2, 1.0, -1.0)
        rate = 0.8 * np.exp(1.2 * latent[..., None] * sign)
        counts = rng.poisson(rate).astype(np.uint8)
        return Trials(
            heldin=counts[:, :OBSERVED, :HELDIN],
            heldout=counts[:, :OBSERVED, HELDIN:],
            heldin_forward=counts[:, OBSERVED:, :HELDIN],
            heldout_forward=counts[:, OBSERVED:, HELDIN:],
            behavior=None,
            conditions=None,
            rates=None,
            recorded=None,
        )

    return SpikeData(split(trials), split(10), "waves", BIN_MS, None)


def slow_smooth(counts: np.ndarray, sd: float, known: np.ndarray) -> np.ndarray:
    """The definition, an entry at a time."""
    out = np.zeros(counts.shape)
    reach = int(4 * sd + 0.5)
    for r, t, n in np.ndindex(*counts.shape):
        above = below = 0.0
        for s in range(max(0, t - reach), min(counts.shape[1], t + reach + 1)):
            weight = np.exp(-0.5 * ((s - t) / sd) ** 2) * known[r, s, n]
            above += weight * counts[r, s, n]
            below += weight
        out[r, t, n] = above / below if below else np.nan
    return out


def test_smoothing_is_a_weighted_mean_of_known_counts():
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0, (2, 25, 3)).astype(np.uint8)
    known = rng.random(counts.shape) < 0.8
    found = baselines.smooth(counts, 1.7, known)
    np.testing.assert_allclose(found, slow_smooth(counts, 1.7, known), rtol=1e-9)
    everything = baselines.smooth(counts, 1.7)
    np.testing.assert_allclose(everything, slow_smooth(counts, 1.7, known | True), rtol=1e-9)


def test_smoothing_is_scipys_filter_away_from_the_ends():
    counts = np.random.default_rng(2).poisson(1.0, (3, 60, 2))
    found = baselines.smooth(counts, 2.5)
    expected = gaussian_filter1d(counts.astype(float), 2.5, axis=1)
    np.testing.assert_allclose(found[:, 10:-10], expected[:, 10:-10], rtol=1e-9)


def test_a_bin_out_of_reach_gets_its_neurons_mean():
    counts = np.zeros((2, 30, 1), np.uint8)
    counts[1] = 3
    known = np.ones(counts.shape, bool)
    known[0] = False
    found = baselines.smooth(counts, 1.0, known)
    np.testing.assert_allclose(found[0], 3.0)


def blocks_of(data: SpikeData, rates: dict) -> tuple[np.ndarray, np.ndarray]:
    """Regression weights and biases, from nothing but the rates of training trials."""
    everything = np.ones(data.train.heldin.shape, bool)
    x = np.log(slow_smooth(data.train.heldin, 30 / BIN_MS, everything) + 0.01).reshape(-1, HELDIN)
    return x, rates["train_rates_heldout"].reshape(-1, HELDOUT)


def test_heldout_rates_are_the_penalised_poisson_optimum():
    """At the optimum the mean of (rate - count) is 0, and that times x is -alpha w."""
    data, alpha = recording(), 0.05
    rates = baselines.smoothing(data, sd_ms=30.0, alpha=alpha)
    x, rate = blocks_of(data, rates)
    design = np.column_stack([x, np.ones(len(x))])
    solution, *_ = np.linalg.lstsq(design, np.log(rate), rcond=None)
    np.testing.assert_allclose(design @ solution, np.log(rate), atol=1e-8)  # log-linear
    error = rate - data.train.heldout.reshape(-1, HELDOUT)
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.T @ error / len(x), -alpha * solution[:-1], atol=1e-5)
    # The same weights give the rates of the evaluated trials.
    known = np.ones(data.eval.heldin.shape, bool)
    new = np.log(slow_smooth(data.eval.heldin, 3.0, known) + 0.01) @ solution[:-1] + solution[-1]
    np.testing.assert_allclose(rates["eval_rates_heldout"], np.exp(new), rtol=1e-6)


def test_heldin_rates_are_smoothed_counts_and_forward_bins_hold_the_last():
    data = recording()
    rates = baselines.smoothing(data, sd_ms=30.0)
    check_submission(rates, data)
    assert len(rates) == 8
    for split, trials in (("train", data.train), ("eval", data.eval)):
        found = rates[f"{split}_rates_heldin"]
        smoothed = slow_smooth(trials.heldin, 3.0, np.ones(trials.heldin.shape, bool))
        least = np.mean(data.train.heldin, axis=(0, 1)) / 10
        np.testing.assert_allclose(found, np.maximum(smoothed, least), rtol=1e-9)
        for block in ("heldin", "heldout"):
            forward = rates[f"{split}_rates_{block}_forward"]
            assert forward.shape[1] == FORWARD
            for t in range(FORWARD):
                np.testing.assert_array_equal(forward[:, t], rates[f"{split}_rates_{block}"][:, -1])


def test_the_baseline_predicts_held_out_neurons():
    data = recording()
    rates = baselines.smoothing(data)
    assert bits_per_spike(rates["eval_rates_heldout"].copy(), data.eval.heldout.astype(float)) > 0.2


def test_without_forward_bins_there_are_no_forward_rates():
    data = recording()
    bare = [
        replace(trials, heldin_forward=None, heldout_forward=None)
        for trials in (data.train, data.eval)
    ]
    data = replace(data, train=bare[0], eval=bare[1])
    rates = baselines.smoothing(data, sd_ms=30.0)
    assert not [key for key in rates if "forward" in key]
    check_submission(rates, data)


def test_evaluated_trials_teach_nothing():
    """Held-out counts and all forward counts of evaluated trials may be unknown."""
    data = recording()
    blind = replace(data.eval, heldout=None, heldin_forward=None, heldout_forward=None)
    seen, unseen = baselines.smoothing(data), baselines.smoothing(replace(data, eval=blind))
    for key, array in seen.items():
        np.testing.assert_array_equal(unseen[key], array)
    other = replace(data, eval=recording(period_bins=5.0, seed=7).eval)
    assert baselines.choose_kernel(other) == baselines.choose_kernel(data)
    changed = baselines.smoothing(other)
    np.testing.assert_array_equal(changed["train_rates_heldout"], seen["train_rates_heldout"])


def test_counts_that_are_not_valid_teach_nothing():
    data = recording()
    rng = np.random.default_rng(4)
    shape = (len(data.train), OBSERVED + FORWARD, HELDIN + HELDOUT)
    recorded = rng.random(shape) < 0.9
    # Counts that would be extrapolated, so that the largest count seen matters too.
    wild = replace(data.eval, heldin=np.full_like(data.eval.heldin, 250))
    data = replace(data, train=replace(data.train, recorded=recorded), eval=wild)
    before = baselines.smoothing(data, sd_ms=30.0, alpha=1e-4)

    def spoil(counts: np.ndarray, ok: np.ndarray) -> np.ndarray:
        return np.where(ok, counts, 50).astype(np.uint8)

    spoilt = replace(
        data.train,
        heldin=spoil(data.train.heldin, recorded[:, :OBSERVED, :HELDIN]),
        heldout=spoil(data.train.heldout, recorded[:, :OBSERVED, HELDIN:]),
    )
    after = baselines.smoothing(replace(data, train=spoilt), sd_ms=30.0, alpha=1e-4)
    for key, array in before.items():
        np.testing.assert_allclose(after[key], array, rtol=1e-6)
    complete = baselines.smoothing(recording(), sd_ms=30.0, alpha=1e-4)
    assert np.abs(complete["train_rates_heldout"] - before["train_rates_heldout"]).max() > 1e-3


def test_the_kernel_follows_the_data():
    fast, slow = recording(period_bins=4.0), recording(period_bins=60.0)
    sds = (5.0, 40.0)
    assert baselines.choose_kernel(fast, sds)[0] == 5.0
    assert baselines.choose_kernel(slow, sds)[0] == 40.0
    # Weights that a large penalty holds near 0 predict less.
    assert baselines.choose_kernel(slow, (40.0,), alphas=(0.01, 100.0)) == (40.0, 0.01)


def test_settings_left_open_are_those_chosen():
    data = recording(period_bins=60.0)
    sd_ms, alpha = baselines.choose_kernel(data, alphas=(0.01, 0.03, 0.1, 0.3))
    chosen = baselines.smoothing(data, alpha=None)
    given = baselines.smoothing(data, sd_ms=sd_ms, alpha=alpha)
    for key, array in given.items():
        np.testing.assert_array_equal(chosen[key], array)


def test_silent_neurons_get_small_positive_rates():
    data = recording()
    heldin, heldout = data.train.heldin.copy(), data.train.heldout.copy()
    heldin[..., 1] = 0
    heldout[..., 2] = 0
    data = replace(data, train=replace(data.train, heldin=heldin, heldout=heldout))
    rates = baselines.smoothing(data, sd_ms=30.0)
    check_submission(rates, data)
    np.testing.assert_allclose(rates["eval_rates_heldout"][..., 2], 0.5 / (24 * OBSERVED))
    np.testing.assert_allclose(rates["train_rates_heldin"][..., 1], 0.05 / (24 * OBSERVED))


def test_rates_stay_below_the_largest_count_seen():
    """Counts far above those of training trials must not be extrapolated without end."""
    data = recording()
    wild = replace(data.eval, heldin=np.full_like(data.eval.heldin, 250))
    rates = baselines.smoothing(replace(data, eval=wild), sd_ms=30.0, alpha=1e-4)
    largest = data.train.heldout.max(axis=(0, 1))
    assert (rates["eval_rates_heldout"] <= largest * (1 + 1e-9)).all()


def test_bad_settings_are_refused():
    data = recording(trials=1)
    with pytest.raises(UserError, match="sd_ms of the smoothing baseline is -3"):
        baselines.smoothing(data, sd_ms=-3.0)
    with pytest.raises(UserError, match="alpha of the smoothing baseline is nan"):
        baselines.smoothing(data, sd_ms=30.0, alpha=float("nan"))
    with pytest.raises(UserError, match="1 training trial and"):
        baselines.smoothing(data)


def real_cobps(folder: Path, **settings: float) -> float:
    stem = "mc_maze_large_subset_val"
    targets = hdf5.read_targets(folder / f"{stem}_target.h5")
    rates = baselines.smoothing(hdf5.read(folder / f"{stem}.h5"), **settings)
    return bits_per_spike(rates["eval_rates_heldout"], targets["eval_spikes_heldout"].astype(float))


def test_recorded_spikes_score_as_published_with_them(real_data: Path):
    assert real_cobps(real_data, sd_ms=50.0) == pytest.approx(0.143, abs=0.01)


@pytest.mark.long
def test_recorded_spikes_choose_their_kernel(real_data: Path):
    assert real_cobps(real_data) == pytest.approx(0.143, abs=0.01)


def test_psth_is_the_smoothed_mean_of_the_trials_condition():
    data = recordings.toy(trials=7)
    rates = baselines.psth(data, sd_ms=10.0)
    check_submission(rates, data)
    counts = data.train.counts(data.bins_forward, data.heldout).astype(float)
    least = counts.mean(axis=(0, 1)) / 10
    for split, trials in (("train", data.train), ("eval", data.eval)):
        for r, condition in enumerate(trials.conditions):
            mean = counts[data.train.conditions == condition].mean(axis=0)
            known = np.ones((1, *mean.shape), bool)
            expected = np.maximum(slow_smooth(mean[None], 10 / data.bin_ms, known)[0], least)
            T = data.bins_observed
            for end, time in (("", slice(T)), ("_forward", slice(T, None))):
                blocks = [rates[f"{split}_rates_{b}{end}"][r] for b in ("heldin", "heldout")]
                np.testing.assert_allclose(np.concatenate(blocks, axis=-1), expected[time])


def test_psth_of_a_trial_without_a_condition_is_the_mean_of_all():
    data = recordings.toy()
    conditions = data.eval.conditions.copy()
    conditions[1] = -1
    rates = baselines.psth(recordings.changed(data, conditions=conditions), sd_ms=10.0)
    whole = data.train.counts(data.bins_forward, data.heldout).mean(axis=0)[None]
    known = np.ones(whole.shape, bool)
    expected = slow_smooth(whole, 2.0, known)[0, : data.bins_observed, : data.heldin]
    np.testing.assert_allclose(rates["eval_rates_heldin"][1], expected)
    with pytest.raises(UserError, match="conditions of its evaluated trials"):
        baselines.psth(recordings.changed(data, conditions=None))
