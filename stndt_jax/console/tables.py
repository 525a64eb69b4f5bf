"""Tables as plain text: the same in a terminal and in a log file.

No colour and no lines are drawn. A table that is wider than the terminal (80 columns where the
output is not a terminal) first gets headings of several lines, then is continued below itself, the
first column repeated. No cell is ever cut.
"""

from __future__ import annotations

import io
import math
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from rich.align import Align
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stndt_jax.console.lines import one_line

WIDTH = 80  # of a log file
GAP = 2  # spaces between columns
PROSE = 40  # of a column of prose, unless a word is longer

Side = Literal["left", "right"]


def number(value: float | None, digits: int = 4) -> str:
    """A number with a fixed number of decimals; ``-`` where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[str] = (),
    wrap: Collection[str] = (),
    width: int | None = None,
) -> str:
    """Rows under headings, columns as wide as their widest cell.

    Args:
      heads: heading of each column; all empty for a table without headings.
      rows: cells of each row, one for each heading.
      left: headings of the columns aligned left, besides the first; the others are aligned right.
      wrap: headings of columns of prose, which are aligned left and continued on further lines.
      width: characters in a line; by default the terminal's, 80 where there is none.
    """
    heads = [one_line(head) for head in heads]
    rows = [[one_line(cell) for cell in row] for row in rows]
    align: list[Side] = [
        "left" if i == 0 or head in {*left, *wrap} else "right" for i, head in enumerate(heads)
    ]
    cells = [_widest(head in wrap, [row[i] for row in rows]) for i, head in enumerate(heads)]
    blocks = _blocks(heads, cells, width or _line_width())
    return "\n\n".join(_render(heads, rows, align, block) for block in blocks)


def _widest(prose: bool, cells: Sequence[str]) -> int:
    """Characters that the cells of a column take."""
    widest = max(map(cell_len, cells), default=0)
    words = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    return max(words, min(widest, PROSE)) if prose else widest


def _line_width() -> int:
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def _blocks(heads: Sequence[str], cells: Sequence[int], width: int) -> Iterator[dict[int, int]]:
    """Which columns stand in a line together, the first in each: column -> characters."""
    lines = [max(n, cell_len(head)) for n, head in zip(cells, heads, strict=True)]
    words = [max([n, *map(cell_len, head.split())]) for n, head in zip(cells, heads, strict=True)]

    def fits(columns: Sequence[int], widths: Sequence[int]) -> bool:
        return sum(widths[i] for i in columns) + GAP * (len(columns) - 1) <= width

    block, blocks = [0], []
    for i in range(1, len(heads)):
        if len(block) > 1 and not fits([*block, i], words):
            blocks.append(block)
            block = [0]
        block.append(i)
    for columns in [*blocks, block]:
        widths = lines if fits(columns, lines) else words
        yield {i: widths[i] for i in columns}


def _render(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: Sequence[Side],
    block: dict[int, int],
) -> str:
    """The columns of one block."""
    grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=any(heads))
    for i, n in block.items():
        head = Align(Text(heads[i], justify=align[i]), align[i], vertical="bottom")
        grid.add_column(head, width=n, overflow="fold", justify=align[i])
    for row in rows:
        grid.add_row(*(Text(row[i]) for i in block))
    file = io.StringIO()
    size = sum(block.values()) + GAP * len(block)
    Console(file=file, width=size, color_system=None, legacy_windows=False).print(grid)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).rstrip("\n")
