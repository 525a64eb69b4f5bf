"""Files of numpy: what lies in them, what they declare, and objects that are never executed."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from stndt_jax.data import limits, numpy_files, validation
from stndt_jax.errors import UserError


def objects(items: list) -> np.ndarray:
    found = np.empty(len(items), object)
    for number, item in enumerate(items):
        found[number] = item
    return found


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4", "f4", "?", "U3"])
def test_object_arrays_are_read_without_their_pickle(kind, protocol, tmp_path):
    x = [np.arange(6 * k).reshape(-1, 3).astype(kind) for k in (1, 2, 3)]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (3,), "fortran_order": False, "descr": "|O"}
    )
    raw = pickle.dumps(objects(x), protocol=protocol)
    (tmp_path / "x.npy").write_bytes(header.getvalue() + raw)
    found = numpy_files.load_numpy(tmp_path / "x.npy")
    assert isinstance(found, np.ndarray) and len(found) == 3
    for row, wanted in zip(found, x, strict=True):
        assert row.dtype == wanted.dtype
        np.testing.assert_array_equal(row, wanted)


def test_object_arrays_as_numpy_saves_them(tmp_path):
    x = objects([np.asfortranarray(np.arange(6.0).reshape(2, 3)), [1, 2.5], "left", None, 7])
    np.save(tmp_path / "x.npy", x, allow_pickle=True)
    np.savez(tmp_path / "x.npz", trials=x, other=np.ones(3))
    inside = numpy_files.load_numpy(tmp_path / "x.npz")
    assert isinstance(inside, dict)
    for found in (numpy_files.load_numpy(tmp_path / "x.npy"), inside["trials"]):
        np.testing.assert_array_equal(found[0], x[0])
        assert found[1:].tolist() == x[1:].tolist()
    square = objects([np.ones(2), np.zeros(2), np.ones(2), np.zeros(2)]).reshape(2, 2)
    np.save(tmp_path / "y.npy", square, allow_pickle=True)
    np.testing.assert_array_equal(numpy_files.load_numpy(tmp_path / "y.npy")[1, 1], np.zeros(2))


def test_a_saved_dictionary_is_named_arrays(tmp_path):
    x = np.arange(24).reshape(2, 3, 4)
    given = {"spikes": x, "bin_size": 0.02, "uneven": [[1, 2], [3]], "names": ["a", "b"]}
    np.save(tmp_path / "x.npy", given, allow_pickle=True)  # type: ignore[arg-type]
    found = numpy_files.load_numpy(tmp_path / "x.npy")
    assert isinstance(found, dict) and list(found) == list(given)
    np.testing.assert_array_equal(found["spikes"], x)
    assert found["bin_size"] == 0.02 and list(found["names"]) == ["a", "b"]
    assert [row.tolist() for row in found["uneven"]] == given["uneven"]


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


@pytest.mark.parametrize(
    ("items", "named"),
    [([Trap()], "pathlib"), ([{1, 2}], "set"), ([complex(1, 2)], "complex"), ([slice(1)], "slice")],
)
def test_other_objects_are_refused_and_not_executed(items, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", objects(items), allow_pickle=True)
    with pytest.raises(UserError, match=f"x.npy holds Python objects.*{named}.*numpy.savez"):
        numpy_files.load_numpy("x.npy")
    assert not Path("sprung").exists()


def test_damaged_pickles_are_one_sentence(tmp_path):
    np.save(tmp_path / "x.npy", objects([np.arange(5), np.arange(3)]), allow_pickle=True)
    whole = (tmp_path / "x.npy").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        raw = bytearray(whole)
        for place in rng.integers(128, len(raw), rng.integers(1, 4)):
            raw[place] = rng.integers(256)
        (tmp_path / "y.npy").write_bytes(bytes(raw[: rng.integers(130, len(raw) + 1)]))
        try:
            found = numpy_files.load_numpy(tmp_path / "y.npy")
            assert isinstance(found, np.ndarray) and found.nbytes <= len(raw) * 8
        except UserError as error:
            assert str(tmp_path / "y.npy") in str(error)


def bomb(path: Path, shape: tuple[int, ...], written: int) -> None:
    """An .npz file whose array declares a shape and holds so many zeros."""
    header = io.BytesIO()
    form = {"shape": shape, "fortran_order": False, "descr": "<f8"}
    np.lib.format.write_array_header_1_0(header, form)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(written // 2**20):
            file.write(bytes(2**20))


def test_sizes_are_compared_with_memory_before_reading(tmp_path, monkeypatch):
    bomb(tmp_path / "x.npz", (10**6, 10**3, 10**3), 2**20)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("g/x", (10**6, 10**3, 10**3), "f8", chunks=(1, 1000, 1000))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive, archive.open("x.npy") as member:
        (tmp_path / "x.npy").write_bytes(member.read(128) + bytes(100))
    tracemalloc.start()
    wanted = r"x.npz \(x \(1000000, 1000, 1000\)\) takes 7,451 GiB of memory and about 14,901 GiB"
    with pytest.raises(UserError, match=wanted):
        numpy_files.load_numpy(tmp_path / "x.npz")
    with (
        pytest.raises(UserError, match=r"g/x of shape \(1000000, 1000, 1000\) takes 7,451 GiB"),
        validation.open_group(tmp_path / "x.h5", ["g"], strict=True) as group,
    ):
        group.numbers("x")
    with pytest.raises(UserError, match=r"declares shape .* but holds .* it is truncated"):
        numpy_files.load_numpy(tmp_path / "x.npy")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_what_expands_from_next_to_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SMALL", 2**20)
    bomb(tmp_path / "x.npz", (2**22,), 2**25)
    with pytest.raises(UserError, match=r"only 32\d+ bytes in the file, as nothing but equal"):
        numpy_files.load_numpy(tmp_path / "x.npz")
    # Sparse counts of a real density are read.
    x = np.random.default_rng(0).poisson(0.001, (200, 1000, 30))
    np.savez_compressed(tmp_path / "y.npz", x)
    found = numpy_files.load_numpy(tmp_path / "y.npz")
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["arr_0"], x)


def test_what_is_free_is_the_least_that_is_known(tmp_path, monkeypatch):
    assert 2**20 < limits.available() < 2**50
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 400\nactive_file 9\n")
    assert limits.available() == 2400
    (tmp_path / "memory.max").write_text("max\n")
    assert limits.available() > 2**20


def test_headers_say_what_there_is(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((2, 3)), b=np.array(["x"]))
    found = numpy_files.headers(tmp_path / "x.npz")
    assert found["a"].shape == (2, 3) and found["b"].dtype.kind == "U"
    np.save(tmp_path / "x.npy", np.ones((4, 5), np.uint8))
    assert numpy_files.headers(tmp_path / "x.npy")[""][:2] == ((4, 5), np.dtype("u1"))
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 4) + b"()()")
    with pytest.raises(UserError, match=r"y.npy cannot be read as"):
        numpy_files.headers(tmp_path / "y.npy")
