"""Members of HDF5 files that any program may have written: links, attributes, texts, arrays.

Nothing here raises for a member that is not asked for: a link whose target is missing is reported,
and texts are decoded whatever their encoding.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from stndt_jax.data import limits
from stndt_jax.data.validation import explaining_damage
from stndt_jax.types import NDArray

_DEEPEST = 16  # groups inside one another
# What h5py raises on damaged bytes and on members that cannot be opened.
DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError)


class Member(NamedTuple):
    """A member of a file.

    Attributes:
      path: its path, without a leading slash.
      item: the group or array; None if it cannot be opened.
      reason: why it cannot be opened, to follow "it"; empty if it can.
    """

    path: str
    item: h5py.Group | h5py.Dataset | None
    reason: str = ""


def text(value: Any) -> str:
    """A text, UTF-8 or else Latin-1; of an array, its first value."""
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def texts(value: Any) -> list[str]:
    """Texts, of an array or of a single text."""
    if isinstance(value, str | bytes):
        return [text(value)]
    return [text(one) for one in np.ravel(np.asarray(value, object))]


def attribute(item: Any, name: str, default: Any = None) -> Any:
    """The value of an attribute, of an array of one value that value; ``default`` without one."""
    try:
        value = item.attrs.get(name)
    except DAMAGE:
        return default
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.flat[0]
    return default if value is None or isinstance(value, h5py.Empty) else value


def number(item: Any, name: str, default: float) -> float:
    """An attribute as a finite number; ``default`` if it is none."""
    try:
        value = float(attribute(item, name, default))
    except (TypeError, ValueError):
        return default
    return value if np.isfinite(value) else default


def member(group: h5py.Group, name: str) -> Member:
    """A member of a group, whether or not it can be opened."""
    path = f"{group.name or ''}/{name}".strip("/")
    try:
        return Member(path, group[name])
    except DAMAGE as error:
        reason = str(error)
    try:
        link = group.get(name, getlink=True)
    except DAMAGE:
        link = None
    if isinstance(link, h5py.ExternalLink):
        return Member(path, None, f"is a link to the file {link.filename}, which is not there")
    if isinstance(link, h5py.SoftLink):
        return Member(path, None, f"is a link to {link.path}, which is not there")
    return Member(path, None, f"cannot be read ({reason})" if link else "is missing")


def names_in(group: h5py.Group, where: str) -> list[str]:
    """The names of the members of a group.

    Raises:
      UserError: the group is damaged.
    """
    with explaining_damage(where):
        return list(group)


def array_in(group: h5py.Group, name: str) -> h5py.Dataset | None:
    """An array of a group; None if there is none, or it cannot be opened."""
    item = member(group, name).item
    return item if isinstance(item, h5py.Dataset) and item.shape is not None else None


def group_in(group: h5py.Group, path: str) -> h5py.Group | None:
    """A group inside a group; None if there is none, or it cannot be opened."""
    item = member(group, path).item
    return item if isinstance(item, h5py.Group) else None


def groups(file: h5py.Group, skip: Collection[str] = ()) -> Iterator[Member]:
    """All groups of a file, each once, and members that cannot be opened.

    Links are followed after everything else, so that a group has the path at which it is stored.

    Args:
      file: the open file.
      skip: names of groups at the top to leave out.
    """
    seen = set()
    queue: list[tuple[str, h5py.Group, int]] = [("", file, 0)]
    linked: list[tuple[str, h5py.Group, int]] = []
    while queue or linked:
        path, group, depth = queue.pop(0) if queue else linked.pop(0)
        if path:
            info = h5py.h5o.get_info(group.id)
            if (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            yield Member(path, group)
        try:
            names = [name for name in group if path or name not in skip]
        except DAMAGE as error:
            yield Member(path, None, f"cannot be read ({error})")
            continue
        below: list[tuple[str, h5py.Group, int]] = []
        for name in names:
            found = member(group, name)._replace(path=f"{path}/{name}".strip("/"))
            if found.item is None:
                yield found
            elif isinstance(found.item, h5py.Group) and depth < _DEEPEST:
                is_hard = isinstance(group.get(name, getlink=True), h5py.HardLink)
                (below if is_hard else linked).append((found.path, found.item, depth + 1))
        queue = below + queue


def is_text(data: h5py.Dataset) -> bool:
    """Whether an array holds texts."""
    return h5py.check_string_dtype(data.dtype) is not None


def load(data: h5py.Dataset, where: str) -> NDArray:
    """Reads a whole array; texts as texts.

    Args:
      data: the array.
      where: the file and what it holds, for messages.

    Raises:
      UserError: it cannot be read, or is too large for the memory.
    """
    with explaining_damage(where):
        shape, itemsize, stored = data.shape, data.dtype.itemsize, data.id.get_storage_size()
    limits.check_array(where, shape or (), itemsize, stored)
    with explaining_damage(where):
        x = data[()]
        if is_text(data):
            x = np.array([text(value) for value in np.ravel(x)], "U").reshape(np.shape(x))
    return np.asarray(x)


def whole_numbers(data: h5py.Dataset, where: str) -> NDArray | None:
    """Reads an array of whole numbers, as a list; None if it holds something else.

    Raises:
      UserError: it cannot be read.
    """
    x = np.ravel(load(data, where))
    if x.dtype.kind not in "uif" or not np.all(np.isfinite(x) & (np.abs(x) < 2.0**53)):
        return None
    return x.astype(np.int64)


def part(data: h5py.Dataset, where: str, start: int, stop: int, axis: int = 0) -> NDArray:
    """Reads the entries from ``start`` to ``stop`` of the first or the last axis.

    Raises:
      UserError: they cannot be read.
    """
    with explaining_damage(where):
        return data[..., start:stop] if axis else data[start:stop]
