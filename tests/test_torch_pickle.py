"""Checkpoints are read and never run: every way in is tried."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import torch_files

from stndt_jax.errors import UserError
from stndt_jax.interop import torch_pickle


def test_tensors_containers_and_configuration_arrive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    given = {
        "state_dict": {
            "a": rng.normal(size=(3, 4)).astype(np.float32),
            "b": rng.normal(size=()),
            "c": np.arange(6).reshape(2, 1, 3),
            "d": rng.normal(size=(2, 3)).astype(np.float16),
            "e": np.zeros((0, 4), np.float32),
        },
        "config": torch_files.CfgNode(MODEL=torch_files.CfgNode(HEADS=2, NAME="x")),
        "rest": [1, 2.5, None, True, (3, {4}), "text"],
    }
    found = torch_pickle.read(torch_files.save(tmp_path / "some.pth", given))
    for name, value in given["state_dict"].items():  # type: ignore[attr-defined]
        np.testing.assert_array_equal(found["state_dict"][name], value)
        assert found["state_dict"][name].dtype == value.dtype
    assert found["config"] == {"MODEL": {"HEADS": 2, "NAME": "x"}}
    assert found["rest"] == given["rest"]


def test_a_view_of_a_storage_has_its_offset_and_strides(tmp_path: Path) -> None:
    """Storage 0..11, offset 1, shape (2, 3), strides (6, 2): entry (i, j) is 1 + 6 i + 2 j."""
    raw = _tensor(offset=1, size=(2, 3), stride=(6, 2))
    path = torch_files.archive(tmp_path / "view.pth", raw, [np.arange(12, dtype="f4").tobytes()])
    np.testing.assert_array_equal(torch_pickle.read(path)["x"], [[1, 3, 5], [7, 9, 11]])


def _tensor(offset: int, size: tuple, stride: tuple, kind: str = "FloatStorage") -> bytes:
    """A pickle of {"x": tensor}, opcode by opcode."""

    def ints(values: tuple) -> bytes:
        return b"(" + b"".join(b"J" + int(v).to_bytes(4, "little", signed=True) for v in values)

    return b"".join(
        [
            b"\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n",
            b"((X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\n",
            b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ",
            b"J" + offset.to_bytes(4, "little", signed=True),
            ints(size) + b"t" + ints(stride) + b"t",
            b"\x89}tRs.",
        ]
    )


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (13,), (1,)), (1, (12,), (1,)), (0, (2, 3), (9, 2)), (0, (1000, 1000), (0, 0)),
     (-1, (2,), (1,)), (0, (2,), (-1,))],
)  # fmt: skip
def test_tensors_beyond_their_storage_are_refused(
    offset: int, size: tuple, stride: tuple, tmp_path: Path
) -> None:
    raw = _tensor(offset, size, stride)
    path = torch_files.archive(tmp_path / "beyond.pth", raw, [np.arange(12, dtype="f4").tobytes()])
    with pytest.raises(UserError, match="damaged"):
        torch_pickle.read(path)


def test_bfloat16_by_hand(tmp_path: Path) -> None:
    numbers = np.array([1.0, -2.5, 0.15625] * 4, "f4")  # few digits: exact in 8 bits
    upper = (numbers.view("u4") >> 16).astype("u2")
    raw = _tensor(0, (12,), (1,), "BFloat16Storage")
    path = torch_files.archive(tmp_path / "half.pth", raw, [upper.tobytes()])
    np.testing.assert_array_equal(torch_pickle.read(path)["x"], numbers)


class Evil:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def _calls(marker: Path) -> dict[str, tuple[Evil, str]]:
    shell = f"touch {marker}"
    return {
        "os.system": (Evil(os.system, shell), f"{os.system.__module__}.system"),
        "eval": (Evil(eval, f"open({str(marker)!r}, 'w')"), "builtins.eval"),
        "open": (Evil(open, str(marker), "w"), "open"),
        "import": (Evil(__import__, "this"), "__import__"),
    }


@pytest.mark.parametrize("torch", ["absent", "present"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("way", ["os.system", "eval", "open", "import"])
def test_what_would_run_is_refused_by_name(
    way: str, protocol: int, torch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    evil, name = _calls(marker)[way]
    value = torch_files.checkpoint({"w": np.ones(3, np.float32)}) | {"extra_state": evil}
    path = torch_files.save(tmp_path / "evil.pth", value, protocol=protocol)
    # The file is a working attack: the ordinary reader would run it.
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("evil/data.pkl")
    assert name.rpartition(".")[2].encode() in raw
    fake = types.ModuleType("torch") if torch == "present" else None
    monkeypatch.setitem(sys.modules, "torch", fake)
    with pytest.raises(UserError) as error:
        torch_pickle.read(path)
    said = str(error.value)
    assert name.rpartition(".")[2] in said and "refused" in said and "\n" not in said
    assert not marker.exists()


def test_the_attack_itself_works(tmp_path: Path) -> None:
    """Without the allow-list the marker appears: the tests above refuse something real."""
    evil, _ = _calls(tmp_path / "ran")["os.system"]
    pickle.loads(pickle.dumps({"x": evil}))  # noqa: S301  (it is the test that it runs)
    assert (tmp_path / "ran").exists()


def test_every_refused_name_is_listed(tmp_path: Path) -> None:
    evil = [Evil(os.system, "true"), Evil(eval, "1")]
    with pytest.raises(UserError) as error:
        torch_pickle.read(torch_files.save(tmp_path / "two.pth", {"x": evil}))
    assert "system" in str(error.value) and "eval" in str(error.value)


OPCODES = {
    "a number that would fill memory": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a name from the interpreter's table": b"\x80\x02}X\x01\x00\x00\x00x\x82\x01s.",
    "an altered function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n"
    b"}X\x01\x00\x00\x00aK\x01sb.",
    "an instance of another class": b"\x80\x02(S'true'\nios\nsystem\n.",
    "cut short": b"\x80\x02}X\x09\x00\x00\x00x",
    "nothing": b"",
    "no dictionary": b"\x80\x02K\x01.",
    "no such storage": _tensor(0, (1,), (1,)).replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x005"),
    "a storage of an unknown kind": _tensor(0, (1,), (1,), "QuantizedStorage"),
    "a tensor of a dictionary": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(}K\x00))tR.",
}


@pytest.mark.parametrize("what", OPCODES)
def test_pickles_that_no_torch_wrote_are_refused(what: str, tmp_path: Path) -> None:
    path = torch_files.archive(tmp_path / "odd.pth", OPCODES[what], [bytes(4)])
    with pytest.raises(UserError) as error:
        torch_pickle.read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    legacy = tmp_path / "legacy.pth"
    legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    packed = torch_files.save(tmp_path / "packed.pth", {"x": 1}, compression=zipfile.ZIP_DEFLATED)
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("readme.txt", "nothing")
    cases = {
        legacy: "since version 1.6",
        packed: "compressed",
        other: "no data.pkl",
        tmp_path / "absent.pth": "does not exist",
        tmp_path: "is a directory",
    }
    for path, expected in cases.items():
        with pytest.raises(UserError, match=expected):
            torch_pickle.read(path)


def test_numpy_numbers_arrive(tmp_path: Path) -> None:
    """Best values may be numpy's, which pickles spell with a call and a type."""
    raw = pickle.dumps({"value": np.float64(0.25), "update": np.int64(7)}, 2)
    found = torch_pickle.read(torch_files.archive(tmp_path / "numbers.pth", raw, []))
    assert found == {"value": 0.25, "update": 7}


def test_nothing_of_the_allow_list_is_imported() -> None:
    reader = torch_pickle._Reader(b"", lambda kind, key: None)  # type: ignore[arg-type,return-value]
    for module, name in torch_pickle._ALLOWED:
        reader.find_class(module, name)
    assert not any(name == "yacs" or name.startswith("yacs.") for name in sys.modules)
    with pytest.raises(UserError):
        reader.find_class("collections", "OrderedDict.__init__.__globals__")
