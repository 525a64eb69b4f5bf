"""Tables and lines of text as a terminal and a log file show them."""

from __future__ import annotations

import io

import pytest

from stndt_jax.console import lines, tables

PATH = "runs/2024-05-17/a [very] long directory/trials/0012"


def test_columns_are_aligned_and_as_wide_as_their_widest_cell() -> None:
    text = tables.table(["run", "co-bps", "how"], [["a", "0.1", "ok"], ["bc", "-0.25", "x"]],
                        left=["how"])  # fmt: skip
    assert text == "run  co-bps  how\na       0.1  ok\nbc    -0.25  x"


def test_a_table_without_headings_or_rows() -> None:
    assert tables.table(["", ""], [["mean", "1"], ["sd", "12"]]) == "mean   1\nsd    12"
    assert tables.table(["a", "b"], []) == "a  b"


def test_headings_are_wrapped_before_a_table_is_continued_below() -> None:
    heads = ["run", "validation co-bps", "score"]
    text = tables.table(heads, [["a", "0.1", "1"]], width=24)
    assert text == "     validation\nrun      co-bps  score\na           0.1      1"
    text = tables.table(heads, [["a", "0.1", "1"]], width=17)
    assert text == "     validation\nrun      co-bps\na           0.1\n\nrun  score\na        1"


@pytest.mark.parametrize("width", [1, 20, 80])
def test_no_cell_is_cut(width: int) -> None:
    numbers = [str(10**i) for i in range(12)]
    text = tables.table(["path", *(f"column {i}" for i in range(12))], [[PATH, *numbers]],
                        width=width)  # fmt: skip
    assert PATH in text and set(numbers) <= set(text.split())
    wide = [line for line in text.splitlines() if len(line) > max(width, len(PATH) + 14)]
    assert not wide


def test_prose_is_wrapped_at_spaces() -> None:
    prose = f"damaged: {PATH}/config.json cannot be read and more words after that"
    text = tables.table(["run", "how"], [["a", prose], ["b", "finished"]], wrap=["how"], width=80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(line[5:] for line in lines[1:-1]).split()) == prose
    assert lines[-1] == "b    finished"


def test_cells_are_plain_text() -> None:
    text = tables.table(["run"], [["[bold]x[/bold]\n\x1b[31m:smile:"]])
    assert text == "run\n[bold]x[/bold] \\x1b[31m:smile:"


def test_wide_characters_take_two_columns() -> None:
    assert tables.table(["a", "b"], [["日本", "1"], ["x", "2"]]) == "a     b\n日本  1\nx     2"


def test_the_width_is_the_terminals_or_80(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "200")
    heads, rows = [f"heading {i}" for i in range(12)], [["1"] * 12]
    assert len(tables.table(heads, rows).splitlines()) > 2
    monkeypatch.setattr("sys.stdout", Terminal())
    assert len(tables.table(heads, rows).splitlines()) == 2


def test_numbers() -> None:
    shown = [tables.number(x) for x in (0.123456, -1.0, None, float("nan"), float("inf"))]
    assert shown == ["0.1235", "-1.0000", "-", "-", "-"]
    assert tables.number(0.5, 1) == "0.5"


def test_one_line() -> None:
    assert lines.one_line("a\nb\t\x07\x1bc") == "a b \\x07\\x1bc"
    assert lines.one_line("x" * 100, longest=10) == "xxxxx ... xxxxx"
