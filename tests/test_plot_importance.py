"""Importance and dropped neurons by what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers.figures import texts_apart

from stndt_jax.interpret import ablation
from stndt_jax.plotting import importance

RNG = np.random.default_rng(0)
EIGHTH = importance.Scale(importance.RECEIVED, 1 / 8)


def softmax(*shape: int) -> np.ndarray:
    x = np.exp(RNG.normal(size=shape))
    return x / x.sum(axis=-1, keepdims=True)


def test_importances_are_sorted_and_drawn_against_rate():
    by_member = softmax(2, 8)
    mean, rate = by_member.mean(axis=0), RNG.random(8) * 20
    gradient = np.where(np.arange(8) < 5, RNG.random(8), np.nan)
    fig = importance.importances(
        mean,
        by_member,
        gradient,
        rate,
        heldin=5,
        scale=EIGHTH,
        correlations={"attention and rate": -0.25},
    )
    ordered, against = fig.axes[0], fig.axes[1]
    points = np.concatenate(
        [x.get_xydata() for x in ordered.lines if x.get_label() in ("held-in", "held-out")]
    )
    points = points[np.argsort(points[:, 0])]
    np.testing.assert_allclose(points[:, 1], np.sort(mean)[::-1] * 8)
    np.testing.assert_allclose(against.lines[0].get_xydata()[:, 0], rate[:5])
    np.testing.assert_allclose(against.lines[1].get_xydata()[:, 1], mean[5:] * 8)
    assert against.get_title() == "Spearman \N{MINUS SIGN}0.25"
    assert len(fig.axes) == 4
    texts_apart(fig)
    assert ordered.get_ylabel() == against.get_ylabel() == importance.RECEIVED
    ndt = importance.importances(
        None, None, gradient, rate, heldin=5, scale=EIGHTH, correlations={}
    )
    assert len(ndt.axes) == 1
    small = importance.importances(
        mean, by_member, gradient, rate, heldin=5, scale=EIGHTH, correlations={}, narrow=True
    )
    assert small.get_size_inches()[0] < 3.5
    texts_apart(small)


def test_condition_importances_show_the_most_important():
    rows = softmax(3, 8)
    fig = importance.condition_importances(rows, ["0", "2", "5"], scale=EIGHTH, most=4)
    order = np.argsort(-rows.mean(axis=0))[:4]
    np.testing.assert_allclose(fig.axes[0].images[0].get_array(), rows[:, order] * 8)
    assert [x.get_text() for x in fig.axes[0].get_yticklabels()] == ["0", "2", "5"]
    assert [x.get_text() for x in fig.axes[0].get_xticklabels()] == [str(n) for n in order]


def test_importance_by_area_is_a_mean_over_its_neurons():
    areas = ["V2", "V1", "V2", "V1", "V1"]
    measures = {"attention": RNG.random(5), "gradients": RNG.random(5)}
    for narrow in (False, True):
        fig = importance.area_importances(areas, measures, narrow=narrow)
        for ax, (name, values) in zip(fig.axes, measures.items(), strict=True):
            dots, means = (line.get_xydata() for line in ax.lines[:2])
            np.testing.assert_allclose(dots[:, 0], values / values.mean())
            np.testing.assert_array_equal(dots[:, 1].round(), [1, 0, 1, 0, 0])
            wanted = [values[[1, 3, 4]].mean(), values[[0, 2]].mean()]
            np.testing.assert_allclose(means[:, 0], wanted / values.mean())
            assert ax.get_xlabel().startswith(name)
        assert [x.get_text() for x in fig.axes[0].get_yticklabels()] == ["V1", "V2"]
        texts_apart(fig)


def test_agreements_leave_out_unknown_correlations():
    rows = {
        "trials": {"spearman": 0.5, "overlap": 0.3, "chance": 0.1},
        "members": {"spearman": None, "overlap": None, "chance": 0.1},
    }
    fig = importance.agreements(rows)
    assert [x.get_text() for x in fig.axes[0].get_yticklabels()] == ["trials"]
    assert fig.axes[0].lines[0].get_xdata() == [0.5]
    assert [line.get_xdata() for line in fig.axes[1].lines] == [[0.3], [0.1]]
    texts_apart(fig)
    texts_apart(importance.agreements(rows, narrow=True))


def test_dropping_curves_hold_scores_and_their_change():
    def orders(shift: float) -> dict[str, Any]:
        random = [[0.4, 0.3 + shift, 0.2], [0.4, 0.2, None]]
        return {
            ablation.MOST_FIRST: {"co_bps": [[0.4, 0.1, 0.0]]},
            ablation.RANDOM: {"co_bps": [random[0], [0.4, 0.2, 0.1], random[1]]},
            ablation.LEAST_FIRST: {"co_bps": [[0.4, 0.4, 0.3]]},
        }

    found = {"fractions": [0, 0.1, 0.5], "models": {"stndt": orders(0), "ndt": orders(0.1)}}
    fig = importance.dropping_curves(found)
    above, below = fig.axes
    lines = {line.get_label(): line for line in above.lines}
    np.testing.assert_allclose(lines["stndt, random"].get_ydata(), [0.4, 0.25, 0.15])
    np.testing.assert_allclose(lines["ndt, random"].get_ydata(), [0.4, 0.3, 0.15])
    assert [lines[f"{x}, random"].get_linestyle() for x in ("stndt", "ndt")] == ["-", "--"]
    changes = {line.get_label(): line for line in below.lines}
    np.testing.assert_allclose(changes["stndt, most important first"].get_ydata(), [0, -0.75, -1.0])
    assert len(above.collections) == 2
    texts_apart(fig)
    texts_apart(importance.dropping_curves(found, narrow=True))
