"""Training curves by what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.figures import texts_apart

from stndt_jax.errors import UserError
from stndt_jax.plotting import style, training


def rows() -> list[dict]:
    """Three members; the second is best, at epoch 30; the third diverges."""
    return [
        {"epoch": 10, "train_masked_loss": [0.5, 0.6, 0.7], "valid_cobps": [0.0, -0.2, -0.1]},
        {"epoch": 20, "train_masked_loss": [0.4, 0.5, None]},
        {"epoch": 30, "train_masked_loss": [0.3, 0.4, None], "valid_cobps": [0.2, 0.3, None]},
        {"epoch": 40, "train_masked_loss": [0.2, 0.3, None], "valid_cobps": [0.1, 0.2, None]},
    ]


def test_training_curves_hold_every_member_and_mark_the_best():
    fig = training.training_curves(rows(), references={"smoothing": 0.15})
    loss, score = fig.axes
    assert len(loss.lines) == 3
    np.testing.assert_array_equal(
        loss.lines[0].get_xydata(), [[10, 0.5], [20, 0.4], [30, 0.3], [40, 0.2]]
    )
    np.testing.assert_array_equal(loss.lines[2].get_ydata(), [0.7, np.nan, np.nan, np.nan])
    members, others = score.lines[:3], score.lines[3:]
    np.testing.assert_array_equal(members[1].get_xydata(), [[10, -0.2], [30, 0.3], [40, 0.2]])
    assert [x.get_color() == style.BEST for x in members] == [False, True, False]
    reference, mark = others
    assert set(reference.get_ydata()) == {0.15}
    assert [x.get_text() for x in score.texts] == ["smoothing"]
    np.testing.assert_array_equal(mark.get_xydata(), [[30, 0.3]])
    assert score.get_title() == "best: 0.3000 at epoch 30, member 1"
    assert loss.get_xlabel() == score.get_xlabel() == "epoch"
    texts_apart(fig)


def test_training_curves_of_one_member_and_of_losses_alone():
    single = [{"epoch": e, "valid_cobps": e / 100, "train_masked_loss": 1 / e} for e in (1, 2)]
    fig = training.training_curves(single)
    assert fig.axes[1].get_title() == "best: 0.0200 at epoch 2"
    both = [
        {"epoch": e, "train_masked_loss": [0.5], "valid_masked_loss": [0.6]} for e in range(1, 4)
    ]
    fig = training.training_curves(both)
    assert [x.get_label() for x in fig.axes[0].lines] == ["training", "validation"]
    assert [x.get_linestyle() for x in fig.axes[0].lines] == ["-", "--"]
    assert not fig.axes[1].lines
    with pytest.raises(UserError, match="no row of the metrics holds epoch and any of"):
        training.training_curves([{"epoch": 1, "other": 2}])
