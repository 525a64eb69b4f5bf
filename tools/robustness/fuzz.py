"""Feeds the command line what nobody should feed it, and counts what comes out.

    python tools/robustness/fuzz.py --inputs 2000 --seed 0
    python tools/robustness/fuzz.py --seed 0 --only 17     (one of them again, with all it prints)

Inputs are damaged and strange recordings, targets, configurations, configuration files, run
directories and command lines. Each goes through ``stndt_jax.cli.main.main`` in this process, with
everything that is compiled replaced by stand-ins. Prints a report as JSON and, of every input that
ended with a traceback, an undocumented exit code, more than one line or not at all, how to see it
again; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import functools
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import fuzz_inputs
import jax
import numpy as np
from fuzz_inputs import Place

from stndt_jax.cli import main as cli
from stndt_jax.config import loading
from stndt_jax.config import schema as configs
from stndt_jax.console import progress
from stndt_jax.data import hdf5, synthetic
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.evaluation import inference, submission
from stndt_jax.parallel import lifts
from stndt_jax.plotting import recording as recording_figure
from stndt_jax.plotting import style
from stndt_jax.runs import checkpoint, directory, recording
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import batches, loop, population, restore, step

CODES = (0, 2, 3, 130, 143)
SECONDS = 60.0
# Loud on purpose: a run directory may tell of damage before it is refused.
MAY_TALK = ("run directory",)


class Hang(BaseException):
    """An input took too long; nothing in the package may catch it."""


class Outcome(NamedTuple):
    """What came of one input."""

    code: int | None
    out: str
    err: str
    wrong: str  # empty if all is as documented


def make_place(folder: Path) -> Place:
    """A small recording with targets, and a run directory as training leaves it."""
    data = synthetic.make(
        "reach", seed=1, trials=12, eval_trials=6, bins=6, bins_forward=2, heldin=4, heldout=2,
        directions=2, curved=False,
    )  # fmt: skip
    names = ("in.h5", "in_target.h5", "run", "submission.h5")
    place = Place(folder, *(folder / name for name in names))
    hdf5.write(data, place.source)
    hdf5.write_targets(data, place.targets)
    config = loading.load(place.settings(place.source, place.targets))
    data = recording.read(config)
    directory.make(place.run)
    directory.open_run(place.run, config, data)
    members, _ = _fresh(config, data)
    checkpoints = Checkpoints(place.run / "checkpoints")
    for number in (2, 4):
        checkpoints.save(number, members)
    rows = [json.dumps({"epoch": epoch, "train_loss": [1.5]}) for epoch in (2, 4)]
    (place.run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    (place.run / "log.txt").write_text("training from newly initialised weights\n")
    directory.note_end(place.run, "finished")
    dims = data.dims
    rates = {
        split: np.full(trials.counts(dims.bins_forward, dims.heldout).shape, 0.5, np.float32)
        for split, trials in (("train", data.train), ("eval", data.eval))
    }
    submission.write(
        place.submission, data.name, submission.of_rates(rates, dims), bin_ms=data.bin_ms
    )
    return place


def _fresh(config: configs.Config, data: SpikeData) -> tuple[population.Member, step.Arch]:
    R = len(data.train)
    arch = step.arch(config, data.dims, R // batches.batch_size(config, R))
    hyper = jax.tree.map(jax.numpy.asarray, configs.hyper(config))
    shapes = jax.eval_shape(population.make_init(arch), hyper)
    # Ones: every member is healthy, active and was best after epoch 1. Nothing is compiled.
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    return jax.device_put(ones), arch


class _Chunk:
    """Stands in for the compiled chunk of training, which nobody calls here."""

    def lower(self, *_: object) -> _Chunk:
        return self

    def compile(self) -> _Chunk:
        return self


@contextlib.contextmanager
def stand_ins(place: Place) -> Iterator[None]:
    """Everything that is compiled, replaced; what is read, checked, told and written stays."""
    config = loading.load(place.settings(place.source, place.targets))
    known, arch = _fresh(config, recording.read(config))
    real_make, real_load = synthetic.make, checkpoint.ocp.load

    def make_init(asked: step.Arch, *_: Any) -> Callable:
        def init(hyper: configs.Hyper, *statistics: Any) -> population.Member:
            if asked == arch or not isinstance(hyper.seed, jax.core.Tracer):
                return known
            # Only traced, for the shapes.
            one = functools.partial(population.init_member, asked)
            return lifts.over_members(one, len(statistics), vmapped=False)(hyper, *statistics)

        return init

    def load(path: Path, like: Any) -> Any:
        # Its digests were right, so it holds what it held; only another model is read in truth.
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), x) for x in (like, known)]
        return known if shapes[0] == shapes[1] else real_load(path, like)

    def rates(model: restore.TrainedModel, trials: Trials, _: str) -> np.ndarray:
        rng, dims = np.random.default_rng(model.member), model.trained.arch.dims
        shape = (len(trials), dims.bins, dims.neurons)
        return rng.uniform(0.01, 1.0, shape).astype(np.float32)

    def make(kind: str, seed: int = 0, **_: Any) -> SpikeData:
        return real_make(kind, seed, trials=4, eval_trials=2, bins=4, bins_forward=2, heldin=2,
                         heldout=2)  # fmt: skip

    with (
        mock.patch.object(population, "make_init", make_init),
        mock.patch.object(population, "make_chunk", lambda *_: _Chunk()),
        mock.patch.object(checkpoint.ocp, "load", load),
        mock.patch.object(loop._Loop, "run", lambda _self, _chunk, members, at: (at, members)),
        mock.patch.object(Checkpoints, "save", lambda *_: None),
        mock.patch.object(progress, "FIRST_S", 1e6),  # lines that depend on the machine's speed
        mock.patch.object(inference, "rates", rates),
        mock.patch.object(synthetic, "make", make),
        mock.patch.object(directory, "_commit", lambda: None),
        mock.patch.object(recording_figure, "recording", lambda *_, **__: None),
        mock.patch.object(style, "save", lambda *_: []),
    ):
        yield


def _captured() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def run(argv: list[str], folder: Path, may_talk: bool, seconds: float = SECONDS) -> Outcome:
    """One command line, in a folder of its own."""
    out, err = _captured(), _captured()
    err.reconfigure(errors="backslashreplace")
    code, trace, elsewhere = None, "", []

    def ring(*_: object) -> None:
        raise Hang

    def note(what: Any) -> None:
        elsewhere.append(f"{what.exc_type.__name__}: {what.exc_value}")

    def unraisable(what: Any) -> None:
        # Our own alarm may ring where nothing can be raised.
        if what.exc_type is not Hang:
            note(what)

    before = os.getcwd(), signal.signal(signal.SIGALRM, ring)
    os.chdir(folder)
    # HDF5 may hang where no Python runs: then the process itself says where, and ends.
    faulthandler.dump_traceback_later(3 * seconds, exit=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(threading, "excepthook", note),
            mock.patch.object(sys, "unraisablehook", unraisable),
            # As argv reaches main from a shell.
            mock.patch.object(sys, "argv", ["stndt", *argv]),
        ):
            code = cli.main(list(argv))
    except Hang:
        trace = "hang"
    except BaseException:  # noqa: BLE001 what comes out is what is counted
        trace = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        os.chdir(before[0])
        signal.signal(signal.SIGALRM, before[1])
    printed, complained = (
        stream.buffer.getvalue().decode(errors="replace")  # type: ignore[attr-defined]
        for stream in (out, err)
    )
    wrong = trace or _complaint(code, printed, complained, may_talk)
    if elsewhere and not wrong:
        wrong = f"traceback in a thread: {elsewhere[0]}"
    return Outcome(code, printed, complained, wrong)


def _complaint(code: int | None, out: str, err: str, may_talk: bool) -> str:
    lines = [line for line in err.splitlines() if not line.startswith("stndt: warning: ")]
    errors = [line for line in lines if line.startswith("stndt: error: ")]
    if code not in CODES:
        return f"exit code {code}"
    if "Traceback" in out + err:
        return "traceback printed"
    if code in (2, 3) and (len(errors) != 1 or lines[-1:] != errors):
        return f"{len(errors)} lines of error"
    if code in (2, 3) and not may_talk and len(lines) != 1:
        return "more than one line"
    if code == 0 and errors:
        return "an error and exit code 0"
    return ""


def one(place: Place, seed: int, index: int, root: Path) -> tuple[str, str, list[str], Outcome]:
    """Makes input number ``index`` and runs it: its kind, what it is, its argv, its outcome."""
    draw = random.Random(f"{seed} {index}")
    kind = list(fuzz_inputs.KINDS)[index % len(fuzz_inputs.KINDS)]
    folder = root / str(index) / "here"
    folder.mkdir(parents=True)
    argv, what = fuzz_inputs.KINDS[kind](draw, place, folder)
    return kind, what, argv, run(argv, folder, kind in MAY_TALK)


def fuzz(inputs: list[int], seed: int, place: Place, verbose: bool = False) -> dict[str, Any]:
    """Runs the inputs of these numbers; the report."""
    kinds: dict[str, collections.Counter] = {}
    words: collections.Counter = collections.Counter()
    failures, began = [], time.monotonic()
    with stand_ins(place):
        for index in inputs:
            root = place.folder / "inputs"
            kind, what, argv, outcome = one(place, seed, index, root)
            kinds.setdefault(kind, collections.Counter())[str(outcome.code)] += 1
            for line in outcome.err.splitlines():
                if line.startswith("stndt: error: "):
                    words[_first_words(line, place)] += 1
            if outcome.wrong:
                again = f"python tools/robustness/fuzz.py --seed {seed} --only {index}"
                failures.append({"again": again, "kind": kind, "input": what, "argv": argv,
                                 "wrong": outcome.wrong, "stderr": outcome.err[-500:]})  # fmt: skip
            if verbose:
                print(kind, what, [word[:200] for word in argv], sep="\n")
                print(outcome.out + outcome.err + f"exit code {outcome.code}")
            shutil.rmtree(root / str(index), ignore_errors=True)
    codes: collections.Counter = sum(kinds.values(), collections.Counter())
    return {
        "inputs": len(inputs),
        "seconds": round(time.monotonic() - began, 1),
        "by kind": {kind: dict(sorted(found.items())) for kind, found in kinds.items()},
        "by exit code": dict(sorted(codes.items())),
        "kinds of error": len(words),
        "most frequent errors": dict(words.most_common(25)),
        "tracebacks": sum("raceback" in failure["wrong"] for failure in failures),
        "hangs": sum(failure["wrong"] == "hang" for failure in failures),
        "other failures": sum(
            "raceback" not in failure["wrong"] and failure["wrong"] != "hang"
            for failure in failures
        ),
        "failures": failures,
    }


def _first_words(line: str, place: Place) -> str:
    """The start of an error, without what names this very input."""
    words = line.removeprefix("stndt: error: ").split()
    words = ["PATH" if str(place.folder) in word else word[:30] for word in words]
    return " ".join("N" if word.strip("(),").isdecimal() else word for word in words[:6])


def main() -> int:
    """Runs the harness; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one input")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = make_place(Path(name))
        chosen = list(range(flags.inputs)) if flags.only is None else [flags.only]
        report = fuzz(chosen, flags.seed, place, verbose=flags.only is not None)
    failures = report.pop("failures")
    print(json.dumps(report, indent=2, ensure_ascii=True))
    for failure in failures[:20]:
        print(json.dumps(failure, indent=2, ensure_ascii=True).replace("\\n", "\n"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
