"""Rates over time by what is drawn: condition averages, single trials, populations."""

from __future__ import annotations

import numpy as np
from helpers.figures import line, texts_apart

from stndt_jax.plotting import rates

BIN_MS = 20.0
R, T, N, C = 9, 12, 6, 3
RNG = np.random.default_rng(0)
RATES = RNG.gamma(2.0, 0.1, (R, T, N))
CONDITIONS = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
MIDDLES_MS = np.array([10.0, 30, 50, 70, 90, 110, 130, 150, 170, 190, 210, 230])
HZ = 50.0  # 1 count in 20 ms


def test_condition_means_are_means_over_a_conditions_trials():
    found = rates.condition_means(RATES, CONDITIONS, C + 1)
    np.testing.assert_allclose(found[0], (RATES[0] + RATES[3] + RATES[6]) / 3)
    np.testing.assert_allclose(found[2], (RATES[2] + RATES[5]) / 2)
    assert np.isnan(found[C]).all()


def test_psths_show_both_in_spikes_per_second():
    true = RNG.gamma(2.0, 0.1, (C, T, N))
    fig = rates.psths(
        true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[4, 1], names=["neuron 4", "neuron 1"],
        conditions=["0", "1", "2"], true_label="true",
    )  # fmt: skip
    assert len(fig.axes) == 4
    for column, n in enumerate((4, 1)):
        above, below = fig.axes[column], fig.axes[2 + column]
        assert above.get_title() == f"neuron {n}"
        for c in range(C):
            inferred = RATES[c == CONDITIONS, :, n].mean(axis=0) * HZ
            np.testing.assert_allclose(
                line(above, str(c)), np.column_stack([MIDDLES_MS, true[c, :, n] * HZ])
            )
            np.testing.assert_allclose(line(below, str(c)), np.column_stack([MIDDLES_MS, inferred]))
            assert above.lines[c].get_color() == below.lines[c].get_color()
        assert len({x.get_color() for x in above.lines}) == C
        highest = max(x.get_ydata().max() for ax in (above, below) for x in ax.lines)
        assert above.get_ylim() == below.get_ylim()
        assert above.get_ylim()[0] == 0 < highest < above.get_ylim()[1]
    assert fig.axes[0].get_ylabel() == "true\n(spikes/s)"
    assert fig.get_supxlabel() == "time (ms)"
    (legend,) = fig.legends
    assert [x.get_text() for x in legend.get_texts()] == ["0", "1", "2"]
    texts_apart(fig)


def test_psths_leave_out_conditions_without_trials():
    true = RNG.gamma(2.0, 0.1, (C + 2, T, N))
    fig = rates.psths(
        true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[0], names=["neuron 0"],
        conditions=["0", "1", "2", "3", "4"],
    )  # fmt: skip
    assert [x.get_label() for x in fig.axes[0].lines] == ["0", "1", "2"]


def test_single_trials_show_spikes_and_rates():
    spikes = np.zeros((R, T, N), np.uint8)
    spikes[5, 0, 2] = 1
    spikes[5, 3, 2] = 2
    true, smoothed = RATES * 2, RATES * 3
    fig = rates.single_trials(
        spikes,
        RATES,
        bin_ms=BIN_MS,
        trials=[5, 0, 7],
        neurons=[2, 3],
        titles=(["trial 50", "trial 0", "trial 70"], ["neuron 2", "neuron 3"]),
        true_RTN=true,
        smoothed_RTN=smoothed,
        bins_observed=9,
    )
    assert len(fig.axes) == 6
    first = fig.axes[0]
    assert (first.get_title(), first.get_ylabel()) == ("trial 50", "neuron 2\n(spikes/s)")
    # A spike at the middle of bin 0; two at the quarters of bin 3, 60 to 80 ms.
    np.testing.assert_allclose(line(first, "spikes")[:, 0], [10.0, 65.0, 75.0])
    for name, x in (("inferred rate", RATES), ("true rate", true), ("smoothed spikes", smoothed)):
        for row, n in enumerate((2, 3)):
            for column, r in enumerate((5, 0, 7)):
                np.testing.assert_allclose(
                    line(fig.axes[3 * row + column], name),
                    np.column_stack([MIDDLES_MS, x[r, :, n] * HZ]),
                )
    for row, n in enumerate((2, 3)):
        highest = smoothed[[5, 0, 7], :, n].max() * HZ
        for ax in fig.axes[3 * row : 3 * row + 3]:
            low, high = ax.get_ylim()
            assert low == 0
            assert highest < 0.9 * high  # the spikes are above all rates of the row
    (shade,) = first.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (180.0, 240.0)
    assert {x.get_text() for x in fig.legends[0].get_texts()} == {
        "spikes",
        "inferred rate",
        "true rate",
        "smoothed spikes",
    }
    texts_apart(fig)


def test_single_trials_need_spikes_and_inferred_rates_only():
    spikes = np.full((R, T, N), np.nan)
    fig = rates.single_trials(
        spikes, RATES, bin_ms=BIN_MS, trials=[0], neurons=[1], titles=(["a"], ["b"])
    )
    assert [x.get_label() for x in fig.axes[0].lines] == ["inferred rate", "spikes"]
    assert len(line(fig.axes[0], "spikes")) == 0
    assert not fig.axes[0].patches


def test_populations_show_spikes_and_relative_rates():
    spikes = RNG.poisson(1.0, RATES.shape).astype(float)
    spikes[0, :3] = np.nan
    fig = rates.populations(
        spikes, RATES, bin_ms=20.0, trials=[0, 4], titles=["a", "b"], true_RTN=RATES,
        bins_observed=10, heldin=4,
    )  # fmt: skip
    order = np.argsort(RATES.mean(axis=0).argmax(axis=0), kind="stable")
    for column, r in enumerate((0, 4)):
        points = fig.axes[column].collections[0].get_offsets()
        expected = {
            (20.0 * t + 10, float(np.flatnonzero(order == n)[0]))
            for t, n in np.argwhere(np.nan_to_num(spikes[r]) > 0)
        }
        assert {(float(x), float(y)) for x, y in points} == expected
        shown = np.asarray(fig.axes[2 + column].images[0].get_array())
        highest = RATES[[0, 4]].max(axis=(0, 1))
        np.testing.assert_allclose(shown, (RATES[r] / highest)[:, order].T)
    assert fig.axes[0].lines[0].get_xdata()[0] == 200.0
    texts_apart(fig)


def test_populations_are_ordered_by_area():
    spikes = RNG.poisson(1.0, RATES.shape).astype(float)
    areas = ["V2", "V1", "V2", "V1", "V1", "V2"]
    inferred = RATES.copy()
    inferred[0, 9:] = np.nan
    fig = rates.populations(
        spikes, inferred, bin_ms=20.0, trials=[0, 4], titles=["a", "b"], areas=areas
    )
    peaks = np.nanmean(inferred, axis=0).argmax(axis=0)
    order = sorted(range(N), key=lambda n: (areas[n], peaks[n]))
    shown = np.ma.masked_invalid(fig.axes[2].images[0].get_array())
    highest = np.nanmax(inferred[[0, 4]], axis=(0, 1))
    np.testing.assert_allclose(shown[:, :9], (inferred[0] / highest)[:9, order].T)
    # Nothing is drawn after the end of the trial.
    assert np.ma.getmaskarray(shown)[:, 9:].all()
    ax = fig.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["V1", "V2"]
    assert ax.get_yticks().tolist() == [1.0, 4.0]
    low, high = ax.get_ylim()
    assert low > high  # the first area on top
    texts_apart(fig)


def test_a_phone_has_two_panels_in_a_row():
    spikes = RNG.poisson(0.3, RATES.shape).astype(float)
    trials = [5, 0, 7]
    shown = {"bin_ms": BIN_MS, "trials": trials, "narrow": True}
    single = rates.single_trials(
        spikes, RATES, neurons=[2, 3], titles=(["a", "b", "c"], ["d", "e"]), **shown
    )
    population = rates.populations(spikes, RATES, titles=["a", "b", "c"], **shown)
    psths = rates.psths(
        RNG.gamma(2.0, 0.1, (C, T, N)), RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[0, 1, 2],
        names=["a", "b", "c"], conditions=["0", "1", "2"], narrow=True,
    )  # fmt: skip
    for fig in (single, population, psths):
        assert fig.get_size_inches()[0] < 3.5
        titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
        assert titles == ["a", "b", "c"]
        texts_apart(fig)
    # All trials of a neuron have one scale, in whichever row they are.
    assert len({ax.get_ylim() for ax in (single.axes[0], single.axes[1], single.axes[4])}) == 1


def test_condition_means_are_over_the_trials_that_have_a_bin():
    x = RATES.copy()
    x[3, 6:] = x[6, 6:] = np.nan
    found = rates.condition_means(x, CONDITIONS, C)
    np.testing.assert_allclose(found[0, 6:], RATES[0, 6:])
    np.testing.assert_allclose(found[0, :6], RATES[[0, 3, 6], :6].mean(axis=0))
    some = rates.condition_means(x, CONDITIONS, C, share=0.5)
    assert np.isnan(some[0, 6:]).all() and np.isfinite(some[0, :6]).all()
