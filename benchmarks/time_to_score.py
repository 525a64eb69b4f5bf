"""Seconds from typing ``stndt train`` to a stated co-bps on a recording, everything included.

    python benchmarks/time_to_score.py --data=val.h5 --targets=val_target.h5 --score=.24 \
        --settings=mc_maze_large,mc_maze_large:paper --lds

starts every setting as a user would, in a process of its own and a new directory: once with no
compiled program kept from before (cold) and once more (warm). It reads the file of metrics as it
grows and stops the process once a validation reaches the score. Prints JSON objects: seconds and
epoch, or, of a run that ended below, its best co-bps and how long it took. ``--lds`` adds the
linear dynamical system (extra ``lds``), which has a score at its end only. Validation is on the
evaluated trials, where the targets know them. Needs the whole package, unlike the other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parents[1]
POLL_S = 0.05


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of metrics; none before it exists."""
    if not path.exists():
        return []
    return [
        json.loads(line) for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]


def environment(cache: Path) -> dict[str, str]:
    """That of a command of this checkout, with its compiled programs in ``cache``."""
    return {**os.environ, "STNDT_CACHE": str(cache), "PYTHONPATH": str(ROOT)}


def train(setting: str, score: float, flags: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Trains until a validation of the first member reaches the score."""
    run = folder / "run"
    line = [sys.executable, "-m", "stndt_jax", "train", f"--config={setting}", *flags.flag]
    line += [f"--config.data.path={flags.data}", f"--config.data.targets={flags.targets}"]
    line += [f"--workdir={run}"]
    began = time.perf_counter()
    found: dict[str, Any] = {"setting": setting, "score": score, "seconds": None}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            line, stdout=said, stderr=subprocess.STDOUT, env=environment(flags.cache)
        )
        try:
            ended = False
            while not ended and found["seconds"] is None:
                ended = process.poll() is not None
                passed = time.perf_counter() - began
                for row in rows(run / "metrics.jsonl"):
                    if row["valid_cobps"][0] >= score:
                        found |= {"seconds": passed, "epoch": row["epoch"]}
                        break
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
    if found["seconds"] is None:
        found["trained_s"] = time.perf_counter() - began
        history = rows(run / "metrics.jsonl")
        if not history:
            raise SystemExit((folder / "said").read_text()[-2000:])
        found["best"] = max(row["valid_cobps"][0] for row in history)
    return found


def lds(flags: argparse.Namespace) -> dict[str, Any]:
    """Fits and scores the linear dynamical system, which has no score before its end."""
    line = [sys.executable, "-m", "stndt_jax", "baseline", "lds"]
    line += [f"--data={flags.data}", f"--targets={flags.targets}"]
    began = time.perf_counter()
    done = subprocess.run(line, env=environment(flags.cache), capture_output=True, text=True)
    seconds = time.perf_counter() - began
    scores = re.search(r"^lds\s+(\S+)", done.stdout, re.MULTILINE)
    if done.returncode or not scores:
        raise SystemExit(done.stdout + done.stderr)
    return {"setting": "lds", "trained_s": seconds, "best": float(scores[1])}


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--score", type=float, default=0.24)
    parser.add_argument("--settings", default="auto", help="names, with commas between them")
    parser.add_argument("--lds", action="store_true", help="time the linear dynamical system too")
    parser.add_argument("--flag", action="append", default=[], help="one more flag of stndt train")
    parser.add_argument("--repeats", type=int, default=1, help="warm starts")
    flags = parser.parse_args()
    flags.data, flags.targets = (str(Path(p).resolve()) for p in (flags.data, flags.targets))
    for setting in flags.settings.split(","):
        with tempfile.TemporaryDirectory() as cache:
            flags.cache = Path(cache)
            for start in ["cold", *["warm"] * flags.repeats]:
                with tempfile.TemporaryDirectory() as folder:
                    found = train(setting, flags.score, flags, Path(folder))
                machine.show(found | {"start": start} | machine.about())
    if flags.lds:
        machine.show(lds(flags) | machine.about())


if __name__ == "__main__":
    main()
