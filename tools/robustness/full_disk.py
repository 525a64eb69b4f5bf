"""Fills the disk under a training run again and again; nothing may be lost.

    python tools/robustness/full_disk.py    (as root, to mount a small tmpfs; else it says so)

A population of 3 trains on synthetic reaches in a tmpfs of a few MB and saves all the time. The
disk is filled up to some bytes while it trains; that ends the process. Then, on the full disk, the
newest checkpoint is read and scored, and the same commands are tried again; space is freed, and
the next round goes on. Prints what was said, then the comparison with a run that nobody disturbed;
exits with 1 if a process ends with a traceback or another exit code than 2, if a checkpoint is
lost, or unless weights, selection, optimizer state and metrics are the same, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from chaos import command, compare, environment
from helpers.recordings import small_reach

from stndt_jax.runs.checkpoint import Checkpoints

# Bytes left when the disk is filled: the less, the smaller the file that meets the end.
LEFT = (0, 4096, 20_000, 60_000, 150_000, 300_000)


def fill(folder: Path, left: int) -> Path:
    """Writes a file until the disk is full, then takes ``left`` bytes back."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with path.open("r+b") as file:
        file.truncate(max(path.stat().st_size - left, 0))
    return path


def newest(run: Path) -> int:
    """The number of the newest checkpoint that is whole, 0 without one."""
    return Checkpoints(run / "checkpoints", repair=False).latest or 0


def until_full(words: list[str], folder: Path, disk: Path, left: int) -> tuple[int, str]:
    """Trains until there is a new checkpoint, fills the disk, and waits for the end."""
    run = disk / "run"
    before = {path.name for path in (run / "checkpoints").glob("[0-9]*.sha256")}
    with (folder / "stderr").open("w+") as stderr:
        process = subprocess.Popen(words, stderr=stderr, env=environment(folder))
        while process.poll() is None:
            now = {path.name for path in (run / "checkpoints").glob("[0-9]*.sha256")}
            if len(now - before) and now:
                fill(disk, left)
                break
            time.sleep(0.005)
        code = process.wait(timeout=300)
        stderr.seek(0)
        return code, stderr.read()


def error_of(text: str, disk: Path) -> str:
    """The lines of a process that are errors."""
    lines = [line for line in text.splitlines() if line.startswith("stndt: error")]
    return "; ".join(lines).replace(str(disk), "DISK") or text[-3000:]


def rounds(folder: Path, disk: Path, epochs: int) -> bool:
    """Fills the disk in every way, and prints what came of it; true if nothing was lost."""
    train, run, fine = command(disk, "run", epochs), disk / "run", True
    evaluate = [sys.executable, "-m", "stndt_jax", "evaluate", str(run)]
    for number, left in enumerate(LEFT, 1):
        before = newest(run)
        code, text = until_full(train, folder, disk, left)
        print(f"{number} filled up to {left} bytes: exit code {code}\n    {error_of(text, disk)}")
        fine &= code == 2 and "Traceback" not in text
        after = newest(run)
        print(f"    checkpoint {after} stands (before: {before})")
        fine &= after >= before and after > 0
        fill(disk, 0)
        for words in (evaluate, train):
            done = subprocess.run(words, capture_output=True, text=True, env=environment(folder))
            print(f"    {words[3]} on the full disk: exit code {done.returncode}")
            print(f"        {error_of(done.stderr, disk)}", flush=True)
            fine &= done.returncode == 2 and "Traceback" not in done.stderr
        fine &= newest(run) >= after
        (disk / "filler").unlink()
    done = subprocess.run(train, capture_output=True, text=True, env=environment(folder))
    print(f"space freed, then let finish: exit code {done.returncode}")
    scored = subprocess.run(evaluate, capture_output=True, text=True, env=environment(folder))
    print(f"evaluate: exit code {scored.returncode}")
    left_over = [path.name for path in run.rglob("*") if "partial" in path.name]
    print(f"left over from what could not be written: {', '.join(left_over) or 'nothing'}")
    return fine and done.returncode == 0 and scored.returncode == 0


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=8)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={flags.megabytes}m", "tmpfs", str(disk)]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            print("no tmpfs can be mounted here (that needs root), so no disk was filled")
            return 0
        try:
            for place in (folder, disk):
                small_reach(place)
            fine = rounds(folder, disk, flags.epochs)
            alone = command(folder, "alone", flags.epochs)
            subprocess.run(alone, check=True, capture_output=True, env=environment(folder))
            fine &= compare(folder / "alone", disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=False)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
