"""Kills a training run again and again and compares what remains with a run left alone.

    python tools/robustness/chaos.py --kills 20

A population of 3 trains on synthetic reaches. Every process is killed with SIGKILL, half of them
in the middle of saving a checkpoint, the first or a later one, the others at any moment; the last
one is let finish. Prints a line a kill, then the comparison of weights, selection, optimizer state
and metrics; exits with 1 unless all are the same, bit for bit, and half of the starts at least had
a checkpoint to go on from.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from stndt_jax.data import hdf5, synthetic
from stndt_jax.training import restore

STARTED = ("training from newly initialised", "continuing from")


def command(folder: Path, run: str, epochs: int) -> list[str]:
    """The training command of this experiment."""
    return [
        *(sys.executable, "-m", "stndt_jax", "train", "--config=tiny"),
        f"--config.data.path={folder / 'reach.h5'}",
        f"--config.data.targets={folder / 'reach_target.h5'}",
        f"--config.train.epochs={epochs}",
        *("--config.population=3", "--config.train.save_every_s=0"),
        "--config.train.patience=100000",
        f"--workdir={folder / run}",
    ]


def saving(run: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    checkpoints = run / "checkpoints"
    names = {path.name for path in checkpoints.glob("*")} if checkpoints.is_dir() else set()
    return any(
        "tmp" in name or (name.isdecimal() and f"{name}.sha256" not in names) for name in names
    )


def newest(run: Path) -> int:
    """The number of the newest finished checkpoint, 0 without one."""
    names = [path.stem for path in (run / "checkpoints").glob("[0-9]*.sha256")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def disturb(args: list[str], run: Path, draw: random.Random, while_saving: bool) -> str:
    """Starts a process and kills it; returns what it was doing."""
    from_step = newest(run)
    began = time.monotonic()
    with (run.parent / "log").open("a") as log:
        process = subprocess.Popen(args, stdout=log, stderr=log, env=environment(run.parent))
    text = run / "log.txt"
    before = len(text.read_text().splitlines()) if text.exists() else 0

    def training() -> bool:
        lines = text.read_text().splitlines()[before:] if text.exists() else []
        return any(word in line for line in lines for word in STARTED)

    # A quarter of those at any moment come before training has begun.
    early = not while_saving and draw.random() < 0.25
    while process.poll() is None and not early and not training():
        time.sleep(0.01)
    deadline = time.monotonic() + (draw.uniform(0.0, 8.0) if not while_saving else 30.0)
    # Saves are let through at first, and one of the next ones is torn.
    last, left = newest(run), draw.randrange(5)
    while process.poll() is None and time.monotonic() < deadline:
        if newest(run) != last:
            last, left = newest(run), left - 1
        if while_saving and left <= 0 and saving(run):
            time.sleep(draw.uniform(0.0, 0.02))
            break
        time.sleep(0.002)
    busy = saving(run)
    if process.poll() is not None:
        process.wait()
        return f"ended by itself with {process.returncode}"
    process.kill()
    process.wait()
    return (
        f"killed after {time.monotonic() - began:5.1f} s, {'while saving' if busy else 'at work'}; "
        f"steps saved: {from_step} before, {newest(run)} now"
    )


def environment(folder: Path) -> dict[str, str]:
    """With a folder for compiled programs, so that a start takes seconds."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return os.environ | cache


def compare(a: Path, b: Path) -> bool:
    """Prints what is the same of two finished runs; true if everything is."""
    one, other = (restore.load(path) for path in (a, b))
    parts = {
        "weights": (one.members.state.params, other.members.state.params),
        "optimizer state": (one.members.state.opt_state, other.members.state.opt_state),
        "best by co-bps": (one.members.selection.cobps, other.members.selection.cobps),
        "best by loss": (one.members.selection.loss, other.members.selection.loss),
    }
    fine = True
    for name, (left, right) in parts.items():
        pairs = list(zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))
        same = sum(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)
        print(f"{name:16} {same} of {len(pairs)} arrays identical")
        fine &= same == len(pairs)
    rows = [(path / "metrics.jsonl").read_bytes() for path in (a, b)]
    print(f"{'metrics.jsonl':16} {'identical' if rows[0] == rows[1] else 'DIFFERENT'}, ", end="")
    print(f"{len(rows[0].splitlines())} rows")
    return fine and rows[0] == rows[1]


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    draw = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = synthetic.make("reach", seed=0, trials=64, eval_trials=16, bins=20, bins_forward=4)
        hdf5.write(data, folder / "reach.h5")
        hdf5.write_targets(data, folder / "reach_target.h5")
        alone = subprocess.run(
            command(folder, "alone", flags.epochs),
            capture_output=True,
            text=True,
            env=environment(folder),
        )
        if alone.returncode:
            print(alone.stderr)
            return 1
        again = command(folder, "killed", flags.epochs)
        for k in range(flags.kills):
            said = disturb(again, folder / "killed", draw, k % 2 == 0)
            print(f"{k + 1:3} {said}", flush=True)
            if "killed" not in said:
                print((folder / "log").read_text()[-2000:])
                return 1
        last = subprocess.run(again, capture_output=True, text=True, env=environment(folder))
        print(f"then let finish: exit code {last.returncode}")
        lines = (folder / "killed" / "log.txt").read_text().splitlines()
        for line in lines:
            if any(word in line for word in (*STARTED, "checkpoint")):
                print(f"    {line}")
        went_on = sum(STARTED[1] in line for line in lines)
        print(f"{went_on} of {flags.kills + 1} starts went on from a checkpoint")
        fine = last.returncode == 0 and compare(folder / "alone", folder / "killed")
        return 0 if fine and 2 * went_on >= flags.kills else 1


if __name__ == "__main__":
    sys.exit(main())
