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
from typing import Literal, NamedTuple

from rich.align import Align
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stndt_jax.console.lines import one_line

WIDTH = 80  # of a log file
GAP = 2  # spaces between columns
PROSE = 40  # least width of a column of prose that does not fit into the line

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
    columns = [
        _column(head, [row[i] for row in rows], head in wrap) for i, head in enumerate(heads)
    ]
    blocks = _blocks(columns, width or _line_width())
    return "\n\n".join(_render(heads, rows, align, block) for block in blocks)


class _Column(NamedTuple):
    """How many characters a column takes."""

    least: int  # its heading on several lines
    whole: int  # its heading on one line
    most: int  # all of its prose on one line


def _column(head: str, cells: Sequence[str], prose: bool) -> _Column:
    widest = most = max(map(cell_len, cells), default=0)
    if prose:
        words = [cell_len(word) for cell in cells for word in cell.split()]
        widest = max([*words, min(widest, PROSE)])
    least = max([widest, *map(cell_len, head.split())])
    whole = max(widest, cell_len(head))
    return _Column(least, whole, max(most, whole))


def _line_width() -> int:
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def _blocks(columns: Sequence[_Column], width: int) -> Iterator[dict[int, int]]:
    """Which columns are printed side by side, each time the first among them: column -> width."""

    def free(block: Sequence[int], widths: Sequence[int]) -> int:
        return width - sum(widths[i] for i in block) - GAP * (len(block) - 1)

    least, whole = [c.least for c in columns], [c.whole for c in columns]
    block, blocks = [0], []
    for i in range(1, len(columns)):
        if len(block) > 1 and free([*block, i], least) < 0:
            blocks.append(block)
            block = [0]
        block.append(i)
    for side_by_side in [*blocks, block]:
        widths = whole if free(side_by_side, whole) >= 0 else least
        rest = max(0, free(side_by_side, widths))
        found = {}
        for i in side_by_side:
            more = min(rest, columns[i].most - columns[i].whole)
            rest, found[i] = rest - more, widths[i] + more
        yield found


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
    # In a notebook rich would show the table itself, and write nothing into the file.
    console = Console(
        file=file, width=size, color_system=None, legacy_windows=False, force_jupyter=False
    )
    console.print(grid)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()).rstrip("\n")
