"""How much may be read: sizes that files declare, against the memory that is free.

A file of megabytes can declare arrays of terabytes: compressed zeros in an .npz file, a data set of
HDF5 that was never written. Every reader asks here before it reads.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from stndt_jax.errors import UserError

# Reading, checking and splitting an array takes about as much again as the array.
COPIES = 2
# What expands by more than this and to more bytes than that holds next to nothing but equal
# numbers. Deflate reaches 1,030 at most; a spike every second at bins of 1 ms stays below 500.
MOST_EXPANDED = 900
SMALL = 2**30

# Limit, use and statistics of a control group, of version 2 and of version 1.
_CGROUP = Path("/sys/fs/cgroup")
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def available() -> int:
    """Bytes of memory that this process may still take.

    The least of the system's free memory and of the limit of the container or batch job; the
    machine's whole memory where neither is known.
    """
    found = [_free_memory(), *(_left_in_cgroup(*names) for names in _GROUPS)]
    known = [size for size in found if size is not None]
    return min(known) if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(what: str, size: int, stored: int | None = None, *, copies: float = COPIES) -> None:
    """Refuses to read what does not fit into memory, or expands out of next to nothing.

    Args:
      what: the file and what in it is read, with which the message starts.
      size: bytes that it takes in memory.
      stored: bytes that it takes in the file; None if unknown.
      copies: how many times the size is needed at most.

    Raises:
      UserError: it does.
    """
    free = available()
    if size * copies > free:
        raise UserError(
            f"{what} takes {_gib(size)} of memory and about {_gib(size * copies)} while it is "
            f"checked, more than the {_gib(free)} that are free; save a part of it, or counts as "
            f"uint8, or use a machine with more memory"
        )
    if stored is not None and size > SMALL and size > MOST_EXPANDED * max(stored, 1):
        raise UserError(
            f"{what} takes {_gib(size)} of memory, but only {stored} bytes in the file, as nothing "
            f"but equal numbers does; check how it was made, or save it uncompressed as uint8"
        )


def check_array(
    what: str, shape: tuple[int, ...], itemsize: int, stored: int | None = None
) -> None:
    """As :func:`check`, of an array.

    Args:
      what: the file and the array, with which the message starts.
      shape: its shape.
      itemsize: bytes of a number.
      stored: bytes that it takes in the file; None if unknown.

    Raises:
      UserError: it does not fit into memory.
    """
    check(f"{what} of shape {shape}", math.prod(shape) * itemsize, stored)


def _gib(size: float) -> str:
    return f"{size / 2**30:,.{0 if size > 100 * 2**30 else 1}f} GiB"


def _free_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _left_in_cgroup(limit: str, used: str, statistics: str) -> int | None:
    """What a control group leaves; None if there is none, or it has no limit."""
    try:
        left = int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text())
        # Files that lie in memory as well make room.
        cached = re.search(
            r"^inactive_file (\d+)", (_CGROUP / statistics).read_text(), re.MULTILINE
        )
    except (OSError, ValueError):
        return None
    return max(left + (int(cached[1]) if cached else 0), 0)
