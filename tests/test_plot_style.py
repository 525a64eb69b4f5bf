"""The look of figures and their files."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from matplotlib import image

from stndt_jax.errors import UserError
from stndt_jax.plotting import style
from stndt_jax.plotting.scores import score_bars


def test_figures_neither_use_nor_change_the_users_settings():
    matplotlib.rcParams.update({"font.size": 31, "axes.grid": True})
    try:
        fig = score_bars({"a": {"co_bps": 1.0}})
        assert fig.axes[0].xaxis.label.get_size() == 8
        assert not fig.axes[0].get_xgridlines()[0].get_visible()
        assert matplotlib.rcParams["font.size"] == 31
    finally:
        matplotlib.rcdefaults()


def test_saving_writes_png_and_pdf(tmp_path: Path):
    fig = score_bars({"a": {"co_bps": 1.0}})
    assert style.save(fig, tmp_path / "one.png") == [tmp_path / "one.png"]
    written = style.save(fig, tmp_path / "two.png", pdf=True, dpi=50)
    assert written == [tmp_path / "two.png", tmp_path / "two.pdf"]
    assert (tmp_path / "two.pdf").read_bytes().startswith(b"%PDF")
    large, small = (image.imread(tmp_path / f"{x}.png") for x in ("one", "two"))
    width, height = fig.get_size_inches()
    assert large.shape[:2] == (int(height * 200), int(width * 200))
    assert small.shape[:2] == (int(height * 50), int(width * 50))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["one.png", "two.pdf", "two.png"]


def test_failed_saving_leaves_no_files(tmp_path: Path):
    fig = score_bars({"a": {"co_bps": 1.0}})
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png cannot be written"):
        style.save(fig, tmp_path / "folder.png")
    with pytest.raises(UserError, match="cannot be written"):
        style.save(fig, tmp_path / "no" / "x.png")
    assert [x.name for x in tmp_path.iterdir()] == ["folder.png"]
