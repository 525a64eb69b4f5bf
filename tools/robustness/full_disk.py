"""Fills the disk under every command that writes, again and again; nothing may be lost.

    python tools/robustness/full_disk.py    (as root, to mount a small tmpfs; else it says so)
    python tools/robustness/full_disk.py --only=commands

train     A population of 3 trains on synthetic reaches in a tmpfs of a few MB and saves all the
          time. The disk is filled up to some bytes while it trains; that ends the process. Then, on
          the full disk, the newest checkpoint is read and scored, and the same commands are tried
          again; space is freed, and the next round continues. At the end, the run is compared with
          one that nobody disturbed.
commands  Every command that writes an output runs twice on a disk with less space than its output
          needs: to a new output, and to an existing one. Then space is freed, and it runs again.
search    The disk is filled under two workers of one search; space is freed, and two workers finish
          it.

Exits with 1 if a process ends with a traceback, more than one error line or another exit code than
2; if a checkpoint or an earlier output is lost or changed, or a file is left of what could not be
written; if a command does not succeed once there is space; or unless weights, selection, optimizer
state and metrics are the same, bit for bit, and every trial of the search is complete, once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import chaos_search
import fuzz
import numpy as np
from chaos import command, compare, environment
from helpers.recordings import small_reach

from stndt_jax import files
from stndt_jax.data import hdf5, synthetic
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
        print(f"    checkpoint {after} is whole (before: {before})")
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


def stndt(folder: Path, *words: object) -> fuzz.Outcome:
    """Runs a command of stndt in this process, which compiles once; a crash ends the experiment."""
    return fuzz.run([*map(str, words)], folder, may_talk=True, seconds=300)


def inputs(folder: Path) -> None:
    """What the commands read: recordings, counts, an NWB file, a run and its model."""
    data = synthetic.make("reach", seed=0, trials=64, eval_trials=16, bins=20, bins_forward=4)
    # Exports to NWB need the times of the trials.
    starts = np.arange(80.0)
    data = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, starts=starts[:64]),
        eval=dataclasses.replace(data.eval, starts=starts[64:]),
    )
    hdf5.write(data, folder / "reach.h5")
    hdf5.write_targets(data, folder / "reach_target.h5")
    np.save(folder / "counts.npy", np.tile(data.train.heldin, (20, 1, 1)))
    words = command(folder, "run", 4)[3:]
    for done in (
        stndt(folder, *words),
        stndt(folder, "evaluate", folder / "run"),
        stndt(folder, "report", folder / "run", "--nofigures"),
        stndt(folder, "export", folder / "run", f"--out={folder / 'model'}"),
    ):
        assert done.code == 0, done.err


def nwb_session(path: Path) -> None:
    """Writes an NWB file of a session, without rates."""
    import pynwb

    began = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    session = pynwb.NWBFile("a session", "x", began)
    times = np.arange(20_000) / 100
    session.add_acquisition(pynwb.TimeSeries(name="emg", data=times, unit="V", timestamps=times))
    with pynwb.NWBHDF5IO(path, "w") as file:
        file.write(session)


def commands(folder: Path, disk: Path) -> dict[str, tuple[Path, list[object]]]:
    """Commands by name, each with what it writes, below a directory of its own."""
    run, rates = folder / "run", folder / "run" / "submission.h5"

    def to(name: str) -> Path:
        return disk / name.partition(".")[0] / name

    given: dict[str, list[object]] = {
        "model": ["export", run],
        "model_beside": ["export", run, "--weights=beside"],
        "rates.nc": ["export", rates],
        "rates.nwb": ["export", rates],
        "new_rates.nwb": ["export", rates],
        "rates.h5": ["export", rates],
        "report.html": ["report", run, "--nofigures"],
        "ensemble": ["ensemble", run, "--select=all"],
        "cut": ["cut", run, "--members=0,2"],
        "data": ["prepare", "arrays", f"--spikes={folder / 'counts.npy'}", "--bin-ms=5"],
        "base.h5": ["baseline", "smoothing", f"--run={run}"],
        "infer.npy": ["infer", folder / "model", f"--spikes={folder / 'counts.npy'}"],
    }
    found = {name: (to(name), [*words, f"--out={to(name)}"]) for name, words in given.items()}
    found["evaluate"] = (to("evaluate"), ["evaluate", to("evaluate")])
    return found


def content(folder: Path) -> dict[str, str]:
    """The digest of every file below a directory, and the directories, by name."""
    inner = {str(p.relative_to(folder)): "directory" for p in folder.rglob("*") if p.is_dir()}
    return inner | files.tree_sha256(folder)


# These add to what is there, or refuse it.
ONCE = ("ensemble", "cut", "rates.nwb", "new_rates.nwb")


def one_command(name: str, out: Path, words: list[object], folder: Path, disk: Path) -> bool:
    """Runs a command on an almost full disk, to a new and to an existing output."""
    place, fine = out.parent, True
    place.mkdir(parents=True, exist_ok=True)
    if name == "evaluate":
        shutil.copytree(folder / "run", out)
    before = content(place)
    done = stndt(folder, *words)
    if done.code:
        print(f"{name}: failed with space:\n{done.err[-2000:]}")
        return False
    whole = content(place)
    written = [place / name for name, digest in whole.items() if before.get(name) != digest]
    size = sum(path.stat().st_size for path in written if path.is_file())
    for kind in ("new", "existing"):
        if kind == "existing" and name in ONCE:
            continue
        if kind == "new" and name != "evaluate":
            shutil.rmtree(place)
            place.mkdir()
            if name == "rates.nwb":  # rates are added to it
                nwb_session(out)
            if name == "data":
                out.mkdir()
            before = content(place)
        else:
            before = content(place)
        for share in (0.0, 0.6):
            filler = fill(disk, int(size * share))
            done = stndt(folder, *words)
            filler.unlink()
            errors = [line for line in done.err.splitlines() if line.startswith("stndt: error")]
            good = done.code == 2 and not done.wrong
            changed = sorted(set(content(place).items()) ^ set(before.items()))
            told = errors[0].replace(str(disk), "DISK")[:170] if errors else done.err[-2000:]
            print(f"{name}, {kind} output, {share:.0%} of its space: exit code {done.code}")
            print(f"    {told}")
            if changed or not good:
                print(f"    NOT AS IT SHOULD BE: {changed or done.wrong or done.err[-2000:]}")
            fine &= good and not changed
        done = stndt(folder, *words)
        fine &= done.code == 0
        print(f"    space freed: exit code {done.code}", flush=True)
        if done.code:
            print(f"    NOT AS IT SHOULD BE: {done.err[-2000:]}")
    shutil.rmtree(place)
    return fine


def until_training(disk: Path, workers: list[subprocess.Popen[bytes]]) -> None:
    """Waits until a run of a search has saved a new checkpoint, or a worker has ended."""
    kept = set(disk.glob("search/trials/*/checkpoints/[0-9]*.sha256"))
    while all(worker.poll() is None for worker in workers):
        if set(disk.glob("search/trials/*/checkpoints/[0-9]*.sha256")) - kept:
            return
        time.sleep(0.02)


def search(folder: Path, disk: Path, trials: int = 6) -> bool:
    """Fills the disk under two workers of a search, frees it, and lets two workers finish."""
    words = chaos_search.command(disk, trials)
    small_reach(disk)
    fine = True
    for left in (20_000, 0, None):
        with (folder / "stderr").open("w+") as stderr:
            workers = [
                subprocess.Popen(
                    words, stdout=subprocess.DEVNULL, stderr=stderr, env=environment(folder)
                )
                for _ in range(2)
            ]
            if left is not None:
                until_training(disk, workers)
                fill(disk, left)
            codes = [worker.wait(timeout=540) for worker in workers]
            stderr.seek(0)
            text = stderr.read()
        print(f"search, two workers, {'space' if left is None else left}: exit codes {codes}")
        print(f"    {error_of(text, disk) if left is not None else ''}", flush=True)
        fine &= codes == ([0, 0] if left is None else [2, 2]) and "Traceback" not in text
        (disk / "filler").unlink(missing_ok=True)
    return fine and chaos_search.check(disk, trials)


class NoDisk(Exception):  # noqa: N818
    """No file system can be mounted here."""


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of a few MB.

    Raises:
      NoDisk: it cannot be mounted.
    """
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoDisk(str(error)) from error
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def train_part(folder: Path, flags: argparse.Namespace) -> bool:
    """The part ``train``."""
    with small_disk(folder, flags.megabytes) as disk:
        for place in (folder, disk):
            small_reach(place)
        fine = rounds(folder, disk, flags.epochs)
        alone = command(folder, "alone", flags.epochs)
        subprocess.run(alone, check=True, capture_output=True, env=environment(folder))
        return compare(folder / "alone", disk / "run") and fine


def commands_part(folder: Path, flags: argparse.Namespace) -> bool:
    """The part ``commands``."""
    inputs(folder)
    with small_disk(folder, 64) as disk:
        fine = [
            one_command(name, *given, folder, disk)
            for name, given in commands(folder, disk).items()
            if flags.command in name
        ]
        print(f"{sum(fine)} of {len(fine)} commands as they should be")
        return all(fine)


def search_part(folder: Path, flags: argparse.Namespace) -> bool:
    """The part ``search``."""
    with small_disk(folder, flags.megabytes) as disk:
        return search(folder, disk)


PARTS = {"train": train_part, "commands": commands_part, "search": search_part}


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--only", default="", choices=["", *PARTS])
    parser.add_argument("--command", default="", help="only commands whose names hold this")
    flags = parser.parse_args()
    fine = True
    for name, part in PARTS.items():
        if flags.only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    fine &= part(Path(folder), flags)
                except NoDisk as error:
                    print(f"no tmpfs can be mounted here ({error}; that needs root)")
                    return 0
            print(f"{name}: {'as it should be' if fine else 'NOT AS IT SHOULD BE'}", flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
