"""Figures by what stands in them: the lines' own data, their units, their labels."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import colors, image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from stndt_jax.errors import UserError
from stndt_jax.plotting import style

BIN_MS = 20.0
R, T, N, C = 9, 12, 6, 3
RNG = np.random.default_rng(0)
RATES = RNG.gamma(2.0, 0.1, (R, T, N))
CONDITIONS = np.array([0, 1, 2, 0, 1, 2, 0, -1, -1])
MIDDLES_MS = np.array([10.0, 30, 50, 70, 90, 110, 130, 150, 170, 190, 210, 230])
HZ = 50.0  # 1 count in 20 ms


def line(ax: Axes, label: str) -> np.ndarray:
    (found,) = [x for x in ax.lines if x.get_label() == label]
    return np.asarray(found.get_xydata())


def texts_of(ax: Axes) -> list[Text]:
    found = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
        # Ticks outside the limits exist, but are not drawn.
        found += [x.label1 for x in axis.get_major_ticks() if low <= x.get_loc() <= high]
    return found


def texts_apart(fig: Figure) -> None:
    """No two texts overlap and none leaves the page, as drawn."""
    FigureCanvasAgg(fig).draw()
    texts = [text for ax in fig.axes for text in texts_of(ax)]
    for part in (fig, *fig.subfigs):
        texts += [*part.texts, *(text for legend in part.legends for text in legend.get_texts())]
    boxes = [
        (x.get_text(), x.get_window_extent()) for x in texts if x.get_text() and x.get_visible()
    ]
    for number, (text, box) in enumerate(boxes):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1
        assert inside, f"{text!r} leaves the page"
        for other, second in boxes[number + 1 :]:
            shared = Bbox.intersection(box, second)
            apart = shared is None or min(shared.width, shared.height) < 1
            assert apart, f"{text!r} lies on {other!r}"


def test_condition_means_are_means_over_a_conditions_trials():
    found = style.condition_means(RATES, CONDITIONS, C + 1)
    np.testing.assert_allclose(found[0], (RATES[0] + RATES[3] + RATES[6]) / 3)
    np.testing.assert_allclose(found[2], (RATES[2] + RATES[5]) / 2)
    assert np.isnan(found[C]).all()


def test_psths_show_both_in_spikes_per_second():
    true = RNG.gamma(2.0, 0.1, (C, T, N))
    fig = style.psths(true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[4, 1], true_label="true")
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
    fig = style.psths(true, RATES, CONDITIONS, bin_ms=BIN_MS, neurons=[0])
    assert [x.get_label() for x in fig.axes[0].lines] == ["0", "1", "2"]


def test_single_trials_show_spikes_and_rates():
    spikes = np.zeros((R, T, N), np.uint8)
    spikes[5, 0, 2] = 1
    spikes[5, 3, 2] = 2
    true, smoothed = RATES * 2, RATES * 3
    fig = style.single_trials(
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
    for name, rates in (("inferred rate", RATES), ("true rate", true), ("smoothed", smoothed)):
        for row, n in enumerate((2, 3)):
            for column, r in enumerate((5, 0, 7)):
                np.testing.assert_allclose(
                    line(fig.axes[3 * row + column], name),
                    np.column_stack([MIDDLES_MS, rates[r, :, n] * HZ]),
                )
    for row, n in enumerate((2, 3)):
        highest = smoothed[[5, 0, 7], :, n].max() * HZ
        for ax in fig.axes[3 * row : 3 * row + 3]:
            low, high = ax.get_ylim()
            assert low == 0
            assert highest < 0.9 * high  # the spikes stand above every rate of the row
    (shade,) = first.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (180.0, 240.0)
    assert {x.get_text() for x in fig.legends[0].get_texts()} == {
        "spikes",
        "inferred rate",
        "true rate",
        "smoothed",
    }
    texts_apart(fig)


def test_single_trials_do_with_spikes_and_inferred_rates():
    spikes = np.full((R, T, N), np.nan)
    fig = style.single_trials(spikes, RATES, bin_ms=BIN_MS, trials=[0], neurons=[1])
    assert [x.get_label() for x in fig.axes[0].lines] == ["inferred rate", "spikes"]
    assert len(line(fig.axes[0], "spikes")) == 0
    assert not fig.axes[0].patches


def test_velocity_shows_courses_and_integrated_paths():
    true, decoded = RNG.normal(0, 300, (2, R, T, 2))
    true[3, 4] = np.nan
    groups = np.where(CONDITIONS < 0, 0, CONDITIONS)
    fig = style.velocity(true, decoded, groups, bin_ms=BIN_MS, trials=[3, 8])
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
    fig = style.velocity(*RNG.normal(size=(2, 4, T, 2)), None, bin_ms=BIN_MS, trials=[1], unit="cm")
    assert len({tuple(x.get_color()) for x in fig.axes[-1].lines}) == 1
    assert fig.axes[0].get_ylabel() == "x velocity (cm/s)"


def rows() -> list[dict]:
    """Three members; the second is best, at epoch 30; the third diverges."""
    return [
        {"epoch": 10, "train_masked_loss": [0.5, 0.6, 0.7], "valid_cobps": [0.0, -0.2, -0.1]},
        {"epoch": 20, "train_masked_loss": [0.4, 0.5, None]},
        {"epoch": 30, "train_masked_loss": [0.3, 0.4, None], "valid_cobps": [0.2, 0.3, None]},
        {"epoch": 40, "train_masked_loss": [0.2, 0.3, None], "valid_cobps": [0.1, 0.2, None]},
    ]


def test_training_curves_hold_every_member_and_mark_the_best():
    fig = style.training_curves(rows(), references={"smoothing": 0.15})
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
    fig = style.training_curves(single)
    assert fig.axes[1].get_title() == "best: 0.0200 at epoch 2"
    both = [
        {"epoch": e, "train_masked_loss": [0.5], "valid_masked_loss": [0.6]} for e in range(1, 4)
    ]
    fig = style.training_curves(both)
    assert [x.get_label() for x in fig.axes[0].lines] == ["training", "validation"]
    assert [x.get_linestyle() for x in fig.axes[0].lines] == ["-", "--"]
    assert not fig.axes[1].lines
    with pytest.raises(UserError, match="no row of the metrics holds epoch and any of"):
        style.training_curves([{"epoch": 1, "other": 2}])


def test_score_bars_have_the_scores_lengths():
    scores = {
        "smoothing": {"co-bps": 0.144, "fp-bps": -0.2},
        "STNDT": {"co-bps": 0.262, "fp-bps": 0.1},
        "oracle": {"co-bps": 0.301},
    }
    fig = style.score_bars(scores, metrics=("co-bps", "fp-bps"), highlight="STNDT")
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


def test_figures_ignore_and_keep_the_users_settings():
    matplotlib.rcParams.update({"font.size": 31, "axes.grid": True})
    try:
        fig = style.score_bars({"a": {"co-bps": 1.0}})
        assert fig.axes[0].xaxis.label.get_size() == 8
        assert not fig.axes[0].get_xgridlines()[0].get_visible()
        assert matplotlib.rcParams["font.size"] == 31
    finally:
        matplotlib.rcdefaults()


def test_saving_writes_png_and_pdf(tmp_path: Path):
    fig = style.score_bars({"a": {"co-bps": 1.0}})
    assert style.save(fig, tmp_path / "one.png") == [tmp_path / "one.png"]
    written = style.save(fig, tmp_path / "two.png", pdf=True, dpi=50)
    assert written == [tmp_path / "two.png", tmp_path / "two.pdf"]
    assert (tmp_path / "two.pdf").read_bytes().startswith(b"%PDF")
    large, small = (image.imread(tmp_path / f"{x}.png") for x in ("one", "two"))
    width, height = fig.get_size_inches()
    assert large.shape[:2] == (int(height * 200), int(width * 200))
    assert small.shape[:2] == (int(height * 50), int(width * 50))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["one.png", "two.pdf", "two.png"]


def test_saving_where_it_cannot_be_done_leaves_no_trace(tmp_path: Path):
    fig = style.score_bars({"a": {"co-bps": 1.0}})
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png cannot be written"):
        style.save(fig, tmp_path / "folder.png")
    with pytest.raises(UserError, match="cannot be written"):
        style.save(fig, tmp_path / "no" / "x.png")
    assert [x.name for x in tmp_path.iterdir()] == ["folder.png"]
