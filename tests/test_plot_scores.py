"""Score bars by what is drawn."""

from __future__ import annotations

import numpy as np
from helpers.figures import texts_apart
from matplotlib import colors

from stndt_jax.plotting import scores as plots
from stndt_jax.plotting import style


def test_score_bars_have_the_scores_lengths():
    scores = {
        "smoothing": {"co_bps": 0.144, "fp_bps": -0.2},
        "STNDT": {"co_bps": 0.262, "fp_bps": 0.1},
        "oracle": {"co_bps": 0.301},
    }
    fig = plots.score_bars(scores, metrics=("co_bps", "fp_bps"), highlight="STNDT")
    cobps, fpbps = fig.axes
    assert [x.get_width() for x in cobps.patches] == [0.144, 0.262, 0.301]
    np.testing.assert_array_equal([x.get_width() for x in fpbps.patches], [-0.2, 0.1, np.nan])
    assert [x.get_text() for x in cobps.texts] == ["0.144", "0.262", "0.301"]
    assert [x.get_text() for x in fpbps.texts][:2] == ["\N{MINUS SIGN}0.200", "0.100"]
    assert [x.get_text() for x in cobps.get_yticklabels()] == ["smoothing", "STNDT", "oracle"]
    assert cobps.yaxis_inverted()  # the first stands on top
    assert cobps.get_xlabel() == "co-bps (bits/spike)"
    stands_out = [colors.same_color(x.get_facecolor(), style.BEST) for x in cobps.patches]
    assert stands_out == [False, True, False]
    texts_apart(fig)
