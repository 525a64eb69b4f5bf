"""What cannot be read or written, and what the message then says."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.recordings import Arrays, both, input_arrays, ragged, store, target_arrays, toy

from stndt_jax.data import hdf5
from stndt_jax.errors import UserError


def edit(key: str, index: Any, value: float):
    def change(arrays: Arrays) -> None:
        arrays[key] = arrays[key].copy()
        arrays[key][index] = value

    return change


def put(key: str, array: np.ndarray):
    return lambda arrays: arrays.update({key: array})


def drop(*keys: str):
    return lambda arrays: [arrays.pop(key) for key in keys]


HELDIN, HELDOUT, EVAL = "train_spikes_heldin", "train_spikes_heldout", "eval_spikes_heldin"
TARGET = "eval_spikes_heldout"
NO_TRIALS = {key: array[:0] for key, array in input_arrays().items()}
NO_BINS = {key: array[:, :0] for key, array in input_arrays().items()}

# A change to good arrays, and what the message then holds, in this order.
WRONG_INPUTS = [
    (drop(HELDIN), "train_spikes_heldin missing ... held-in and held-out counts ... present: eval"),
    (drop(HELDOUT), "train_spikes_heldout missing ... co-smoothing needs"),
    (drop(EVAL), "eval_spikes_heldin missing ... evaluation needs held-in counts"),
    (drop(HELDOUT + "_forward"), "train_spikes_heldout_forward missing ... both of them, or"),
    (edit(HELDIN, (1, 2, 0), -1), "train_spikes_heldin holds -1.0 at (1, 2, 0) ... 0 or more"),
    (edit(HELDOUT, (0, 1, 1), 0.25), "train_spikes_heldout holds 0.25 at (0, 1, 1) ... whole"),
    (edit(EVAL, ([3, 2], [0, 4], [0, 1]), 0.5), "eval_spikes_heldin holds 0.5 at (2, 4, 1)"),
    (edit(HELDIN, (5, 4, 2), np.nan), "train_spikes_heldin holds nan at (5, 4, 2) ... targets"),
    (edit(EVAL, (0, 0, 0), np.nan), "eval_spikes_heldin holds nan at (0, 0, 0) ... targets"),
    (
        edit(HELDIN + "_forward", (0, 1, 0), np.inf),
        "heldin_forward holds inf at (0, 1, 0) ... finite",
    ),
    (edit(HELDIN, (0, 0, 1), 65536), "train_spikes_heldin holds 65536.0 at (0, 0, 1) ... 65535"),
    (put(HELDIN, np.full((6, 5, 3), 70000)), "train_spikes_heldin holds 70000 at (0, 0, 0)"),
    (put(HELDIN, np.full((6, 5, 3), -7)), "train_spikes_heldin holds -7 at (0, 0, 0)"),
    (put(HELDIN, np.array([b"abc"])), "train_spikes_heldin holds text ... array of numbers"),
    # Before 3.13, h5py writes none of them.
    *[(put(HELDIN, np.array(["a"], "T")), "train_spikes_heldin holds text ... array of numbers")]
    * (h5py.version.version_tuple >= (3, 13)),
    (put(HELDIN, np.ones((6, 5, 3), complex)), "train_spikes_heldin holds type complex128"),
    (put(HELDIN, np.ones((6, 15))), "train_spikes_heldin has shape (6, 15) ... 3 axes ... trials"),
    (put(HELDOUT, np.ones((7, 5, 2))), "heldout has shape (7, 5, 2) ... 7 train ... heldin has 6"),
    (put(HELDOUT, np.ones((6, 4, 2))), "heldout has shape (6, 4, 2) ... 4 obs ... heldin has 5"),
    (put(EVAL, np.ones((4, 6, 3))), "eval_spikes_heldin has ... 6 observed bins ... heldin has 5"),
    (put(EVAL, np.ones((4, 5, 2))), "eval_spikes_heldin has ... 2 held-in ... heldin has 3"),
    (put(HELDIN + "_forward", np.ones((6, 2, 4))), "heldin_forward has ... 4 held-in ... has 3"),
    (put(HELDOUT + "_forward", np.ones((6, 3, 2))), "heldout_forward has ... 3 forward ... has 2"),
    (put(TARGET + "_forward", np.ones((4, 3, 2))), "heldout_forward has ... 3 forward ... has 2"),
    (lambda x: x.update(NO_TRIALS), "train_spikes_heldin has shape (0, 5, 3) ... no train trials"),
    (lambda x: x.update(NO_BINS), "train_spikes_heldin has shape (6, 0, 3) ... no observed bins"),
    (put(EVAL, np.ones((0, 5, 3))), "eval_spikes_heldin has shape (0, 5, 3) ... no eval trials"),
    (put(HELDOUT, np.ones((6, 5, 0))), "train_spikes_heldout has ... no held-out neurons"),
    (put("train_behavior", np.ones((6, 4, 2))), "train_behavior has ... 4 observed bins"),
    (put("train_behavior", np.ones(6)), "train_behavior has shape (6,) ... 3 axes"),
    (edit("train_behavior", (0, 3, 1), -np.inf), "train_behavior holds -inf at (0, 3, 1)"),
    (put("train_rates_true", -np.ones((6, 7, 5))), "train_rates_true holds -1.0 at (0, 0, 0)"),
    (put("train_rates_true", np.ones((6, 5, 5))), "train_rates_true has ... 5 bins ... has 7"),
    (put("train_conditions", np.array([0, 1, 2, 0.5])), "train_conditions holds 0.5 at (3,)"),
    (put("train_conditions", np.zeros(5)), "train_conditions has shape (5,) ... 5 train trials"),
]
WRONG_TARGETS = [
    (drop(TARGET), "eval_spikes_heldout missing ... to be predicted ... present: eval_"),
    (put(TARGET, np.ones((5, 5, 2))), "heldout has ... 5 eval trials ... in.h5: eval_spikes_h"),
    (put(TARGET, np.ones((4, 6, 2))), "eval_spikes_heldout has ... 6 observed bins"),
    (put(TARGET, np.ones((4, 5, 1))), "eval_spikes_heldout has ... 1 held-out neurons"),
    (put(EVAL + "_forward", np.ones((4, 3, 3))), "heldin_forward has ... 3 forward bins"),
    (edit(TARGET, (0, 0, 1), 1.5), "eval_spikes_heldout holds 1.5 at (0, 0, 1)"),
    (edit(TARGET, (0, 0, 1), np.inf), "eval_spikes_heldout holds inf at (0, 0, 1)"),
    (put("eval_behavior", np.ones((5, 5, 2))), "eval_behavior has ... 5 eval trials"),
    (put("psth", np.ones((3, 5, 3))), "psth has shape (3, 5, 3) ... 3 neurons ... has 5"),
    (put("psth", -np.ones((3, 5, 5))), "psth holds -1.0 at (0, 0, 0)"),
    (drop("eval_cond_idx"), "eval_cond_idx missing ... psth needs"),
    (put("eval_cond_idx", ragged([[0], [1]])), "eval_cond_idx has ... 2 conditions ... psth has 3"),
    (put("eval_cond_idx", ragged([[0], [4], []])), "eval_cond_idx holds trial 4 in row 1 ... 4"),
    (put("eval_cond_idx", ragged([[0], [-2], []])), "eval_cond_idx holds -2 in row 1"),
    (put("train_cond_idx", ragged([[0, 1], [2], [1]])), "train_cond_idx holds trial 1 in rows 0"),
    (put("eval_cond_idx", np.array([b"a"])), "eval_cond_idx holds text ... one list"),
    (
        lambda x: (x.pop("train_cond_idx"), x.update(train_conditions=np.array([0, 1, 3]))),
        "train_conditions holds 3 at (2,) ... 0 to 2",
    ),
]


def told(cases: list[tuple[Any, str]]) -> list[str]:
    """Names of cases: the messages, as functions have no name that lasts."""
    return [message.split(" ... ")[0] for _, message in cases]


def assert_told(message: str, *parts: str) -> None:
    """All parts stand in the message, in their order."""
    end = 0
    for part in " ... ".join(parts).split(" ... "):
        found = message.find(part, end)
        assert found >= 0, f"{part!r} is not in what follows character {end} of {message!r}"
        end = found + len(part)


@pytest.mark.parametrize(("change", "message"), WRONG_INPUTS, ids=told(WRONG_INPUTS))
def test_wrong_input_files(tmp_path, change, message):
    inputs = input_arrays()
    change(inputs)
    path = store(tmp_path / "in.h5", inputs)
    with pytest.raises(UserError) as error:
        hdf5.read(path)
    assert_told(str(error.value), f"{path}: ", message)


@pytest.mark.parametrize(("change", "message"), WRONG_TARGETS, ids=told(WRONG_TARGETS))
def test_wrong_target_files(tmp_path, change, message):
    targets = target_arrays()
    change(targets)
    with pytest.raises(UserError) as error:
        both(tmp_path, targets=targets)
    assert_told(str(error.value), f"{tmp_path / 'out.h5'}: mc_maze/", message)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "out.h5 has no single group ... present: area2_bump, mc_rtt"),
        ({"name": "mc_maze"}, "out.h5 has no group mc_maze ... present: area2_bump, mc_rtt"),
        ({"name": "mc_rtt", "bin_ms": 20}, "out.h5: mc_rtt/bin_ms is 5 ... 20"),
    ],
)
def test_the_target_group_must_be_there(tmp_path, asked, message):
    source = store(tmp_path / "in.h5", input_arrays())
    target = store(tmp_path / "out.h5", target_arrays(), "mc_rtt", bin_ms=5)
    store(target, target_arrays(), "area2_bump")
    with pytest.raises(UserError) as error:
        hdf5.read(source, target, **asked)
    assert_told(str(error.value), message)
    if "bin_ms" not in asked:
        with pytest.raises(UserError, match=r"present: area2_bump, mc_rtt"):
            hdf5.read_targets(target, asked.get("name"))


def test_a_group_of_another_name_is_not_what_was_asked_for(tmp_path):
    source = store(tmp_path / "in.h5", input_arrays())
    target = store(tmp_path / "out.h5", target_arrays(), "mc_rtt")
    assert hdf5.read(source, target).name == "mc_rtt"
    with pytest.raises(UserError, match="has no group mc_maze or mc_maze_20; present: mc_rtt"):
        hdf5.read(source, target, name="mc_maze")
    elsewhere = store(tmp_path / "grouped.h5", input_arrays(), "mc_rtt")
    with pytest.raises(UserError, match=r"no group mc_maze .* present: mc_rtt"):
        hdf5.read(elsewhere, name="mc_maze")


@pytest.mark.parametrize("value", ["wide", 0, -5.0, np.nan, np.array([5.0, 5.0])])
def test_a_bin_width_that_is_none(tmp_path, value):
    path = store(tmp_path / "in.h5", input_arrays(), bin_ms=value)
    with pytest.raises(UserError, match=r"in\.h5: bin_ms is .*; write one positive number"):
        hdf5.read(path)


def test_what_stands_in_place_of_an_array(tmp_path):
    inputs = input_arrays()
    del inputs[HELDIN]
    for name, content in (("group", None), ("empty", h5py.Empty("f4")), ("link", "/nowhere")):
        path = store(tmp_path / f"{name}.h5", inputs)
        with h5py.File(path, "a") as file:
            if name == "group":
                file.create_group(HELDIN)
            else:
                file[HELDIN] = h5py.SoftLink(content) if name == "link" else content
        message = f"{name}.h5: train_spikes_heldin " + (
            "holds nothing" if name == "empty" else "miss"
        )
        with pytest.raises(UserError, match=message):
            hdf5.read(path)


def missing(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("train_spikes_heldin")


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    store(path, input_arrays())
    os.truncate(path, path.stat().st_size // 2)


def nothing_inside(path: Path) -> None:
    h5py.File(path, "w").close()


def damaged(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for key, array in input_arrays().items():
            file.create_dataset(key, data=array, compression="gzip")
        chunk = file["train_spikes_heldout"].id.get_chunk_info(0)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "no such file"),
        (folder, "is a folder"),
        (text, r"is not an HDF5 file \(19 bytes\)"),
        (empty, r"is not an HDF5 file \(0 bytes\)"),
        (truncated, "truncated"),
        (nothing_inside, "present: nothing"),
        (damaged, ": train_spikes_heldout cannot be read: .*damaged"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, make, message):
    path = tmp_path / "bad.h5"
    make(path)
    with pytest.raises(UserError, match=r"bad\.h5.*" + message):
        hdf5.read(path)
    good = store(tmp_path / "in.h5", input_arrays())
    if make is not damaged:
        with pytest.raises(UserError, match=r"bad\.h5.*" + message):
            hdf5.read(good, path)
        with pytest.raises(UserError, match=r"bad\.h5.*" + message):
            hdf5.read_targets(path)


def test_a_file_in_a_file(tmp_path):
    store(tmp_path / "in.h5", input_arrays())
    with pytest.raises(UserError, match=r"in\.h5/x\.h5 cannot be read: Not a directory"):
        hdf5.read(tmp_path / "in.h5" / "x.h5")


@pytest.mark.parametrize("write", [hdf5.write, hdf5.write_targets])
def test_places_that_cannot_be_written(tmp_path, write):
    (tmp_path / "file").write_text("kept")
    for path, message in (
        (tmp_path, "Is a directory"),
        (tmp_path / "no" / "x.h5", "No such file or directory"),
        (tmp_path / "file" / "x.h5", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(UserError, match=message) as error:
            write(toy(), path)
        assert str(path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "in.h5"
    hdf5.write(toy(), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"in\.h5 cannot be written \(File too large\)"):
            hdf5.write(toy(trials=50), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5"] and path.read_bytes() == before


def test_the_file_appears_under_its_name_when_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "in.h5"
    hdf5.write(toy(), path)
    before = path.read_bytes()
    seen = []

    def interrupted(whole: Path, final: Path) -> None:
        seen.append((Path(whole).parent, len(hdf5.read(whole).train), final))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hdf5.write(toy(trials=9), path)
    assert seen == [(tmp_path, 9, path)]
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5"] and path.read_bytes() == before
