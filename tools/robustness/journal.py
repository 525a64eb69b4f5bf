"""Damages the journal of a search in every way; no trial may be lost, none invented.

    python tools/robustness/journal.py             all damages
    python tools/robustness/journal.py --only=NUL  those with a word in their name

A search trains small models on synthetic reaches; one of its workers dies with a population that
is not trained. Then its directory is copied for each damage, the journal in the copy is damaged,
and the search continues there; a population with the same hyperparameters as an earlier one is
copied instead of trained again. Each damage is done to a journal of this version and to one of
earlier versions, whose lines have no checksum and no number of the trial.

Prints for each damage what was said, how many trials were lost, and how the search ended. Exits
with 1 if a trial is lost or has other hyperparameters or another score than its run, if a trial
was invented, if a journal that was damaged is said to be a new study, with a traceback, or unless
as many trials end as were asked for.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from helpers.recordings import small_reach

from stndt_jax.config import schema as configs
from stndt_jax.config.schema import Config
from stndt_jax.console import progress
from stndt_jax.errors import UserError
from stndt_jax.search import plan as plans
from stndt_jax.search import run, worker
from stndt_jax.search.study import JOURNAL, Study
from stndt_jax.search.worker import Search
from stndt_jax.training import loop

# Trials that are trained, that a dead worker leaves, and that are asked for in the end.
TRAINED, LEFT, ASKED = 4, 2, 8
NUL = b"\0"
Lines = list[bytes]
STUDY, SETTINGS, CREATE, PARAM, END = 0, 2, 4, 5, 6


def at(lines: Lines, kind: int, number: int = 0) -> int:
    """The index of a line of some kind."""
    return [i for i, line in enumerate(lines) if json.loads(line)["op_code"] == kind][number]


def without(kind: int, number: int = 0) -> Callable[[Lines], bytes]:
    """A damage: a line is missing."""

    def damage(lines: Lines) -> bytes:
        del lines[at(lines, kind, number)]
        return b"".join(lines)

    return damage


def changed(kind: int, number: int, change: Callable[[bytes], bytes]) -> Callable[[Lines], bytes]:
    """A damage: the content of a line, with its line end, is another."""

    def damage(lines: Lines) -> bytes:
        index = at(lines, kind, number)
        lines[index] = change(lines[index])
        return b"".join(lines)

    return damage


def inserted(content: bytes) -> Callable[[Lines], bytes]:
    """A damage: something stands between two lines."""
    return lambda lines: b"".join([*lines[:9], content, *lines[9:]])


def shuffled(lines: Lines) -> bytes:
    """A damage: the lines are in another order."""
    random.Random(0).shuffle(lines)
    return b"".join(lines)


def flipped(line: bytes) -> bytes:
    """One bit of a digit in the score changes."""
    index = line.index(b'"values":[') + 12
    return line[:index] + bytes([line[index] ^ 1]) + line[index + 1 :]


DAMAGES: dict[str, Callable[[Lines], bytes | None]] = {
    "none": lambda lines: b"".join(lines),
    "last line torn": lambda lines: b"".join(lines)[:-40],
    "end of the last line missing": lambda lines: b"".join(lines)[:-1],
    "blank line": inserted(b"\n"),
    "blank lines at the end": lambda lines: b"".join(lines) + b"\n" * 5,
    "creation of a trial twice": changed(CREATE, 2, lambda line: line * 2),
    "end of a trial twice": changed(END, 1, lambda line: line * 2),
    "whole journal twice": lambda lines: b"".join(lines * 2),
    "two records in a line": changed(PARAM, 5, lambda line: line[:-1]),
    "creation glued to the next record": changed(CREATE, 3, lambda line: line[:-1]),
    "torn record glued to a whole one": changed(PARAM, 5, lambda line: line[:50]),
    "torn creation glued to a whole record": changed(CREATE, 3, lambda line: line[:90]),
    "NUL bytes in place of an end": changed(END, 1, lambda line: NUL * len(line[1:]) + b"\n"),
    "NUL bytes in place of a creation": changed(CREATE, 1, lambda line: NUL * len(line)),
    "NUL bytes before a record": changed(END, 1, lambda line: NUL * 4096 + line),
    "NUL bytes at the end": lambda lines: b"".join(lines) + NUL * 4096,
    "bytes that are not UTF-8": changed(END, 0, lambda line: line[:30] + b"\xff\xfe" + line[32:]),
    "not UTF-8 in a creation": changed(CREATE, 2, lambda line: line[:30] + b"\xff" + line[31:]),
    "creation of the study missing": without(STUDY),
    "settings missing": without(SETTINGS),
    "creation of the first trial missing": without(CREATE, 0),
    "creation of a trial missing": without(CREATE, 2),
    "creation of the last trial missing": without(CREATE, -1),
    "all records of a trial missing": lambda lines: b"".join(
        line for k, line in enumerate(lines) if k != at(lines, CREATE, 1) and b'_id":1,' not in line
    ),
    "hyperparameter missing": without(PARAM, 3),
    "end of a trial missing": without(END, 2),
    "first half missing": lambda lines: b"".join(lines[len(lines) // 2 :]),
    "second half missing": lambda lines: b"".join(lines[: len(lines) // 2]),
    "lines in another order": shuffled,
    "a bit of a score flipped": changed(END, 0, flipped),
    "trial of an end unreadable": changed(END, 0, lambda line: line.replace(b'_id":', b'_id":x')),
    "other JSON between": inserted(b'{"a": 1}\n[]\nnull\n{"op_code":77,"worker_id":"x"}\n'),
    "line ends of Windows": lambda lines: b"".join(lines).replace(b"\n", b"\r\n"),
    "byte order mark": lambda lines: b"\xef\xbb\xbf" + b"".join(lines),
    "random bytes in place of all": lambda lines: random.Random(0).randbytes(5000),
    "emptied": lambda lines: b"",
    "removed": lambda lines: None,
}


class Trained:
    """In place of ``training.loop.train``: trains each configuration once, then copies its run."""

    def __init__(self) -> None:
        self._train, self._runs = loop.train, dict[str, Path]()

    def __call__(self, config: Config, data: Any, path: Path, **options: Any) -> list[str]:
        key = json.dumps(configs.to_mapping(config))
        if key not in self._runs:
            ended = self._train(config, data, path, **options)
            self._runs[key] = path
            return ended
        shutil.copytree(self._runs[key], path, dirs_exist_ok=True)
        return ["finished"] * config.population


class Original:
    """A search to damage."""

    def __init__(self, folder: Path) -> None:
        """Trains it, in a directory of its own."""
        small_reach(folder)
        self.folder = folder / "search"
        self.settings = [
            *("--config=tiny", f"--config.data.path={folder / 'reach.h5'}"),
            f"--config.data.targets={folder / 'reach_target.h5'}",
            *("--config.contrast.enabled=false", "--config.train.epochs=4"),
            # One program for all trials, to save time.
            *("--config.model.layers=1", "--config.model.feedforward=8"),
        ]
        self.search(self.folder, TRAINED)
        plan, data = plans.make(self.folder, self.settings, trials=TRAINED + LEFT, population="2")
        claim = Search(plan, data).claim()
        assert claim is not None
        claim.release()
        self.trials = {t.number: t for t in Study(self.folder).trials()}
        assert len(self.trials) == TRAINED + LEFT

    def search(self, folder: Path, trials: int) -> None:
        """Starts or continues the search."""
        run.search(
            folder, self.settings, trials=trials, population="2", quiet=True, say=lambda _: None
        )

    def check(self, folder: Path) -> list[str]:
        """What is wrong with a search that was continued."""
        found = {t.number: t for t in Study(folder).trials()}
        wrong = []
        for number, old in self.trials.items():
            new = found.get(number)
            if new is None or (new.run, new.member, new.params) != (
                old.run,
                old.member,
                old.params,
            ):
                wrong.append(f"trial {number} lost")
            elif old.value is not None and new.value != old.value:
                wrong.append(f"trial {number} has score {new.value}, not {old.value}")
        counted = {n: t for n, t in found.items() if t.state != "lost"}
        on_disk = {}
        for path in sorted((folder / "trials").iterdir()):
            values = worker.scores(path)
            params = json.loads((path / "population.json").read_text())["trials"]
            for member, trial in enumerate(params):
                on_disk[trial["number"]] = (path.name, member, trial["params"], values[member])
        if on_disk != {n: (t.run, t.member, t.params, t.value) for n, t in counted.items()}:
            wrong.append("study and runs differ")
        ended = [t for t in counted.values() if t.state == "complete"]
        if len(ended) != ASKED:
            wrong.append(f"{len(ended)} trials complete")
        return wrong


def earlier(line: bytes) -> bytes:
    """A line as earlier versions wrote it."""
    record = json.loads(line)
    record.pop("crc", None)
    if record["op_code"] == CREATE:
        record.pop("trial_id", None)
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def tried(original: Original, folder: Path, damage: Callable, old: bool) -> tuple[str, list[str]]:
    """Damages a copy of the search and continues it: what was said, and what is wrong."""
    shutil.copytree(original.folder, folder)
    path = folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    if old:
        (folder / "study.json").unlink()
        lines = [earlier(line) for line in lines]
    content = damage(lines)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            original.search(folder, ASKED)
            wrong = original.check(folder)
        except UserError as error:
            wrong = [f"refused: {error}"]
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            wrong = [f"TRACEBACK {type(error).__name__}: {error}"]
    ours = (str(one.message) for one in caught if one.category is UserWarning)
    said = "; ".join(dict.fromkeys(ours))
    return said.replace(f"{folder}/", "").replace(str(folder), "."), wrong


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="")
    flags = parser.parse_args()
    progress.off()
    loop.train = Trained()
    began = time.monotonic()
    bad = number = 0
    with tempfile.TemporaryDirectory() as name:
        original = Original(Path(name))
        damages = {key: one for key, one in DAMAGES.items() if flags.only in key}
        for title, damage in damages.items():
            for old in (False, True):
                if old and title == "a bit of a score flipped":
                    continue  # Without a checksum, this is another score.
                number += 1
                said, wrong = tried(original, Path(name) / f"{number}", damage, old)
                silent = not said and title not in SILENT
                bad += bool(wrong) or silent
                lost = sum("lost" in one for one in wrong)
                end = "; ".join(wrong) or f"{ASKED} trials complete"
                print(f"{number:2} {title}{', earlier version' * old}")
                print(f"     said: {said or ('NOTHING' if silent else 'nothing')}")
                print(f"     trials lost: {lost}; {end}", flush=True)
    print(f"{number} damages, {bad} wrong, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


# Damages without an effect, of which nothing need be said.
SILENT = (
    "none",
    "end of the last line missing",
    "end of a trial twice",
    "end of a trial missing",
)

if __name__ == "__main__":
    sys.exit(main())
