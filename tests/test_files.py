"""files: atomic writes under unique names, appending, staging, reading, digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stndt_jax import files
from stndt_jax.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def at_once(*tasks: Callable[[], None]) -> list[BaseException]:
    """Runs tasks in threads that start together; returns what they raised."""
    gate = threading.Barrier(len(tasks))
    raised: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        gate.wait()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("suffix", [".json", ".npy", ""])
def test_a_temporary_name_is_unique_keeps_the_suffix_and_is_recognised(suffix: str) -> None:
    path = Path("folder") / f"rates.v1{suffix}"
    found = {files.temporary(path) for _ in range(100)}
    assert len(found) == 100
    for name in found:
        assert name.parent == path.parent and name.suffix == path.suffix
        assert name.name.startswith(".") and files.is_temporary(name)
    assert not files.is_temporary(path)


@pytest.mark.parametrize("name", ["run.json.partial", "metrics.partial", "parts.partial"])
def test_temporary_names_of_earlier_versions_are_recognised(name: str) -> None:
    assert files.is_temporary(Path("run") / name)


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "new \u2192 \n\r\n")
    assert path.read_bytes() == "new → \n\r\n".encode()
    files.write_bytes(path, memoryview(b"\x00\xff"))
    assert path.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.txt"]


def test_threads_that_write_one_file_at_once_do_not_meet(tmp_path: Path) -> None:
    path, length = tmp_path / "a.json", 20_000
    torn: list[str] = []

    def write(k: int) -> None:
        for _ in range(5):
            files.write_json(path, [k] * length)
            read = json.loads(path.read_text())
            if read != [read[0]] * length:
                torn.append(str(read)[:50])

    raised = at_once(*(lambda k=k: write(k) for k in range(4)))  # type: ignore[misc]
    assert raised == [] and torn == []
    assert names(tmp_path) == ["a.json"]


def test_two_writers_use_different_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    # The outer block ends last.
    assert path.read_text() == "one" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "a.txt"
    if there:
        path.write_text("old")
    before = names(tmp_path)
    with pytest.raises(ZeroDivisionError), files.replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == before
    assert not there or path.read_text() == "old"


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(No space left.*\); do this"):
        files.write_text(path, "new", "do this")
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent" / "a.txt", tmp_path / "folder"):
        with pytest.raises(UserError, match=f"{path} cannot be written"):
            files.write_text(path, "new")
    assert names(tmp_path) == ["folder"]


def test_json_has_no_nan_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1.5, float("nan"), (float("-inf"), 2)], 3: "\u00b5"})
    assert files.read_json(path) == {"a": [1.5, None, [None, 2]], "3": "µ"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{", b"[" * 100_000, b"\x00" * 9])
def test_damaged_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json cannot be read .*; mend it"):
        files.read_json(path, "mend it")
    with pytest.raises(UserError, match="does not exist"):
        files.read_json(tmp_path / "b.json")


def test_lines_appended_at_once_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"

    def append(k: int) -> None:
        for _ in range(50):
            files.append_line(path, str(k) * 5000)

    assert at_once(*(lambda k=k: append(k) for k in range(4))) == []  # type: ignore[misc]
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(str(k) * 5000 for k in range(4) for _ in range(50))


def test_a_line_that_does_not_fit_is_not_appended(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(UserError, match=r"cannot be written \(No space left"):
        files.append_line(full, "a")
    with pytest.raises(UserError, match="cannot be written"):
        files.append_line(tmp_path, "a")


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    with files.filling(tmp_path / "parts") as parts:
        (parts / "00").mkdir()
        (parts / "00" / "a").write_text("a")
        assert not (tmp_path / "parts").exists()
    assert names(tmp_path) == ["parts"]
    assert (tmp_path / "parts" / "00" / "a").read_text() == "a"


def test_a_directory_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.filling(tmp_path / "parts") as parts:
        (parts / "a").touch()
        raise ZeroDivisionError
    assert names(tmp_path) == []
    (tmp_path / "parts").touch()
    with (
        pytest.raises(UserError, match=f"{tmp_path / 'parts'} cannot be written"),
        files.filling(tmp_path / "parts") as parts,
    ):
        (parts / "a").touch()
    assert names(tmp_path) == ["parts"] and (tmp_path / "parts").is_file()


def test_files_are_added_to_a_directory_together(tmp_path: Path) -> None:
    for name in ("a", "b", "other"):
        (tmp_path / name).write_text("old")
    with pytest.raises(ZeroDivisionError), files.filling(tmp_path) as folder:
        (folder / "a").write_text("new")
        files.write_text(folder / "b", "new")
        assert files.destination(folder / "b") == tmp_path / "b"
        raise ZeroDivisionError
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == dict.fromkeys(
        ["a", "b", "other"], "old"
    )
    link = tmp_path.with_name(f"{tmp_path.name} link")
    link.symlink_to(tmp_path)
    with files.filling(link) as folder:
        (folder / "a").write_text("new")
        files.write_text(folder / "b", "new")
        (folder / "c").mkdir()
    assert names(tmp_path) == ["a", "b", "c", "other"]
    assert [(tmp_path / name).read_text() for name in ("a", "b", "other")] == ["new", "new", "old"]
    assert link.is_symlink()


def test_a_directory_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "c" / "d").mkdir(parents=True)
    for make in (
        lambda folder: (folder / "a").mkdir(),
        lambda folder: (folder / "c").touch(),
        lambda folder: (folder / "c").mkdir(),
    ):
        with (
            pytest.raises(
                UserError, match=r"[ac] cannot be written, because a \w+ of that name is in the way"
            ),
            files.filling(tmp_path) as folder,
        ):
            (folder / "0").touch()
            make(folder)
        assert names(tmp_path) == ["a", "c"] and names(tmp_path / "c") == ["d"]


def test_the_last_name_is_moved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        moved.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    with files.filling(tmp_path, last="b") as folder:
        for name in "abc":
            (folder / name).touch()
    assert moved == ["a", "c", "b"]


def test_the_final_name_of_what_is_being_written(tmp_path: Path) -> None:
    for name in ("run.json", "model", "a.b.nc"):
        assert files.destination(files.temporary(tmp_path / name)) == tmp_path / name
        assert files.destination(tmp_path / name) == tmp_path / name
    full = "cannot be written"
    with (
        pytest.raises(UserError, match=f"{tmp_path}/new/absent/a {full}"),
        files.filling(tmp_path / "new") as folder,
    ):
        files.write_text(folder / "absent" / "a", "")


@pytest.fixture(params=["pipe", "device", "socket", "directory", "link to a pipe"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that must not be opened as a file."""
    path = tmp_path / "x"
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif request.param == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
        if request.param != "pipe":
            (tmp_path / "link").symlink_to(path)
            return tmp_path / "link"
    return path


def test_inputs_are_regular_files(tmp_path: Path, no_file: Path) -> None:
    with pytest.raises(UserError, match=r"is a .*; give a regular file"):
        files.check_input(no_file)
    files.check_input(tmp_path / "absent")
    files.check_input("zero\0byte")
    files.check_input(__file__)


def test_outputs_replace_no_device_or_pipe(tmp_path: Path, no_file: Path) -> None:
    if no_file.is_dir():
        pytest.skip("a directory is refused by its own sentence")
    before = no_file.lstat()
    with pytest.raises(UserError, match=r"is a (named pipe|device|socket)"):
        files.check_output(no_file, "an HTML page")
    with pytest.raises(UserError, match=r"is a (named pipe|device|socket)"):
        files.write_text(no_file, "")
    assert no_file.lstat().st_mode == before.st_mode


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = ["run.json", "partial", ".hidden"]
    for name in (*kept, "run.json.partial"):
        (tmp_path / name).touch()
    files.temporary(tmp_path / "run.json").touch()
    (files.temporary(tmp_path / "parts") / "00").mkdir(parents=True)
    files.remove_temporary(tmp_path, older_than_s=3600)
    assert len(names(tmp_path)) == 6  # all are young
    files.remove_temporary(tmp_path)
    assert names(tmp_path) == sorted(kept)
    files.remove_temporary(tmp_path / "absent")


def test_a_download_is_resumed_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    with pytest.raises(ZeroDivisionError), files.resuming(path, "key") as (partial, file):
        file.write(b"half")
        raise ZeroDivisionError
    assert partial.read_bytes() == b"half" and partial.suffix != ".nwb"
    with files.resuming(path, "other") as (different, _):
        assert different != partial
    with files.resuming(path, "key") as (again, file):
        assert again == partial and file.tell() == 4
        with (
            pytest.raises(UserError, match="is being written by another process"),
            files.resuming(path, "key"),
        ):
            pass
        file.write(b" and half")
        file.flush()
        partial.replace(path)
    assert path.read_bytes() == b"half and half"


def test_digests(tmp_path: Path) -> None:
    # Test vector of FIPS 180-2.
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(b"abc") == abc
    (tmp_path / "inner" / "empty").mkdir(parents=True)
    (tmp_path / "inner" / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    assert files.sha256(tmp_path / "inner" / "b") == abc
    found = files.tree_sha256(tmp_path)
    assert found == {"a": hashlib.sha256().hexdigest(), "inner/b": abc}
    assert list(found) == ["a", "inner/b"]


def _hdf5(*keys: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for key in keys:
                file[key] = np.zeros(2)

    return write


def _text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


RECORDING = _hdf5("train_spikes_heldin")
SUBMISSION = _hdf5("maze/eval_rates_heldin")
RATES = _hdf5("rates", "unit_ids")
# Name of the output, its kind, how an existing one was made, and what the error says; "" is none.
OUTPUTS: dict[str, tuple[str, files.Output, Callable[[Path], Any] | None, str]] = {
    "input": ("in.h5", "an HTML page", None, "is an input"),
    "link to an input": ("link", "a .npy file of rates", None, "is an input"),
    "run.json": ("run/run.json", "an HTML page", None, "is a file of the run in"),
    "new name of a run": ("run/metrics.jsonl", "a table of stndt runs", None, "is a file of the"),
    "checkpoint": ("run/checkpoints/x.csv", "a table of stndt runs", None, "is a file of the run"),
    "page beside a run": ("run/report.html", "an HTML page", None, ""),
    "run directory": ("run", "a directory", None, "holds a run"),
    "new directory": ("model", "a directory", None, ""),
    "file as a directory": ("x", "a directory", _text("x"), "is a file, not"),
    "directory as a file": ("run", "an HTML page", None, "is a directory"),
    "page over a recording": ("x", "an HTML page", RECORDING, "a recording, not an HTML page"),
    "page over notes": ("x", "an HTML page", _text("notes"), "another file"),
    "page again": ("x", "an HTML page", _text("<!doctype html>\n<html>"), ""),
    "table again": ("x", "a table of stndt runs", _text("path,kind,config\n"), ""),
    "another table": ("x.csv", "a table of stndt runs", _text("a,b\n"), "another file"),
    "submission over a recording": ("x", "a submission file", RECORDING, "is a recording"),
    "submission again": ("x", "a submission file", SUBMISSION, ""),
    "rates over a submission": ("x", "a file of exported rates", SUBMISSION, "is a submission"),
    "rates again": ("x", "a file of exported rates", RATES, ""),
    "NWB over rates": ("x.nwb", "an NWB file", RATES, "not an NWB file"),
    "damaged": ("x", "a submission file", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), "damaged"),
    "rates over counts": (
        "x.npy",
        "a .npy file of rates",
        lambda p: np.save(p, np.zeros((2, 3, 4), np.int64)),
        "other numbers",
    ),
    "inferred again": (
        "x.npy",
        "a .npy file of rates",
        lambda p: np.save(p, np.zeros((2, 3, 4), np.float32)),
        "",
    ),
    "name that is too long": ("x" * 300, "an HTML page", None, ""),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_an_output_destroys_no_other_file(case: str, tmp_path: Path) -> None:
    name, kind, made, message = OUTPUTS[case]
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    RECORDING(tmp_path / "in.h5")
    (tmp_path / "link").symlink_to("in.h5")
    path = tmp_path / name
    if made is not None:
        made(path)
    if not message:
        files.check_output(path, kind, ["", tmp_path / "in.h5"])
        return
    with pytest.raises(UserError, match=re.escape(message)):
        files.check_output(path, kind, ["", tmp_path / "in.h5"])


def test_the_directory_of_an_output_is_made(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "typo"
    files.check_output(tmp_path / "new" / "deep" / "r.nc", "a file of exported rates", [run])
    assert (tmp_path / "new" / "deep").is_dir()
    # Of a run that does not exist, nothing is made.
    files.check_output(run / "report.html", "an HTML page", [run])
    assert not (tmp_path / "runs").exists()
    files.make_parent(run)
    assert (tmp_path / "runs").is_dir() and not run.exists()


def test_a_directory_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(
        UserError, match=r"a/b cannot be made a directory .*; choose another output"
    ):
        files.check_output(tmp_path / "a" / "b" / "r.nc", "a file of exported rates")
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # as for anyone but root
    with pytest.raises(UserError, match="c cannot be written"):
        files.make_parent(tmp_path / "c" / "r.nc")


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("an exported model", "manifest.json", '{"sha256": {}}'),
        ("a directory of scores", "scores.json", '{"data_fingerprint": "1f"}'),
    ],
)
def test_a_directory_replaces_one_of_its_kind_only(
    kind: files.Output, name: str, content: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    files.check_output(out, kind)
    out.mkdir()
    files.check_output(out, kind)
    for foreign in ("{}", "[]", "no JSON"):
        (out / name).write_text(foreign)
        with pytest.raises(UserError, match=rf"out holds other files \({name}\), not {kind}"):
            files.check_output(out, kind)
    (out / name).write_text(content)
    files.check_output(out, kind)
