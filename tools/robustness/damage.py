"""Damages a run directory in many ways and looks what the next command makes of it.

    python tools/robustness/damage.py

A population of 3 trains on synthetic reaches and is terminated half way through. Every kind of
damage is done to a copy of its directory; then `stndt evaluate` and the same `stndt train` run on
it. Prints what was done, what was said, and whether training was refused or went on to the weights
and metrics of a run that nobody disturbed. Exits with 1 if anything ends with a traceback, with an
exit code that is not documented, or with other numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import fuzz
import jax
import numpy as np
from chaos import command, environment
from helpers.recordings import small_reach

from stndt_jax.training import restore

CODES = (0, 2)
TOLD = ("checkpoint", "damaged", "continuing", "newly", "stndt:", "removed")


class Damage(NamedTuple):
    """What is done to a run directory, in words and in deed.

    ``goes_on`` is whether training must go on; ``lost`` the rows of metrics that no run can
    bring back, because the only file that held them was damaged before the last checkpoint.
    """

    what: str
    do: Callable[[Path], object]
    goes_on: bool
    lost: int = 0


def newest(run: Path, age: int = 0) -> Path:
    """The newest checkpoint, or one that is so many older."""
    numbers = [int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdecimal()]
    return run / "checkpoints" / str(sorted(numbers)[-1 - age])


def digests(run: Path) -> Path:
    """The newest list of digests."""
    return newest(run).with_name(f"{newest(run).name}.sha256")


def array(run: Path, age: int = 0) -> Path:
    """The largest array file of a checkpoint."""
    return max(newest(run, age).rglob("d/*"), key=lambda path: path.stat().st_size)


def cut(path: Path, share: float = 0.5) -> None:
    """Leaves the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def no_place_aside(run: Path) -> None:
    """A damaged checkpoint, and a file where it would be moved to."""
    (run / "damaged").write_text("x")
    flip(array(run))


def append(path: Path, content: bytes) -> None:
    """Adds to a file."""
    with path.open("ab") as file:
        file.write(content)


def replace_line(path: Path, number: int, line: bytes) -> None:
    """Overwrites a line of a file."""
    lines = path.read_bytes().split(b"\n")
    lines[number] = line
    path.write_bytes(b"\n".join(lines))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Changes a JSON file."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def into_folder(path: Path) -> None:
    """Puts a folder where a file was."""
    path.unlink()
    path.mkdir()


def into_file(path: Path) -> None:
    """Puts a file where a folder was."""
    shutil.rmtree(path)
    path.write_text("no folder")


def lock(run: Path, content: bytes, age_s: float = 0.0) -> None:
    """Leaves a lock of some age."""
    path = run / "lock"
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)


def both(run: Path) -> None:
    """Damages every checkpoint there is."""
    flip(array(run))
    cut(array(run, 1))


def killed_save(run: Path) -> None:
    """A checkpoint whose list of digests was not yet written, and one that was still moving."""
    digests(run).unlink()
    shutil.copytree(newest(run), newest(run).with_name("999.orbax-checkpoint-tmp-1"))


DAMAGES = (
    Damage("nothing", lambda run: None, True),
    Damage("newest checkpoint: an array file cut in half", lambda run: cut(array(run)), True),
    Damage("newest checkpoint: one bit flipped", lambda run: flip(array(run)), True),
    Damage("newest checkpoint: a metadata file deleted",
           lambda run: next(newest(run).rglob("_METADATA")).unlink(), True),
    Damage("newest checkpoint: emptied", lambda run: into_file(newest(run)), True),
    Damage("newest checkpoint: a file that nobody wrote",
           lambda run: (newest(run) / "extra").write_text("x"), True),
    Damage("list of digests: cut in half", lambda run: cut(digests(run)), True),
    Damage("list of digests: the last line lost",
           lambda run: replace_line(digests(run), -2, b""), True),
    Damage("list of digests: empty", lambda run: digests(run).write_bytes(b""), True),
    Damage("list of digests: noise", lambda run: digests(run).write_bytes(b"\xff\x00" * 99), True),
    Damage("list of digests: a folder", lambda run: into_folder(digests(run)), True),
    Damage("killed while saving", killed_save, True),
    Damage("both checkpoints damaged", both, True),
    Damage("checkpoints: deleted", lambda run: shutil.rmtree(run / "checkpoints"), True),
    Damage("checkpoints: replaced by a file", lambda run: into_file(run / "checkpoints"), False),
    Damage("damaged/: a file, and a damaged checkpoint",
           no_place_aside, False),
    Damage("metrics.jsonl: an empty line",
           lambda run: append(run / "metrics.jsonl", b"\n\n"), True),
    Damage("metrics.jsonl: a line half written",
           lambda run: append(run / "metrics.jsonl", b'{"epoch": 60, "trai'), True),
    Damage("metrics.jsonl: noise at the end",
           lambda run: append(run / "metrics.jsonl", b"\xff\xfe\x00\n" * 5), True),
    Damage("metrics.jsonl: noise in place of a row",
           lambda run: replace_line(run / "metrics.jsonl", 3, b"\xff\x00"), True, lost=1),
    Damage("metrics.jsonl: a folder", lambda run: into_folder(run / "metrics.jsonl"), False),
    Damage("config.json: deleted", lambda run: (run / "config.json").unlink(), False),
    Damage("config.json: noise", lambda run: (run / "config.json").write_bytes(b"\xff{"), False),
    Damage("config.json: an unknown key",
           lambda run: edit(run / "config.json", lambda c: c["model"].update(laiers=2)), False),
    Damage("config.json: a text for a number",
           lambda run: edit(run / "config.json", lambda c: c["model"].update(layers="2")), False),
    Damage("config.json: another architecture",
           lambda run: edit(run / "config.json", lambda c: c["model"].update(layers=3)), False),
    Damage("run.json: deleted", lambda run: (run / "run.json").unlink(), False),
    Damage("run.json: no JSON", lambda run: cut(run / "run.json"), False),
    Damage("run.json: JSON of another shape", lambda run: (run / "run.json").write_text("[1]"),
           False),
    Damage("run.json: another fingerprint",
           lambda run: edit(run / "run.json", lambda r: r.update(data_fingerprint="0")), False),
    Damage("lock: noise, just now", lambda run: lock(run, b"\xff\x00"), True),
    Damage("lock: of an earlier version, just now",
           lambda run: lock(run, b'{"host": "elsewhere", "pid": 1}'), False),
    Damage("lock: of an earlier version, in the future",
           lambda run: lock(run, b'{"host": "elsewhere", "pid": 1}', -3600), True),
    Damage("lock: noise, two minutes old", lambda run: lock(run, b"\xff\x00", 120), True),
    Damage("lock: a folder", lambda run: (run / "lock").mkdir(), False),
    Damage("log.txt: a folder", lambda run: into_folder(run / "log.txt"), False),
    Damage("tensorboard: a file", lambda run: into_file(run / "tensorboard"), False),
)  # fmt: skip


def finished(run: Path) -> tuple[bytes, list[bytes]]:
    """Everything that a run has come to: all that is in its checkpoint, and its metrics."""
    leaves = jax.tree.leaves(restore.load(run).members)
    state = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
    return state, (run / "metrics.jsonl").read_bytes().splitlines()


def said(run: Path, *streams: str) -> list[str]:
    """The sentences of a process that tell of the directory."""
    lines = [line for stream in streams for line in stream.splitlines()]
    plain = [re.sub(r"\s+", " ", line.replace(str(run), "RUN")).strip() for line in lines]
    return [line for line in plain if any(word in line for word in TOLD)]


def attempt(damage: Damage, run: Path, train: list[str], whole: tuple[bytes, list[bytes]]) -> bool:
    """Runs both commands on a damaged directory and prints what came of it."""
    fine = True
    for name in ("evaluate", "train"):
        if name == "evaluate":  # reads only; in this process, which has compiled it already
            scored = fuzz.run(["evaluate", str(run)], run.parent, may_talk=True, seconds=300)
            code, text = scored.code, scored.err + scored.wrong
        else:
            done = subprocess.run(
                train, capture_output=True, text=True, env=environment(run.parent)
            )
            code, text = done.returncode, done.stderr
        fine &= code in CODES and "Traceback" not in text
        print(f"    {name:9} exit code {code}")
        for line in said(run, text):
            print(f"        {line}")
        if not fine:
            print(text[-3000:])
            return False
    if code:
        print("    => refused")
        return not damage.goes_on
    state, rows = finished(run)
    same = state == whole[0]
    missing = [row for row in whole[1] if row not in rows]
    fine = damage.goes_on and same and len(missing) == damage.lost
    fine &= [row for row in whole[1] if row in rows] == rows
    metrics = f"but for {len(missing)} row(s), said to be lost" if missing else "the same"
    print(f"    => went on; {'the same' if same else 'OTHER'} weights, metrics {metrics}")
    return fine


def train_half(words: list[str], run: Path, rows: int) -> int:
    """Trains until there are so many rows of metrics, then terminates; the exit code."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment(run.parent))
    metrics = run / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and len(metrics.read_bytes().splitlines()) >= rows:
            process.send_signal(signal.SIGTERM)
            process.wait()
        time.sleep(0.002)
    return process.returncode


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--only", default="", help="only damages whose words hold this")
    flags = parser.parse_args()
    warnings.simplefilter("always")  # one said about another directory was another one
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_reach(folder)
        alone = subprocess.run(
            command(folder, "alone", flags.epochs),
            capture_output=True,
            text=True,
            env=environment(folder),
        )
        half = train_half(command(folder, "half", flags.epochs), folder / "half", flags.epochs // 4)
        if alone.returncode or half != 143:
            print(alone.stderr, f"the half run ended with {half}")
            return 1
        whole = finished(folder / "alone")
        chosen = [damage for damage in DAMAGES if flags.only in damage.what]
        good = 0
        for number, damage in enumerate(chosen, 1):
            run = folder / "run"
            shutil.copytree(folder / "half", run)
            damage.do(run)
            print(f"{number:2} {damage.what}", flush=True)
            fine = attempt(damage, run, command(folder, "run", flags.epochs), whole)
            good += fine
            if not fine:
                print("    NOT AS IT SHOULD BE")
            shutil.rmtree(run)
    print(f"{good} of {len(chosen)} as they should be")
    return 0 if good == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
