"""Broken and hostile input: a few drawn by hypothesis, a few by the fuzzing harness."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import string
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stndt_jax.cli import main as cli
from stndt_jax.config import loading, schema
from stndt_jax.errors import UserError
from stndt_jax.runs import checkpoint, directory, log
from stndt_jax.runs.lock import Lock, holder

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = [name for name, _, _ in schema.documentation() if "NAME" not in name]


TINY = schema.to_mapping(loading.load(["--config=tiny"]))


@quick
@given(key=st.sampled_from(KEYS), value=values)
def test_any_value_is_taken_or_refused_by_its_key(key: str, value: Any) -> None:
    changed = copy.deepcopy(TINY)
    section, _, leaf = key.rpartition(".")
    (changed[section] if section else changed)[leaf] = value
    try:
        taken = schema.from_mapping(changed)
    except UserError as error:
        assert key.rpartition(".")[2] in str(error)
        return
    # What was taken is what is written and read again.
    again = json.loads(json.dumps(schema.to_mapping(taken)))
    assert schema.from_mapping(again) == taken
    assert all(np.isfinite(leaf).all() for leaf in schema.hyper(taken))


@quick
@given(content=st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_as_json_are_a_run_or_a_sentence(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run")
    for name, read in (("config.json", directory.read_config), ("run.json", directory.read_run)):
        (path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}.*restore"):
            read(path)


@quick
@given(
    lines=st.lists(st.binary(max_size=20) | values.map(lambda v: json.dumps(v).encode())),
    place=st.integers(0, 3),
)
def test_whole_rows_survive_whatever_stands_between_them(
    lines: list[bytes], place: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run")
    rows = [json.dumps({"epoch": epoch, "loss": [0.1]}).encode() for epoch in (2, 4, 6)]
    noise = [b"# " + line for line in lines]  # no row by chance
    mixed = rows[:place] + noise + rows[place:]
    (path / "metrics.jsonl").write_bytes(b"\n".join(mixed) + b"\n")
    log.RunLog(path, epochs=8, first_epoch=4, quiet=True).close()
    assert (path / "metrics.jsonl").read_bytes().splitlines() == rows[:2]


@quick
@given(content=st.binary(max_size=40) | values.map(lambda v: json.dumps(v).encode()))
def test_what_a_lock_file_holds_is_no_lock(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run")
    (path / "lock").write_bytes(content)
    assert holder(path) is None
    with Lock(path) as held:
        held.check()
    assert not (path / "lock").exists()


@quick
@given(content=st.binary(max_size=100) | st.text(string.hexdigits + " /\n").map(str.encode))
def test_no_checkpoint_is_whole_by_another_list_of_digests(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "1").mkdir()
    (folder / "1" / "array").write_bytes(b"numbers")
    (folder / "1.sha256").write_bytes(content)
    assert checkpoint.damage(folder, 1)
    (folder / "1" / "array").unlink()
    assert checkpoint.damage(folder, 1)


@quick
@given(words=st.lists(st.text(max_size=10), max_size=4))
def test_any_words_end_in_one_line(words: list[str]) -> None:
    # A first letter of its own, so that no word is a command that does something.
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = cli.main([f"_{word}" for word in words])
    lines = err.getvalue().splitlines()
    assert code == (2 if words else 0)
    start = "stndt: error: there is no command _"
    assert len(lines) == bool(words) and all(line.startswith(start) for line in lines)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Place:
    return fuzz.make_place(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of whole files among the inputs
def test_sixty_inputs_end_as_documented(place: fuzz.Place) -> None:
    report = fuzz.fuzz(list(range(60)), seed=0, place=place)
    assert report["failures"] == []
    assert report["inputs"] == 60
    # The harness itself must get through the door, and be refused at it.
    assert report["by exit code"]["0"] > 5
    assert report["by exit code"]["2"] > 20


def test_the_harness_sees_what_it_looks_for(
    place: fuzz.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(code: int, err: str) -> str:
        def main(_: list[str]) -> int:
            fuzz.sys.stderr.write(err)
            return code

        monkeypatch.setattr(cli, "main", main)
        return fuzz.run([], tmp_path, may_talk=False, seconds=5).wrong

    def raises(_: list[str]) -> int:
        raise ValueError("a bug")

    def hangs(_: list[str]) -> int:
        while True:
            pass

    assert said(0, "") == said(2, "stndt: error: x\n") == ""
    assert said(5, "") == "exit code 5"
    assert said(2, "") == "0 lines of error"
    assert said(2, "noise\nstndt: error: x\n") == "more than one line"
    monkeypatch.setattr(cli, "main", raises)
    assert "ValueError: a bug" in fuzz.run([], tmp_path, may_talk=False).wrong
    monkeypatch.setattr(cli, "main", hangs)
    assert fuzz.run([], tmp_path, may_talk=False, seconds=0.1).wrong == "hang"
