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
    fig = rates.psths(true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[4, 1], true_label="true")
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
    fig = rates.psths(true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[0])
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
        true_RTN=true,
        smoothed_RTN=smoothed,
        bins_observed=9,
    )
    assert len(fig.axes) == 6
    first = fig.axes[0]
    assert (first.get_title(), first.get_ylabel()) == ("trial 5", "neuron 2\n(spikes/s)")
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
    fig = rates.single_trials(spikes, RATES, bin_ms=BIN_MS, trials=[0], neurons=[1])
    assert [x.get_label() for x in fig.axes[0].lines] == ["inferred rate", "spikes"]
    assert len(line(fig.axes[0], "spikes")) == 0
    assert not fig.axes[0].patches


def test_populations_show_spikes_and_relative_rates():
    spikes = RNG.poisson(1.0, RATES.shape).astype(float)
    spikes[0, :3] = np.nan
    fig = rates.populations(
        spikes, RATES, bin_ms=20.0, trials=[0, 4], true_RTN=RATES, bins_observed=10, heldin=4
    )
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
