"""Files of MATLAB; the oracle is SciPy's reader, and damage that it does not survive."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from stndt_jax.data import matlab
from stndt_jax.errors import UserError

RNG = np.random.default_rng(0)
ARRAYS = {
    **{kind: RNG.integers(0, 100, (3, 4, 5)).astype(kind)
       for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")},
    "logical": RNG.random((4, 3)) < 0.5,
    "row": np.arange(5.0)[None],
    "empty": np.zeros((0, 3)),
    "one": np.array([[7.5]]),
    "a_longer_name_than_eight": np.arange(6).reshape(2, 3),
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_those_that_scipy_reads(compressed, tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", ARRAYS, do_compression=compressed)
    wanted = scipy.io.loadmat(tmp_path / "x.mat")
    listed = matlab.variables(tmp_path / "x.mat")
    assert set(listed) == set(ARRAYS)
    for name in ARRAYS:
        found = matlab.read(tmp_path / "x.mat", name)
        assert listed[name] == (wanted[name].shape, "numbers")
        np.testing.assert_array_equal(found, wanted[name])


def test_cells_structures_texts_and_sparse_matrices(tmp_path):
    cells = np.empty((2, 2), object)
    cells[:] = [[np.arange(3.0), "left"], [np.ones((2, 2)), np.zeros((0, 0))]]
    sparse = scipy.sparse.random(30, 7, 0.2, random_state=0)
    deep = {"a": np.arange(4.0), "b": {"c": "text", "d": np.ones((3, 2))}}
    several = np.array([(1.0, np.arange(3.0)), (2.0, np.arange(2.0))], [("id", "f8"), ("ts", "O")])
    given = {"cells": cells, "sparse": sparse, "deep": deep, "several": several,
             "words": np.array(["ab", "cde"])}  # fmt: skip
    scipy.io.savemat(tmp_path / "x.mat", given, do_compression=True)
    path = tmp_path / "x.mat"
    found = matlab.read(path, "cells")
    assert found.shape == (2, 2) and found[0, 1] == "left"
    np.testing.assert_array_equal(found[0, 0].ravel(), np.arange(3))
    np.testing.assert_array_equal(found[1, 0], np.ones((2, 2)))
    np.testing.assert_array_equal(matlab.read(path, "sparse").toarray(), sparse.toarray())
    np.testing.assert_array_equal(matlab.read(path, "deep.b.d"), np.ones((3, 2)))
    assert matlab.read(path, "deep.b.c") == "text"
    rows = matlab.read(path, "several")
    assert [row["id"].item() for row in rows] == [1, 2] and rows[1]["ts"].ravel().tolist() == [0, 1]
    assert [word.strip() for word in matlab.read(path, "words")] == ["ab", "cde"]
    listed = matlab.variables(path)
    assert set(listed) == {"cells", "sparse", "deep.a", "deep.b.c", "deep.b.d", "several", "words"}
    assert listed["sparse"] == ((30, 7), "numbers") and listed["several"].kind == "structures"
    with pytest.raises(UserError, match=r"has no variable absent; it holds cells"):
        matlab.read(path, "absent")


def test_the_oldest_version(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.arange(6.0).reshape(2, 3)}, format="4")
    np.testing.assert_array_equal(matlab.read(tmp_path / "x.mat", "x"), [[0, 1, 2], [3, 4, 5]])


def test_damage_is_one_sentence_and_ends_no_process(tmp_path):
    cells = np.empty(3, object)
    cells[:] = [np.ones((2, 3)), "text", np.arange(4)]
    given = {"x": np.arange(24.0).reshape(4, 6), "cells": cells, "s": {"a": 1.0, "b": cells},
             "sparse": scipy.sparse.random(20, 5, 0.3, random_state=0)}  # fmt: skip
    rng = np.random.default_rng(0)
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "x.mat", given, do_compression=compressed)
        whole = (tmp_path / "x.mat").read_bytes()
        for _ in range(300):
            raw = bytearray(whole)
            for place in rng.integers(128, len(raw), rng.integers(1, 5)):
                raw[place] = rng.integers(256)
            (tmp_path / "y.mat").write_bytes(bytes(raw[: rng.integers(130, len(raw) + 1)]))
            try:
                for name in matlab.variables(tmp_path / "y.mat"):
                    matlab.read(tmp_path / "y.mat", name)
            except UserError as error:
                assert str(tmp_path / "y.mat") in str(error)


def bomb(path: Path, shape: tuple[int, int, int], written: int) -> None:
    """A file that declares an array of zeros and holds some of them, compressed."""
    size = int(np.prod(shape))
    head = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<IIiii", 5, 12, *shape) + bytes(4)
    head += struct.pack("<HH4s", 1, 1, b"x\0\0\0") + struct.pack("<II", 2, size)
    packer = zlib.compressobj(9)
    raw = packer.compress(struct.pack("<II", 14, len(head) + size) + head)
    for _ in range(written // 2**20):
        raw += packer.compress(bytes(2**20))
    raw += packer.flush()
    top = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
    path.write_bytes(top + struct.pack("<II", 15, len(raw)) + raw)


def test_sizes_are_compared_with_memory_before_reading(tmp_path):
    bomb(tmp_path / "x.mat", (4000, 1000, 1000), 2**26)
    assert matlab.variables(tmp_path / "x.mat")["x"].shape == (4000, 1000, 1000)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"x.mat: x takes 3.7 GiB of memory"):
        matlab.read(tmp_path / "x.mat", "x")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
