"""Tables, labels and choices from files: what stands in them, whichever program wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest

from stndt_jax.data import table_files
from stndt_jax.errors import UserError


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", " -2", "30"], "i", [1, -2, 30]),
        (["1", "", "2.5"], "f", [1, np.nan, 2.5]),
        (["1e3", "nan", "-inf"], "f", [1000, np.nan, -np.inf]),
        (["True", "false", "TRUE"], "b", [True, False, True]),
        (["007", "1", "2"], "U", ["007", "1", "2"]),
        (["1_0", "1", "2"], "U", ["1_0", "1", "2"]),
        (["left", "", "right "], "U", ["left", "", "right"]),
        (["", "", ""], "U", ["", "", ""]),
        ([], "U", []),
    ],
)
def test_cells_become_what_all_of_them_are(cells, kind, values):
    found = table_files.typed(cells)
    assert found.dtype.kind == kind
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_a_table_of_pandas(tmp_path, index, ending, separator):
    frame = pandas.DataFrame(
        {
            "target": ["left, far", 'the "right"', "größe"],
            "reward": [0.5, np.nan, 2.0],
            "block": [3, 1, 2],
            "correct": [True, False, True],
        }
    )
    path = tmp_path / f"trials.{ending}"
    frame.to_csv(path, index=index, sep=separator, encoding="utf-8-sig")
    found = table_files.read(path)
    assert list(found) == list(frame)
    for name, column in found.items():
        np.testing.assert_array_equal(column, frame[name].to_numpy())
    np.testing.assert_array_equal(table_files.labels(f"{path}:target", 3, "x"), frame["target"])


def test_a_table_of_named_arrays(tmp_path):
    np.savez(tmp_path / "t.npz", area=["V1", "V2"], depth=[0.1, 0.2])
    found = table_files.read(tmp_path / "t.npz")
    assert list(found["area"]) == ["V1", "V2"] and list(found["depth"]) == [0.1, 0.2]
    assert list(table_files.labels(f"{tmp_path / 't.npz'}:area", 2, "area")) == ["V1", "V2"]
    assert list(table_files.labels(str(tmp_path / "t.npz"), 2, "area")) == ["V1", "V2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "left\nright\n\nleft\n"),
        ("c.csv", "left\nright\n\nleft\n"),
        ("c.csv", "condition\nleft\nright\n \nleft\n"),
        ("c.csv", "trial,condition\n0,left\n1,right\n2,\n3,left\n"),
        ("c.csv:where", "trial,where\n0,left\n1,right\n2,\n3,left\n"),
        ("c.csv", 'condition\r\nleft\r\nright\r\n""\r\nleft\r\n'),
    ],
)
def test_labels_of_text_files(tmp_path, name, content):
    (tmp_path / name.partition(":")[0]).write_text(content)
    found = table_files.labels(str(tmp_path / name), 4, "condition")
    assert list(found) == ["left", "right", "", "left"]


def test_labels_of_arrays(tmp_path):
    np.save(tmp_path / "c.npy", ["left", "right"])
    assert list(table_files.labels(str(tmp_path / "c.npy"), 2, "condition")) == ["left", "right"]


IDS = np.array([10, 11, 12, 13, 20])
COLUMNS = {"area": np.array(["V1", "V2", "V2", "V4", ""]), "shank": np.array([1, 1, 2, 3, 2])}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("11,20", [11, 20]),
        ("12", [12]),
        ("11-15,20", [11, 12, 13, 20]),
        ("area=V2", [11, 12]),
        ("area=V2,V4", [11, 12, 13]),
        ("shank=2", [12, 20]),
        ("ids.npy", [20, 10]),
        ("mask.npy", [10, 13]),
        ("zeros_and_ones.npy", [10, 13]),
        ("ids.txt", [11, 13]),
        ("mask.csv", [12, 20]),
        ("table.csv:out", [10]),
    ],
)
def test_units_are_chosen_by_identifier_column_or_file(tmp_path, monkeypatch, words, wanted):
    monkeypatch.chdir(tmp_path)
    np.save("ids.npy", [20, 10])
    np.save("mask.npy", [True, False, False, True, False])
    np.save("zeros_and_ones.npy", [1, 0, 0, 1, 0])
    Path("ids.txt").write_text("11\n13\n")
    Path("mask.csv").write_text("heldout\nfalse\nfalse\ntrue\nfalse\ntrue\n")
    Path("table.csv").write_text("unit,out\n10,1\n11,0\n12,0\n13,0\n20,0\n")
    choices = table_files.Choices("heldout", "units", IDS, COLUMNS, "give it with --area")
    assert sorted(IDS[choices.chosen(words)]) == sorted(wanted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("10,99", "--heldout lists 99, which is none of the 5 units: 10, 11, 12, 13, 20"),
        ("10,10", "--heldout lists 10 twice; list each of the units once"),
        ("15-19", "--heldout=15-19: none of the units is from 15 to 19"),
        ("-1", "--heldout=-1 is no list of units; give whole numbers and ranges from 0, such as"),
        ("5.5", "--heldout=5.5 is no list of units"),
        ("absent.csv:area", "--heldout=absent.csv:area: absent.csv: no such file; check the path"),
        ("M1", "--heldout=M1: M1 is no table"),
        ("depth=3", r"there is no column depth \(columns: area, shank\); give it with --area"),
        ("area=V3", r"has the area V3; there are none \(1\), V1 \(1\), V2 \(2\), V4 \(1\)"),
        ("nowhere.csv", "nowhere.csv: no such file"),
        ("short.npy", r"holds \(2,\) values, but there are 5 units"),
        ("rates.npy", "holds float64; give whole numbers"),
        ("matrix.npy", r"matrix.npy has shape \(2, 2\); give a list"),
        ("two.csv", "two.csv has no column heldout; name one of a, b, for example two.csv:a"),
        ("x.mat", "x.mat is no table"),
        ("objects.npy", "objects.npy holds texts; give whole numbers"),
    ],
)
def test_what_chooses_nothing_is_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", [True, False])
    np.save("rates.npy", np.full(5, 0.5))
    np.save("matrix.npy", np.ones((2, 2), int))
    np.save("objects.npy", np.array(["a", None], object), allow_pickle=True)
    Path("two.csv").write_text("a,b\n1,2\n")
    choices = table_files.Choices("heldout", "units", IDS, COLUMNS, "give it with --area")
    with pytest.raises(UserError, match=message):
        choices.chosen(words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv is empty"),
        ("a,a\n1,2\n", "has two columns 'a'"),
        ("a,b\n1,2\n3\n", r"has 1 cells in row 3, but 2 columns \(a, b\)"),
        ('a,b\n1,"2\n', "cannot be read as a table"),
    ],
)
def test_broken_tables_are_explained(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        table_files.read(tmp_path / "t.csv")


def test_decimal_commas_between_semicolons_or_tabs(tmp_path):
    text = "a;b;c;d\n0,25;1;1,2 m;-1,5e3\n12;2;3;\n"
    for ending, separator in ((".csv", ";"), (".tsv", "\t")):
        path = tmp_path / f"x{ending}"
        path.write_text(text.replace(";", separator))
        found = table_files.read(path)
        assert found["a"].tolist() == [0.25, 12] and found["b"].tolist() == [1, 2]
        assert found["c"].tolist() == ["1,2 m", "3"] and found["d"][0] == -1500
    (tmp_path / "x.csv").write_text("3;0,5\n4;1,5\n2;2,5\n")
    numbers = [x.tolist() for x in table_files.read(tmp_path / "x.csv").values()]
    assert numbers == [[3, 4, 2], [0.5, 1.5, 2.5]]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
@pytest.mark.parametrize("content", ["", "\n", "\n\n"])
def test_an_empty_table_is_said_to_be_empty(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="is empty; write a header"):
        table_files.read(tmp_path / name)
