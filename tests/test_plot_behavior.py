"""Decoded behaviour by what is drawn: velocities over time and hand paths."""

from __future__ import annotations

import numpy as np
from helpers.figures import line, texts_apart

from stndt_jax.plotting import behavior

BIN_MS = 20.0
R, T = 9, 12
RNG = np.random.default_rng(0)
CONDITIONS = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
MIDDLES_MS = np.array([10.0, 30, 50, 70, 90, 110, 130, 150, 170, 190, 210, 230])


def test_velocity_shows_velocities_over_time_and_paths():
    true, decoded = RNG.normal(0, 300, (2, R, T, 2))
    true[3, 4] = np.nan
    groups = np.where(CONDITIONS < 0, 0, CONDITIONS)
    fig = behavior.velocity(true, decoded, groups, bin_ms=BIN_MS, trials=[3, 8])
    courses, (above, below) = fig.axes[:4], fig.axes[4:]
    for d in range(2):
        for column, r in enumerate((3, 8)):
            ax = courses[2 * d + column]
            np.testing.assert_array_equal(
                line(ax, "true"), np.column_stack([MIDDLES_MS, true[r, :, d]])
            )
            np.testing.assert_array_equal(
                line(ax, "decoded"), np.column_stack([MIDDLES_MS, decoded[r, :, d]])
            )
    assert courses[0].get_ylabel() == "x velocity (mm/s)"
    assert courses[2].get_ylabel() == "y velocity (mm/s)"
    for ax, x, title in ((above, true, "true"), (below, decoded, "decoded")):
        assert ax.get_title() == f"{title} hand paths"
        assert len(ax.lines) == R
        for r in range(R):
            path = [np.zeros(2)]
            for t in range(T):  # mm/s for 0.02 s
                path.append(path[-1] + 0.02 * np.nan_to_num(x[r, t]))
            np.testing.assert_allclose(ax.lines[r].get_xydata(), path, atol=1e-9)
        same = [tuple(x.get_color()) for x in ax.lines]
        for r in range(R):
            for s in range(R):
                assert (same[r] == same[s]) == (groups[r] == groups[s])
        assert ax.get_aspect() == 1
    assert (below.get_xlabel(), below.get_ylabel()) == ("x (mm)", "y (mm)")
    texts_apart(fig)


def test_velocity_without_conditions_has_one_colour():
    fig = behavior.velocity(
        *RNG.normal(size=(2, 4, T, 2)), None, bin_ms=BIN_MS, trials=[1], unit="cm"
    )
    assert len({tuple(x.get_color()) for x in fig.axes[-1].lines}) == 1
    assert fig.axes[0].get_ylabel() == "x velocity (cm/s)"
