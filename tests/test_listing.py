"""The table of runs, of files written by hand: whole ones, damaged ones, none."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from stndt_jax.configs import tiny

from stndt_jax.cli import main
from stndt_jax.config import schema
from stndt_jax.errors import UserError
from stndt_jax.runs import listing
from stndt_jax.runs.lock import Lock

SIZES = {"bins_observed": 6, "bins_forward": 2, "heldin": 4, "heldout": 2}


def make(
    path: Path, best: float | None = None, co_bps: float | None = None, **session: Any
) -> Path:
    """The files of a run that trained for 4 of 10 epochs."""
    path.mkdir(parents=True)
    values = tiny.get_config()
    values.data.path, values.population = "folder/reach.h5", 2
    whole = schema.to_mapping(schema.from_mapping(values.to_dict()))
    (path / "config.json").write_text(json.dumps(whole))
    sessions = [
        {"command": ["stndt", "train", "--config=a/mine.py"], "began": "2026-01-01", "how": "cut"},
        {"command": ["stndt", "train"], "began": "2026-01-02", **session},
    ]
    told = {"data_fingerprint": "f" * 64, "sizes": SIZES, "sessions": sessions}
    (path / "run.json").write_text(json.dumps(told))
    rows = [{"epoch": 2, "best_cobps": [None, None]}, {"epoch": 4, "best_cobps": [best, None]}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"ep')
    if co_bps is not None:
        (path / "scores.json").write_text(json.dumps({"ensemble": {"co_bps": co_bps}}))
    return path


def row_of(folder: Path, path: str) -> dict[str, Any]:
    (found,) = (row for row in listing.table(folder) if row["path"] == path)
    return found


def test_a_row_says_what_the_files_say(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "a", 0.25, 0.2, ended="2026-01-03", how="finished")
    assert row_of(tmp_path, "deep/a") == {
        **dict.fromkeys(listing.COLUMNS),
        "path": "deep/a", "kind": "run", "config": "mine", "data": "reach", "epochs": 4,
        "planned": 10, "members": 2, "validation_co_bps": 0.25, "co_bps": 0.2,
        "how": "finished", "date": "2026-01-03",
    }  # fmt: skip
    killed = make(tmp_path / "b")
    assert row_of(tmp_path, "b")["how"] == "killed"
    assert row_of(tmp_path, "b")["validation_co_bps"] is None
    with Lock(killed):
        assert row_of(tmp_path, "b")["how"] == "running"
    # A killed process leaves its lock behind, which the kernel no longer holds.
    (killed / "lock").write_text(json.dumps({"host": "a", "pid": 1, "token": "b"}))
    assert row_of(tmp_path, "b")["how"] == "killed"


def test_an_ensemble_is_one_row(tmp_path: Path) -> None:
    make(tmp_path / "e" / "parts" / "00", 0.3)
    rows = [{"part": "00", "member": k, "weight": 0.5} for k in (0, 1)]
    told = {"members": rows, "validation_co_bps": 0.31, "data": "reach", "select": "greedy"}
    (tmp_path / "e" / "ensemble.json").write_text(json.dumps(told))
    (row,) = listing.table(tmp_path)
    assert (row["kind"], row["members"], row["validation_co_bps"]) == ("ensemble", 2, 0.31)
    (tmp_path / "e" / "ensemble.json").write_text("[]")
    assert row_of(tmp_path, "e")["how"].startswith("damaged: ")


JUNK = ("", "{", "[]", "null", "7", '"x"', '{"sessions": [null]}', '{"ensemble": 3}', "\x00\xff")


def test_the_name_of_the_recording_is_that_of_its_files(tmp_path: Path) -> None:
    path = make(tmp_path / "one")
    assert listing.table(tmp_path)[0]["data"] == "reach"
    run = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**run, "data": "v1"}))
    assert listing.table(tmp_path)[0]["data"] == "v1"


@pytest.mark.parametrize("file", ["config.json", "run.json", "metrics.jsonl", "scores.json"])
def test_nothing_damaged_stops_it(tmp_path: Path, file: str) -> None:
    make(tmp_path / "good", 0.1, 0.1, how="finished")
    for number, content in enumerate(JUNK):
        path = make(tmp_path / f"bad{number}", 0.1, 0.1, how="finished")
        (path / file).write_bytes(content.encode("latin-1"))
    folder = make(tmp_path / "folder", 0.1, 0.1, how="finished")
    if (folder / file).exists():
        (folder / file).unlink()
    (folder / file).mkdir()
    rows = {row["path"]: row for row in listing.table(tmp_path)}
    assert len(rows) == len(JUNK) + 2
    assert rows["good"]["how"] == "finished"
    assert rows["folder"]["how"].startswith("damaged: ")
    if file != "metrics.jsonl":
        assert all(rows[f"bad{n}"]["how"].startswith("damaged: ") for n in range(5))
    assert all(row["data"] == "reach" for row in rows.values() if file != "config.json")
    listing.text(list(rows.values()))


def test_a_run_that_never_began_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    assert row_of(tmp_path, "new")["how"].startswith("damaged: ")


def test_sorted_and_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, best in (("a", 0.1), ("b", None), ("c", 0.3)):
        make(tmp_path / "runs" / name, best, how='stopped, "politely"')
    out = tmp_path / "table.csv"
    argv = ["runs", str(tmp_path / "runs"), "--sort=validation co-bps", f"--csv={out}"]
    assert main.main(argv) == 0
    first, *_ = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in first.splitlines()][-4:] == ["path", "c", "a", "b"]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["c", "a", "b"]
    assert [row["validation_co_bps"] for row in rows] == ["0.3", "0.1", ""]
    assert rows[0]["how"] == 'stopped, "politely"' and tuple(rows[0]) == listing.COLUMNS


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run of stndt train is at or below"):
        listing.table(tmp_path)
    with pytest.raises(UserError, match="is not a directory"):
        listing.table(tmp_path / "no")
    make(tmp_path / "a")
    with pytest.raises(UserError, match="not a column"):
        listing.ordered(listing.table(tmp_path), "cobps")
    with pytest.raises(UserError, match="cannot be written"):
        listing.write_csv(listing.table(tmp_path), tmp_path / "no" / "x.csv")
