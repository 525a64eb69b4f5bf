"""Several runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.report_runs import HOSTILE, run
from test_report import Reader

from stndt_jax.cli import main
from stndt_jax.errors import UserError
from stndt_jax.report import compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    """Two that differ in settings and scores, and one in a folder and with a name to do harm."""
    one = run(folder, "one")
    other = run(folder, "two", model__spatial="false", model__width=8, train__epochs=7)
    scores = json.loads((other / "scores.json").read_text())
    scores["ensemble"]["co_bps"] = 0.1999
    (other / "scores.json").write_text(json.dumps(scores))
    head, tail = HOSTILE.split("/")
    return [one, other, run(folder / head, tail, members=1, scored=False)]


def test_the_terminal_gets_a_table(paths: list[Path]) -> None:
    text = compare.text(compare.open_runs(paths[:2]))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["run"] == ["members", "co-bps", "fp-bps", "vel", "R2", "PSTH", "R2", "rate", "R2"]
    assert rows["one"][:3] == ["3", "0.2345", "−0.0456"]
    assert rows["two"][:2] == ["3", "0.1999"]
    # The shipped configuration tiny trains for 10 epochs.
    assert rows["train.epochs"] == ["10", "7"]
    assert rows["model.spatial"] == ["True", "False"]
    assert not [key for key in rows if key.startswith("data.")]
    widths = {len(line) for line in text.split("\n\n")[0].splitlines()}
    assert len(widths) == 1


def test_runs_that_cannot_be_compared_are_named(paths: list[Path]) -> None:
    assert compare.warnings(compare.open_runs(paths[:2])) == []
    told = " ".join(compare.warnings(compare.open_runs(paths)))
    assert "different data" in told and "Not evaluated" in told


def test_the_page_holds_all_runs(paths: list[Path]) -> None:
    runs = compare.open_runs(paths)
    read = Reader(compare.build(runs))
    text = read.text()
    for shown in (
        "0.234",
        "0.200",
        "[0.222, 0.247]",
        "train.epochs",
        "NDT, 8 factors",
        "different data",
    ):
        assert shown in text
    # Two charts with a line a run, and no script but the page's own.
    charts = [a for a in read.find("svg") if a.get("role") == "img"]
    lines = [a for a in read.find("path") if a["class"] in ("line s0", "line s1", "line s2")]
    assert len(charts) == 2 and len(lines) == 6
    assert len(read.find("script")) == 1


def test_names_of_runs_are_unique(folder: Path, paths: list[Path]) -> None:
    twin = run(folder / "elsewhere", "one")
    assert list(compare.open_runs([paths[0], twin])) == [f"{folder.name}/one", "elsewhere/one"]
    assert list(compare.open_runs(paths[:2])) == ["one", "two"]
    with pytest.raises(UserError, match="twice"):
        compare.open_runs([paths[0], paths[0] / "." / ".." / "one"])
    with pytest.raises(UserError, match="two or more"):
        compare.open_runs(paths[:1])


def test_the_command(paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.html"
    assert main.main(["compare", *map(str, paths[:2]), f"--out={out}"]) == 0
    assert "0.1999" in capsys.readouterr().out and out.stat().st_size > 10_000
    assert main.main(["compare", str(paths[0])]) == 2
    assert main.main(["compare", str(paths[0]), str(tmp_path)]) == 2
    assert "no run directory" in capsys.readouterr().err
