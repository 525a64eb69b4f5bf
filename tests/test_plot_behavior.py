"""Decoded behaviour by what is drawn: its values over time, and the paths of a velocity."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.figures import line, texts_apart

from stndt_jax.data.labels import Behavior
from stndt_jax.plotting import behavior

BIN_MS = 20.0
R, T = 9, 12
RNG = np.random.default_rng(0)
CONDITIONS = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
MIDDLES_MS = np.array([10.0, 30, 50, 70, 90, 110, 130, 150, 170, 190, 210, 230])
EVERYWHERE = np.ones((R, T), bool)
HAND = Behavior(("hand x", "hand y"), "mm/s", is_velocity=True, is_named=True)
PLAIN = Behavior(("behaviour 1", "behaviour 2"), "", is_velocity=False, is_named=False)


@pytest.mark.parametrize("narrow", [False, True])
def test_velocity_shows_velocities_over_time_and_paths(narrow):
    true, decoded = RNG.normal(0, 300, (2, R, T, 2))
    true[3, 4] = np.nan
    groups = np.where(CONDITIONS < 0, 0, CONDITIONS)
    fig = behavior.decoded(
        true, decoded, groups, called=HAND, in_trial_RT=EVERYWHERE, bin_ms=BIN_MS,
        trials=[3, 8], titles=["trial 30", "trial 80"], narrow=narrow,
    )  # fmt: skip
    courses, paths = fig.axes[:4], fig.axes[4:]
    for d in range(2):
        for column, r in enumerate((3, 8)):
            ax = courses[2 * d + column]
            np.testing.assert_array_equal(
                line(ax, "true"), np.column_stack([MIDDLES_MS, true[r, :, d]])
            )
            np.testing.assert_array_equal(
                line(ax, "decoded"), np.column_stack([MIDDLES_MS, decoded[r, :, d]])
            )
    assert [ax.get_title() for ax in courses[:2]] == ["trial 30", "trial 80"]
    assert courses[0].get_ylabel() == "hand x (mm/s)"
    assert courses[2].get_ylabel() == "hand y (mm/s)"
    for ax, x, title in ((paths[0], true, "true"), (paths[1], decoded, "decoded")):
        assert ax.get_title() == f"{title} paths"
        assert len(ax.lines) == R
        for r in range(R):
            path = [np.zeros(2)]
            for t in range(T):  # mm/s for 0.02 s
                path.append(path[-1] + 0.02 * np.nan_to_num(x[r, t]))
            np.testing.assert_allclose(np.asarray(ax.lines[r].get_xydata()), path, atol=1e-9)
        same = [tuple(x.get_color()) for x in ax.lines]
        for r in range(R):
            for s in range(R):
                assert (same[r] == same[s]) == (groups[r] == groups[s])
        assert ax.get_aspect() == 1
    labels = {
        paths[-1].get_xlabel(),
        *(text.get_text() for part in fig.subfigs for text in part.texts),
    }
    assert "hand x, summed (mm)" in labels
    assert paths[0].get_ylabel() == "hand y, summed (mm)"
    texts_apart(fig)


def test_velocity_without_conditions_has_one_colour():
    called = HAND._replace(unit="cm/s")
    fig = behavior.decoded(
        *RNG.normal(size=(2, 4, T, 2)), None, called=called, in_trial_RT=EVERYWHERE[:4],
        bin_ms=BIN_MS, trials=[1], titles=["a"],
    )  # fmt: skip
    assert len({tuple(x.get_color()) for x in fig.axes[-1].lines}) == 1
    assert fig.axes[0].get_ylabel() == "hand x (cm/s)"


@pytest.mark.parametrize("dimensions", [1, 2, 6])
def test_what_is_no_velocity_has_no_paths_and_no_unit(dimensions):
    names = tuple(f"behaviour {d + 1}" for d in range(dimensions))
    fig = behavior.decoded(
        *RNG.normal(size=(2, 4, T, dimensions)), None, called=PLAIN._replace(names=names),
        in_trial_RT=EVERYWHERE[:4], bin_ms=BIN_MS, trials=[1, 2], titles=["a", "b"],
    )  # fmt: skip
    rows = min(dimensions, behavior.MOST_DIMENSIONS)
    assert len(fig.axes) == 2 * rows
    assert [ax.get_ylabel() for ax in fig.axes[::2]] == list(names[:rows])
    texts_apart(fig)


def test_nothing_is_drawn_outside_a_trial():
    """Trial 0 has bins 3 to 8, trial 1 all; behaviour is given in the padding too."""
    in_trial = np.ones((2, T), bool)
    in_trial[0, :3] = in_trial[0, 9:] = False
    true, decoded = RNG.normal(size=(2, 2, T, 2))
    fig = behavior.decoded(
        true, decoded, None, called=HAND, in_trial_RT=in_trial, bin_ms=BIN_MS,
        trials=[0, 1], titles=["a", "b"],
    )  # fmt: skip
    for ax in (fig.axes[0], fig.axes[2]):
        for label in ("true", "decoded"):
            drawn = line(ax, label)
            assert np.isfinite(drawn[:, 1]).tolist() == in_trial[0].tolist()
    for ax, x in ((fig.axes[4], true), (fig.axes[5], decoded)):
        path = ax.lines[0].get_xydata()
        known = np.isfinite(path).all(axis=1)
        assert np.flatnonzero(known).tolist() == [3, 4, 5, 6, 7, 8, 9]
        np.testing.assert_array_equal(path[3], [0, 0])
        np.testing.assert_allclose(path[9], 0.02 * x[0, 3:9].sum(axis=0))
        assert np.isfinite(ax.lines[1].get_xydata()).all()
