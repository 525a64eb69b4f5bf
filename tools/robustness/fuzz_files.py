"""Damages files for fuzz.py: any file as disks and kills do, HDF5 files as people do."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ODD_TEXTS = (
    *("", " ", "a", "x" * 5000, "ä", "日本", "\U0001f9e0", "\udcff", "a\nb", "a\tb", "\x1b[31m"),
    *("%s", "{}", "--", "-", "=", "==", "../x", ".", "..", "~", "*", "a:b", "'", '"', "\\", "None"),
    *("_20", "a/b", "\u2028", "\u202e", "null", "true", "nul\u0000"[:3], "A" * 300, "é" * 200),
)


def spoil_file(draw: random.Random, path: Path) -> str:
    """Damages an HDF5 file, or one that was one before."""
    if path.is_dir() or not h5py.is_hdf5(path) or draw.random() < 0.25:
        return spoil_bytes(draw, path)
    try:
        with h5py.File(path, "r+") as file:
            return _spoil_group(draw, file)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        return f"damaged before, too much to be opened ({type(error).__name__})"


def spoil_bytes(draw: random.Random, path: Path) -> str:
    """Damages a file as disks and kills do."""
    if path.is_dir() or path.is_symlink():
        return "left alone"
    content = bytearray(path.read_bytes() if path.exists() else b"")
    how = draw.choice(("flip", "flip", "truncate", "empty", "text", "noise", "insert", "zeros",
                       "folder", "missing", "loop"))  # fmt: skip
    if how in ("folder", "missing", "loop"):
        path.unlink(missing_ok=True)
        if how == "folder":
            path.mkdir()
        if how == "loop":
            path.symlink_to(path)
        return how
    if how == "flip":
        for _ in range(draw.choice((1, 4, 50))):
            if content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == "truncate":
        del content[draw.randrange(len(content) + 1) :]
    elif how == "empty":
        content.clear()
    elif how == "text":
        content = bytearray(draw.choice(ODD_TEXTS).encode(errors="replace"))
    elif how == "noise":
        content = bytearray(draw.randbytes(draw.choice((1, 100, 5000))))
    else:
        at, count = draw.randrange(len(content) + 1), draw.choice((1, 16, 300))
        content[at:at] = bytes(count) if how == "zeros" else draw.randbytes(count)
    path.write_bytes(content)
    return how


def _spoil_group(draw: random.Random, file: h5py.File) -> str:
    groups = [key for key in file if isinstance(file.get(key), h5py.Group)]
    group = file[groups[0]] if groups else file
    keys = [key for key in group if isinstance(group.get(key), h5py.Dataset)]
    if not keys or draw.random() < 0.2:
        return _spoil_frame(draw, file, group)
    key = draw.choice(keys)
    if draw.random() < 0.25:
        return f"{key}: {_replace(draw, group, key)}"
    if group[key].size > 10**7:  # said to be so large by an earlier damage
        return f"{key}: left alone"
    x = group[key][()]
    if np.asarray(x).dtype == object:
        return f"{key}: {_spoil_lists(draw, group, key)}"
    x = np.asarray(x)
    how = draw.choice(("type", "shape", "value", "value", "remove", "rename"))
    del group[key]
    if how == "rename":
        # A name that belongs to another key, as often as one that belongs to none.
        name = draw.choice((key + "_", key.upper(), "train_conditions", "eval_jitter", "psth"))
        if name not in group:
            group[name] = x
    elif how == "type":
        kinds = ("i1", "u8", "<i8", ">f8", "f2", "c8", "?", "S5", "f4", "i4", "u2", "V3")
        with np.errstate(all="ignore"):
            group[key] = x.astype(draw.choice(kinds))
    elif how == "shape":
        shapes: list[Callable] = [
            lambda: x.T, lambda: x[:-1], lambda: x[:, :-1], lambda: x[..., :-1], lambda: x[:0],
            lambda: x[..., :0], lambda: x[None], lambda: x.ravel(), lambda: x.ravel()[0],
            lambda: x[..., None], lambda: np.concatenate([x, x]), lambda: x[0], lambda: x.sum(),
        ]  # fmt: skip
        group[key] = draw.choice(shapes)()
    elif how == "value":
        x = x.astype(draw.choice(("f4", "f8", "i8")))
        odd = draw.choice((np.nan, np.inf, -np.inf, -1, 0.5, 1e30, 70000, 65535, 2.0**31, -2))
        where = draw.choice((0, slice(None), -1))
        with np.errstate(all="ignore"):
            x.reshape(-1)[where] = np.asarray(odd).astype(x.dtype)
        group[key] = x
    return f"{key}: {how}"


def _spoil_lists(draw: random.Random, group: h5py.Group, key: str) -> str:
    rows = [list(map(int, row)) for row in group[key][()]]
    del group[key]
    odd: list[Any] = [
        [*rows, []], rows[:-1], [[-1], *rows[1:]], [[10**6], *rows[1:]], [rows[0], *rows], [],
        [[2**63 - 1], *rows[1:]], [[]] * len(rows),
    ]  # fmt: skip
    rows = draw.choice(odd)
    kind = draw.choice(("i8", "i8", "f8", "u8", "i1"))
    target = group.create_dataset(key, (len(rows),), h5py.vlen_dtype(np.dtype(kind)))
    for number, row in enumerate(rows):
        values = np.array(row, "f8") * draw.choice((1.0, 1.0, 0.5, np.nan, 1e300))
        with np.errstate(all="ignore"):
            target[number] = (values if kind == "f8" else np.array(row, "i8")).astype(kind)
    return f"other lists of {kind}"


def _replace(draw: random.Random, group: h5py.Group, key: str) -> str:
    """Something that is no array of numbers, or no small one, in place of a data set."""
    shape = group[key].shape
    del group[key]
    how = draw.choice(("text", "texts", "reference", "group", "nowhere", "elsewhere", "itself",
                       "huge", "huger", "nothing", "record", "enumeration", "lists"))  # fmt: skip
    if how == "text":
        group[key] = draw.choice(("", "spikes", "ä"))
    elif how == "texts":
        group[key] = np.array([b"a", b"b"], dtype=h5py.string_dtype())
    elif how == "reference":
        group.create_dataset(key, (3,), dtype=h5py.ref_dtype)
    elif how == "group":
        group.create_group(key)
    elif how == "nowhere":
        group[key] = h5py.SoftLink("/nothing")
    elif how == "elsewhere":
        group[key] = h5py.ExternalLink("absent.h5", "/x")
    elif how == "itself":
        group[key] = h5py.SoftLink(f"{group.name.rstrip('/')}/{key}")
    elif how in ("huge", "huger"):
        size = 10**5 if how == "huge" else 10**9
        group.create_dataset(key, (size, size, 100), "f4", chunks=(1, 10, 10))
    elif how == "nothing":
        group[key] = h5py.Empty("f4")
    elif how == "record":
        group.create_dataset(key, shape, np.dtype([("a", "f4"), ("b", "i4")]))
    elif how == "enumeration":
        group.create_dataset(key, shape, h5py.enum_dtype({"NO": 0, "YES": 1}))
    else:
        group.create_dataset(key, (2,), h5py.vlen_dtype(h5py.vlen_dtype(np.dtype("f4"))))
    return how


def _spoil_frame(draw: random.Random, file: h5py.File, group: h5py.Group) -> str:
    """Attributes, groups, and keys that are seldom there."""
    how = draw.choice(("name", "bin_ms", "group", "rename", "extra", "extra", "clear"))
    if how in ("name", "bin_ms"):
        odd = (1.0, -5, np.nan, np.inf, 0, 1e300, 20, [1, 2], b"\xff", "a/b", "\u2028", "x" * 3000,
               "", ".", "_20", h5py.Empty("f4"), "reach\n", 10**30)  # fmt: skip
        value = draw.choice(odd)
        group.attrs[how] = float(value) if isinstance(value, int) else value
        return f"attribute {how}"
    if how == "group":
        file.create_group(draw.choice(("reach", "other_20", "ä", "x" * 300)))
    elif how == "rename" and group.name != "/":
        file.move(group.name, draw.choice(("/other", "/reach", "/_20", "/a b")))
    elif how == "clear":
        for key in list(group):
            del group[key]
    elif how == "extra":
        keys = ("eval_jitter", "train_decode_mask", "eval_decode_mask", "train_conditions", "psth",
                "eval_conditions", "train_rates_true", "eval_spikes_heldout")  # fmt: skip
        key = draw.choice(keys)
        if key in group:
            del group[key]
        shape = draw.choice(((6,), (12,), (12, 6), (6, 6), (), (3, 3, 3), (0,), (6, 6, 2)))
        group[key] = np.full(shape, draw.choice((0, 1, -1, np.nan, 1e6, 2.5)))
    return how
