"""The inputs of fuzz.py: from a random stream, a place and an empty folder to a command line.

Every maker returns the words of the command line and a sentence about what is wrong with it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fuzz_nwb
import h5py
import numpy as np
import scipy.io
from fuzz_files import ODD_TEXTS, spoil_bytes, spoil_file

from stndt_jax.config import schema as configs

Made = tuple[list[str], str]
ODD_VALUES = (
    *("", "0", "-1", "1", "2", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "1e39", "-0.0"),
    *("9" * 5000, "2147483648", "4294967296", "0x10", "1_000", "True", "false", "None", "[]", "()"),
    *("(1,", "((((((", "(" * 500, "{}", "{'a': 1}", "(1, 2)", "(0.1,)", "('a',)", "lambda: 0"),
    *("__import__('os')", "1+1", "1j", "b'x'", "...", "1 2", "\u0663", "¹", "0" * 50, "1e5"),
)
ODD_JSON: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**400, float("nan"), float("inf"), "", "x", "\u0000", "\ud800"),
    *([], {}, [[]], {"": {}}, [1, "a", None], {"a": 1}, "9" * 3000, -(2**63), 1e300, "2"),
)


class Place(NamedTuple):
    """Where the whole files are that inputs are made from."""

    folder: Path
    source: Path
    targets: Path
    run: Path
    submission: Path

    def settings(self, source: Path, targets: Path | None) -> list[str]:
        """The configuration of the run."""
        flags = ["--config=tiny", "--config.train.epochs=4", f"--config.data.path={source}"]
        return flags + ([f"--config.data.targets={targets}"] if targets else [])


def recording(draw: random.Random, place: Place, folder: Path) -> Made:
    """A recording that something is wrong with, or its targets."""
    files = {"in.h5": place.source, "in_target.h5": place.targets}
    for name, path in files.items():
        shutil.copy(path, folder / name)
    notes = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        path = folder / draw.choice(("in.h5", "in.h5", "in_target.h5"))
        notes.append(f"{path.name}: {spoil_file(draw, path)}")
    targets = folder / "in_target.h5" if draw.random() < 0.7 else None
    if draw.random() < 0.3:
        argv = ["evaluate", str(place.run), f"--data={folder / 'in.h5'}"]
        return argv + ([f"--targets={targets}"] if targets else []), "; ".join(notes)
    argv = ["train", *place.settings(folder / "in.h5", targets), f"--workdir={folder / 'run'}"]
    return argv, "; ".join(notes)


def submission(draw: random.Random, place: Place, folder: Path) -> Made:
    """A submission that something is wrong with, or its recording, looked at and exported."""
    source, rates = folder / "in.h5", folder / "submission.h5"
    shutil.copy(place.source, source)
    shutil.copy(place.submission, rates)
    notes = []
    for _ in range(draw.choice((1, 1, 2))):
        path = draw.choice((source, rates, rates))
        notes.append(f"{path.name}: {spoil_file(draw, path)}")
    out = folder / draw.choice(("out.h5", "out.nc", "out.x", "absent/out.h5", "in.h5"))
    argv = draw.choice(
        (
            ["inspect", str(draw.choice((source, rates)))],
            ["check-submission", str(rates), f"--data={source}"],
            ["export", str(rates), f"--data={source}", f"--out={out}"],
        )
    )
    return argv, "; ".join(notes)


def arrays(draw: random.Random, place: Place, folder: Path) -> Made:
    """Arrays that make no recording."""
    path = folder / draw.choice(("x.npy", "x.npy", "x.npz", "x.txt"))
    shape = draw.choice(((6, 5, 4), (40, 4), (0, 5, 4), (6,), (), (1, 1, 1), (2, 3, 4, 5)))
    x: Any = np.ones(shape, draw.choice(("u1", "f4", "i8", "f8", "c8", "S3", "?", "O")))
    if x.dtype.kind in "if" and x.size:
        odd = draw.choice((0, 0, 0, -1, 70000, 0.5, np.nan, np.inf))
        with np.errstate(all="ignore"):
            x.reshape(-1)[0] = np.asarray(odd).astype(x.dtype)
    if path.suffix == ".npz":
        np.savez(path, *draw.choice(((x,), (x, x), (x, x[:1] if x.ndim else x), ())))
    else:
        with path.open("wb") as file:
            np.save(file, x)
    note = f"{x.dtype} {shape}"
    if draw.random() < 0.3:
        note += f" {spoil_bytes(draw, path)}"
    flags = ["--bin-ms=5", f"--out={folder / 'out'}"]
    for name in ("bin-ms", "window-ms", "overlap-ms", "split", "heldout-fraction", "bins-forward",
                 "behavior", "behavior-name", "behavior-unit", "conditions", "area", "heldout",
                 "evaluated", "trial-table", "unit-table", "seed", "name"):  # fmt: skip
        if draw.random() < 0.2:
            value = draw.choice((str(path), ".5/.5", "20", "10", "2", *ODD_VALUES[:20]))
            flags.append(f"--{name}={value}")
    return ["prepare", "arrays", f"--spikes={path}", *flags], note


def _count_file(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """A file of counts in one of the formats that people have, some of it odd."""
    rng = np.random.default_rng(draw.randrange(10**6))
    x = rng.poisson(0.5, draw.choice(((6, 5, 4), (60, 4), (1, 3), (5, 4, 3, 2))))
    rows = [np.ones((1 + r, 4)) for r in range(6)]
    cells = np.empty(6, object)
    cells[:] = rows
    name = draw.choice(("spikes", "counts", "x", "data"))
    beside = draw.choice(("bin_size", "dt", "bin_ms", "trial_len", "behavior", "time", "y"))
    values = (0.02, 20, -1, np.nan, "text", np.ones(3), np.ones((6, 5, 2)), rows[0])
    named: dict[str, Any] = {name: x, beside: draw.choice(values)}
    kind = draw.choice(("npz", "object npy", "dict npy", "mat", "cells", "structure", "csv", "h5"))
    path = folder / f"c.{'npy' if 'npy' in kind else 'npz' if kind == 'npz' else 'mat'}"
    if kind == "npz":
        np.savez(path, **named)
    elif kind == "object npy":
        np.save(path, cells, allow_pickle=True)
    elif kind == "dict npy":
        np.save(path, np.array(named, object), allow_pickle=True)
    elif kind in ("mat", "cells", "structure"):
        saved = {"mat": named, "cells": {"x": cells}, "structure": {"s": named}}[kind]
        scipy.io.savemat(path, saved, do_compression=draw.random() < 0.5)
    elif kind == "csv":
        path = folder / draw.choice(("c.csv", "c.tsv", "c.CSV"))
        head = draw.choice(("a,b,c,d\n", "", "trial,unit,time,t\n", "1,2,3,4\n", "a,a,b,c\n"))
        lines = [",".join(map(str, row)) for row in x.reshape(-1, x.shape[-1])]
        text = head + "\n".join(lines)
        path.write_text(text, encoding=draw.choice(("utf-8", "utf-16", "latin-1", "utf-8-sig")))
    else:
        path = folder / "c.h5"
        with h5py.File(path, "w") as file:
            for name, value in named.items():
                file[name] = value
            for split in ("train", "valid"):
                if draw.random() < 0.5:
                    file[f"{split}_encod_data"] = x
                if draw.random() < 0.5:
                    file[f"{split}_recon_data"] = x[:, :3] if x.ndim == 3 else x
    return path, f"{kind} {x.shape} {sorted(named)}"


def count_files(draw: random.Random, place: Place, folder: Path) -> Made:
    """Counts in formats that people have, damaged or with odd flags, prepared or listed."""
    path, note = _count_file(draw, folder)
    if draw.random() < 0.4:
        note += f" {spoil_bytes(draw, path)}"
    if draw.random() < 0.3:
        return ["inspect", str(path)], note
    name = draw.choice(("", "", "", ":spikes", ":x", ":s.spikes", ":absent"))
    flags = [f"--out={folder / 'out'}"]
    for flag in ("bin-ms", "bin-ms", "window-ms", "axes", "behavior", "circular", "conditions",
                 "heldout", "evaluated", "trial-table", "unit-table"):  # fmt: skip
        if draw.random() < 0.3 and not any(f.startswith(f"--{flag}=") for f in flags):
            value = draw.choice((str(path), "20", "5", "5-7", "neurons,bins", "a:deg", "x",
                                 *ODD_VALUES[:12]))  # fmt: skip
            flags.append(f"--{flag}={value}")
    return ["prepare", "arrays", f"--spikes={path}{name}", *flags], note


def spike_times(draw: random.Random, place: Place, folder: Path) -> Made:
    """Spike times and events in formats that people have, damaged or with odd flags."""
    rng = np.random.default_rng(draw.randrange(10**6))
    times = np.sort(rng.random(200) * 20)
    units = rng.integers(0, 4, 200)
    if draw.random() < 0.3:
        odd = draw.choice((np.nan, np.inf, -1.0, 1e300, 1e18))
        times[draw.randrange(200)] = odd
    kind = draw.choice(("csv", "npz", "lists", "directory", "directory"))
    path = folder / f"s.{'csv' if kind == 'csv' else 'npz'}"
    if kind == "csv":
        lines = [f"{u},{t}" for u, t in zip(units, times, strict=True)]
        path.write_text(draw.choice(("unit,time\n", "a,b\n", "")) + "\n".join(lines))
    elif kind == "npz":
        np.savez(path, spike_times=times, spike_clusters=draw.choice((units, units[:9], -units)))
    elif kind == "lists":
        np.savez(path, **{f"unit{u}": times[units == u] for u in range(4)})
    else:
        path = folder / "ks"
        path.mkdir()
        samples = np.clip(np.nan_to_num(times * 30_000), 0, 1e18)
        samples = samples.astype(draw.choice(("u8", "i8", "f8")))
        np.save(path / "spike_times.npy", samples[:, None] if draw.random() < 0.5 else samples)
        np.save(path / "spike_clusters.npy", units.astype("i4"))
        rate = draw.choice(("30000.", "30000", "-1", "open('x')", "nan", "'a'", "(", "1e999"))
        (path / "params.py").write_text(f"import os\nsample_rate = {rate}\n")
        labels = draw.choice(("cluster_id\tgroup\n0\tgood\n1\tmua\n", "", "\x00", "group\ngood\n"))
        (path / "cluster_group.tsv").write_text(labels)
    spoiled = path if path.is_file() else draw.choice(sorted(path.iterdir()))
    note = kind + (f" {spoil_bytes(draw, spoiled)}" if draw.random() < 0.3 else "")
    if draw.random() < 0.2:
        return ["inspect", str(path)], note
    events = folder / "e.csv"
    rows = [f"{draw.choice((1.5 * k, 'nan', '', -3, 1e12)) if draw.random() < 0.1 else 1.5 * k},{k}"
            for k in range(12)]  # fmt: skip
    events.write_text("go,target\n" + "\n".join(rows))
    flags = ["--bin-ms=20", f"--out={folder / 'out'}"]
    of_events = [f"--events={events}", "--align=go", "--window=0,200"]
    of_all = [f"--events={events}", "--window=-1e9,1e9"]
    flags += draw.choice((of_events, of_events, of_all, ["--window-ms=500"]))
    for flag in ("units", "skip-units", "unit-table", "behavior", "condition-column", "until",
                 "split-column", "spike-time-unit", "trial-time-unit", "max-bins", "drifting",
                 "heldout", "evaluated", "forward-ms", "lag-ms"):  # fmt: skip
        if draw.random() < 0.12:
            value = draw.choice((str(path), str(events), "go", "target", "ms", "samples:30000",
                                 "all", "group=good", "1-2", *ODD_VALUES[:12]))  # fmt: skip
            flags.append(f"--{flag}={value}")
    return ["prepare", "spikes", f"--spikes={path}", *flags], note


def settings(draw: random.Random, place: Place, folder: Path) -> Made:
    """Odd values under known and unknown keys."""
    known = [name for name, _, _ in configs.documentation()]
    known += [f"members.{name}" for name in configs.Hyper._fields]
    words = []
    for _ in range(draw.choice((1, 1, 2, 5))):
        key = draw.choice(known)
        if draw.random() < 0.15:
            key = draw.choice(
                (key + "x", key.upper(), key.split(".")[0], key + ".x", "", ".", "a.")
            )
        if draw.random() < 0.05:
            key = draw.choice(ODD_TEXTS)
        # A path is no number: these would be written where they say.
        value = draw.choice(ODD_TEXTS if draw.random() < 0.2 else ODD_VALUES)
        words.append(f"--config.{key}={value}")
    flags = place.settings(place.source, place.targets)
    argv = ["train", *flags, *words, f"--workdir={folder / 'run'}"]
    return argv, "settings"


_START = "from stndt_jax.configs import tiny\nimport ml_collections\n\ndef get_config(arg=None):\n"
BODIES = (
    *("raise ValueError('no')", "raise ValueError('two\\nlines')", "raise KeyError", "1/0"),
    *("raise OSError(28, 'No space left')", "open('absent')", "import absent", "assert False"),
    *("raise SystemExit", "raise SystemExit(7)", "raise SystemExit('bye')", "exit(0)"),
    *("return None", "return 5", "return {}", "return 'x'", "return ml_collections.ConfigDict()"),
    *("return ml_collections.FrozenConfigDict(tiny.get_config())", "return get_config(arg)"),
    *("return get_config", "return (1,)", "return [tiny.get_config()]", "pass", "return tiny"),
    *("raise RuntimeError('\\x1b[31m' + 'x' * 10000)", "raise MemoryError", "raise StopIteration"),
    *("raise UnicodeDecodeError('utf-8', b'', 0, 1, 'x')", "raise KeyboardInterrupt"),
    *("import warnings; warnings.warn('odd'); return tiny.get_config()", "return lambda: 0"),
    "import stndt_jax.errors as e; raise e.UserError('mine')",
)
EDITS = (
    *("c.KEY = VALUE", "del c.KEY", "c.KEY = c", "c.lock()", "c.unlock(); c.new = 1", "c = None"),
    *("c.model = ml_collections.ConfigDict()", "c.members = ml_collections.ConfigDict()"),
    *("c.KEY = ml_collections.FieldReference(3)", "c.KEY = ml_collections.placeholder(int)"),
    *("c.unlock(); c['a.b'] = 1", "c.members.dropout = (0.1,) * 10**5", "c.KEY = lambda: 0"),
    *("c.data.path = 'a\\0b'", "c.data.targets = 'a\\0b'", "c.data.name = 'a\\0b'"),
    *("c = ml_collections.ConfigDict({1: 2})", "c.members.seed = (True,)", "c.KEY = 10**5000"),
)


def config_file(draw: random.Random, place: Place, folder: Path) -> Made:
    """A configuration file that raises, returns something else or sets odd values."""
    keys = [name for name, _, _ in configs.documentation() if "NAME" not in name]
    if draw.random() < 0.4:
        body = f"    {draw.choice(BODIES)}\n"
    else:
        edit = draw.choice(EDITS[:1] * 10 + EDITS).replace("KEY", draw.choice(keys))
        values = ("None", "-1", "'x'", "1e400", "float('nan')", "2**40", "[]", "{}", "10**400",
                  "b'x'", "True", "1j", "'x' * 10**5", "(1,)", "object()", "'\\udcff'")  # fmt: skip
        edit = edit.replace("VALUE", draw.choice(values))
        path = f"    c.data.path = {str(place.source)!r}\n"
        body = f"    c = tiny.get_config()\n{path}    {edit}\n    return c\n"
    source = _START + body
    file = folder / draw.choice(("mine.py", "a b.py", "ä.py", "tiny.py"))
    file.write_text(source, encoding="utf-8")
    note = body
    if draw.random() < 0.2:
        note = f"{body} {spoil_bytes(draw, file)}"
    name = str(file) + draw.choice(("", "", "", ":", ":x", ":x:y"))
    return ["train", f"--config={name}", f"--workdir={folder / 'run'}"], note


def run_directory(draw: random.Random, place: Place, folder: Path) -> Made:
    """A run directory that was damaged, gone on with or evaluated."""
    run = folder / "run"
    shutil.copytree(place.run, run)
    notes = [_spoil_run(draw, run) for _ in range(draw.choice((1, 1, 2, 3)))]
    if draw.random() < 0.4:
        select = draw.choice(((), ("--select=loss",), ("--select=last",)))
        return ["evaluate", str(run), *select], "; ".join(notes)
    more = draw.choice(((), (), (), ("--extend",), ("--fresh",), ("--config.train.epochs=6",)))
    flags = place.settings(place.source, place.targets)
    return ["train", *flags, f"--workdir={run}", *more], "; ".join(notes)


def _spoil_run(draw: random.Random, run: Path) -> str:
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.is_symlink()]
    how = draw.choice(("bytes", "bytes", "json", "json", "line", "lock", "odd", "folder"))
    if how == "bytes" and files:
        # The files at the top as often as all those of the checkpoints.
        top = [path for path in files if path.parent == run or path.suffix == ".sha256"]
        path = draw.choice(top if top and draw.random() < 0.6 else files)
        return f"{path.relative_to(run)}: {spoil_bytes(draw, path)}"
    if how == "json":
        path = run / draw.choice(("config.json", "run.json"))
        return f"{path.name}: {_spoil_json(draw, path)}"
    if how == "line" and (run / "metrics.jsonl").is_file():
        odd = (
            *("", "{", "[]", "null", '{"epoch": "x"}', '{"epoch": null}', '{"epoch": NaN}'),
            *("[" * 10**5, '{"epoch": 1e999}', "\x00", '{"epoch": [4]}', '{"epoch": 2}', '{"epo'),
            "9" * 5000,
        )
        lines = (run / "metrics.jsonl").read_bytes().split(b"\n")
        line = draw.choice(odd)
        lines.insert(draw.randrange(len(lines) + 1), line.encode())
        (run / "metrics.jsonl").write_bytes(b"\n".join(lines))
        return f"metrics.jsonl: a line {line[:20]}"
    if how == "lock" and not (run / "lock").exists():
        holder = {"host": draw.choice(ODD_JSON), "pid": draw.choice(ODD_JSON)}
        text = draw.choice((json.dumps(holder), "", "{", "\x00" * 9, "[]", "[" * 9**5, "null"))
        (run / "lock").write_text(text)
        if draw.random() < 0.5:
            os.utime(run / "lock", (0, 0))
        return f"a lock {text[:50]}"
    if how == "odd":
        return _add(draw, run)
    folders = [path for path in sorted(run.rglob("*")) if path.is_dir() and not path.is_symlink()]
    if not folders:
        return "nothing left"
    path = draw.choice(folders)
    shutil.rmtree(path)
    if draw.random() < 0.4:
        path.write_bytes(b"")
        return f"{path.relative_to(run)}: a file"
    return f"{path.relative_to(run)}: removed"


def _add(draw: random.Random, run: Path) -> str:
    names = ("lock", "damaged", "tensorboard", "log.txt", ".writable", "run.json.partial",
             "metrics.partial", "checkpoints/9", "checkpoints/007", "checkpoints/٣",
             "checkpoints/4.sha256.partial", "checkpoints/8.orbax-checkpoint-tmp-1",
             "checkpoints/" + "9" * 200, "scores.json", "submission.h5")  # fmt: skip
    path = run / draw.choice(names)
    if path.exists() or not path.parent.is_dir():
        return "nothing added"
    if draw.random() < 0.6:
        path.mkdir()
        return f"{path.relative_to(run)}: a folder"
    path.write_bytes(draw.randbytes(20))
    return f"{path.relative_to(run)}: a file"


def _spoil_json(draw: random.Random, path: Path) -> str:
    """Replaces, removes or renames one value somewhere in a JSON file."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return spoil_bytes(draw, path)
    node, trail = values, []
    while isinstance(node, dict) and node:
        key = draw.choice(sorted(node))
        trail.append(key)
        if not isinstance(node[key], dict) or draw.random() < 0.3:
            break
        node = node[key]
    how = draw.choice(("replace", "replace", "replace", "remove", "rename", "whole", "deep"))
    if how == "whole" or not isinstance(node, dict) or not node:
        values = draw.choice(ODD_JSON)
    elif how == "deep":
        path.write_text("[" * 10**5)
        return "a deep nest"
    elif how == "replace":
        node[key] = draw.choice(ODD_JSON)
    else:
        value = node.pop(key)
        if how == "rename":
            node[draw.choice(ODD_TEXTS)] = value
    path.write_text(json.dumps(values))
    return f"{'.'.join(trail)}: {how}"


def command_line(draw: random.Random, place: Place, folder: Path) -> Made:
    """Words in any order and number."""
    (folder / "text").write_text("--workdir=x\n--config=tiny\n")
    (folder / "noise").write_bytes(draw.randbytes(100))
    paths = (str(place.source), str(place.run), "text", "noise", "absent", "x.h5", "x" * 300)
    value = draw.choice((draw.choice(ODD_TEXTS), draw.choice(ODD_VALUES), draw.choice(paths)))
    names = (
        *("workdir", "config", "out", "seed", "targets", "data", "select", "extend", "fresh", "v"),
        *("config.seed", "flagfile", "undefok", "config.data.path", "help", "noextend"),
    )
    words = ["train", "evaluate", "synth", "demo", "lorenz", "rnn", "reach", "tiny", *paths]
    words += [f"{dash}{name}{end}" for dash in ("--", "-") for name in names
              for end in ("", f"={value}")]  # fmt: skip
    rest = [draw.choice(words) for _ in range(draw.randrange(8))]
    first = draw.choice(("train", "train", "evaluate", "synth", "demo", "", value, "--help"))
    argv = [first, *rest] if draw.random() < 0.9 else rest
    if draw.random() < 0.3:
        argv += ["--config=tiny", f"--config.data.path={place.source}"]
    if draw.random() < 0.1:
        argv *= 50
    return argv, "words"


NWB_FLAGS = (
    *("--align=start_time", "--align=id", "--until=stop_time", "--behavior=vel", "--behavior=pos"),
    *("--trials-table=trials", "--trials-table=invalid_times", "--trials-table=epochs"),
    *("--units-table=units", "--units-table=moved", "--units=quality=good", "--skip-units=1"),
    *(
        "--ids=new",
        "--spike-time-unit=ms",
        "--spike-time-unit=s",
        "--spike-time-unit=samples:30000",
    ),
    *("--spike-time-unit=nan", "--trial-time-unit=ms", "--drifting=keep", "--noobs-intervals"),
    *("--max-bins=10", "--max-bins=100000", "--heldout-column=ho", "--heldout=area=V1"),
    *("--split-column=kind", "--evaluated=kind=left", "--condition-column=kind"),
    *(
        "--condition-column=go",
        "--behavior-rate=50",
        "--behavior-rate=nan",
        "--heldout-units=x.nwb",
    ),
    *("--unit-columns=id", "--trial-columns=kind", "--bin-ms=1e-9", "--lag-ms=inf", "--name=_20"),
    *("--window=-1e9,1e9", "--window=nan,1", "--forward-ms=100", "--evaluated=0,1"),
)


def nwb(draw: random.Random, place: Place, folder: Path) -> Made:
    """An NWB file that is odd in some way, listed or cut into trials."""
    path = folder / "x.nwb"
    fuzz_nwb.write(path)
    notes = [fuzz_nwb.spoil(draw, path) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    if draw.random() < 0.1:
        notes.append(spoil_file(draw, path))
    if draw.random() < 0.3:
        return ["inspect", str(path)], "; ".join(notes)
    flags = [f"--nwb={path}", f"--out={folder / 'out'}", "--align=go", "--window=-100,400",
             "--bin-ms=50"]  # fmt: skip
    if draw.random() < 0.3:
        flags.append("--behavior=" + draw.choice(("vel", "pos")))
    flags += [flag for flag in NWB_FLAGS if draw.random() < 0.04]
    by_name = {flag.partition("=")[0]: flag for flag in flags}
    return ["prepare", "custom", *by_name.values()], "; ".join(notes)


KINDS: dict[str, Callable[[random.Random, Place, Path], Made]] = {
    "recording": recording,
    "submission": submission,
    "arrays": arrays,
    "count files": count_files,
    "spike times": spike_times,
    "NWB": nwb,
    "settings": settings,
    "configuration file": config_file,
    "run directory": run_directory,
    "command line": command_line,
}
