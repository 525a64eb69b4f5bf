"""Data in and out: ``prepare``, ``download``, ``inspect``, ``check-submission``, ``export``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from stndt_jax import files
from stndt_jax.cli.flags import new_flags, parse, print_help, wants_help
from stndt_jax.errors import UserError


def prepare(argv: list[str]) -> int:
    """Makes a recording's HDF5 file, with a summary and a picture of it, from what you have.

    usage: stndt prepare KIND [flags]

    KIND is a data set of the Neural Latents Benchmark (mc_maze, mc_rtt, area2_bump, dmfc_rsg,
    mc_maze_large, mc_maze_medium, mc_maze_small), custom for any other NWB file, or arrays for
    .npy, .npz and LFADS' HDF5. stndt prepare KIND --help lists the flags of a kind.

    example: stndt prepare mc_maze --nwb=data/nwb --out=data
    """
    if not argv or (wants_help(argv) and argv[0].startswith("-")):
        print_help(new_flags(), prepare)
        return 0
    from stndt_jax.data import nlb

    kinds = {"custom": _custom, "arrays": _arrays}
    kind = argv[0]
    if kind in kinds:
        return kinds[kind](argv[1:])
    if kind not in nlb.DATA_SETS:
        known = ", ".join([*nlb.DATA_SETS, *kinds])
        raise UserError(f"{kind} is nothing that can be prepared; choose one of {known}")
    return _benchmark(kind, argv[1:])


def _benchmark(name: str, argv: list[str]) -> int:
    """Makes a benchmark data set's input file and, for the validation phase, its target file.

    usage: stndt prepare NAME --nwb=DIR --out=DIR [--bin-ms=5|20] [--phase=val|test] [--download]

    Windows, lags, jitter, decode masks and PSTHs are those of nlb_tools. In the phase val, trials
    of the split train train and those of val are evaluated; in the phase test, both train.

    example: stndt prepare mc_maze --nwb=data/nwb --out=data
    """
    fv = new_flags()
    flags.DEFINE_string("nwb", "", "folder of the NWB files, or one above it", flag_values=fv)
    flags.DEFINE_string("out", "", "folder to write to", flag_values=fv)
    flags.DEFINE_integer("bin_ms", 5, "bin width, 5 or 20", flag_values=fv)
    flags.DEFINE_string("phase", "val", "val or test", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the jitter", flag_values=fv)
    flags.DEFINE_boolean("download", False, "bring the NWB files first", flag_values=fv)
    flag, _ = _parse(fv, argv, _benchmark)
    _required(flag, "nwb", "out")
    from stndt_jax.data import hdf5, nlb

    if flag["download"]:
        _download(name, flag["nwb"])
    tensors = nlb.prepare(
        name, flag["nwb"], bin_ms=flag["bin_ms"], phase=flag["phase"], seed=flag["seed"]
    )
    stem = f"{hdf5.group_name(name, flag['bin_ms'])}_{flag['phase']}"
    inputs, targets = _paths(flag["out"], stem)
    tensors.write(inputs, targets)
    known = tensors.targets is not None
    for note in tensors.notes:
        print(f"nlb_tools: {note}")
    # Read again from the files: what is shown is what training will see.
    return _show(hdf5.read(inputs, targets if known else None), inputs, velocity=True)


def _custom(argv: list[str]) -> int:
    r"""Makes a recording's input and target files from any NWB file.

    usage: stndt prepare custom --nwb=FILE --align=COLUMN --window=FROM,TO --out=DIR [flags]

    The file needs a units table with spike times and a trials table; stndt inspect FILE lists what
    it has. Trials whose window reaches into a gap of the recording keep what was recorded.

    example: stndt prepare custom --nwb=day1.nwb --align=go_cue_time --window -250 450 --out=data \
                 --behavior=hand_vel --forward-ms=100
    """
    fv = new_flags()
    text, number = flags.DEFINE_string, flags.DEFINE_float
    text("nwb", "", "the NWB file", flag_values=fv)
    text("out", "", "folder to write to", flag_values=fv)
    text("name", "", "of the recording; the file's own without it", flag_values=fv)
    text("align", "", "column of trials with the time of an event", flag_values=fv)
    text("window", "", "from where to where a trial reaches, ms from the event", flag_values=fv)
    text("until", "", "column of trials that the window's end is relative to", flag_values=fv)
    number("bin_ms", 5.0, "bin width in ms", flag_values=fv)
    number("forward_ms", 0.0, "how much of the window's end is to be predicted", flag_values=fv)
    text("behavior", "", "time series to decode", flag_values=fv)
    number("lag_ms", 0.0, "how much later than spikes behaviour is taken", flag_values=fv)
    text("heldout_column", "", "column of units that is true for held-out ones", flag_values=fv)
    text("split_column", "", "column of trials with train, and val or test", flag_values=fv)
    text("condition_column", "", "column of trials with conditions", flag_values=fv)
    _drawn(fv)
    flag, _ = _parse(fv, argv, _custom)
    _required(flag, "nwb", "out", "align", "window")
    from stndt_jax.data import hdf5, nwb_trials

    cut = nwb_trials.Cut(
        align=flag["align"],
        window_ms=_pair("window", flag["window"]),
        bin_ms=flag["bin_ms"],
        until=flag["until"],
        forward_ms=flag["forward_ms"],
        behavior=flag["behavior"],
        lag_ms=flag["lag_ms"],
    )
    data = nwb_trials.prepare(
        flag["nwb"],
        cut,
        name=flag["name"],
        heldout=flag["heldout_fraction"],
        heldout_column=flag["heldout_column"],
        evaluated=_evaluated(flag["split"]),
        split_column=flag["split_column"],
        condition_column=flag["condition_column"],
        seed=flag["seed"],
    )
    inputs, targets = _paths(flag["out"], data.name)
    hdf5.write(data, inputs)
    hdf5.write_targets(data, targets)
    return _show(data, inputs, velocity="vel" in flag["behavior"])


def _arrays(argv: list[str]) -> int:
    """Makes a recording's input and target files from arrays of spike counts.

    usage: stndt prepare arrays --spikes=FILE --bin-ms=5 --out=DIR [flags]

    FILE is .npy with counts (trials, bins, neurons), or (bins, neurons) of a continuous recording,
    which is chopped into windows; .npz with one array (bins, neurons) a trial, of any lengths; or
    HDF5 in the form of LFADS. NaN is what was not recorded.

    example: stndt prepare arrays --spikes=x.npy --bin-ms=5 --window-ms=600 --overlap-ms=200 \
                 --out=data
    """
    fv = new_flags()
    text, number = flags.DEFINE_string, flags.DEFINE_float
    text("spikes", "", ".npy, .npz or LFADS' HDF5", flag_values=fv)
    text("out", "", "folder to write to", flag_values=fv)
    text("name", "", "of the recording; the file's own without it", flag_values=fv)
    number("bin_ms", None, "bin width in ms", flag_values=fv)
    text("behavior", "", ".npy or .npz in the form of the spikes", flag_values=fv)
    text("conditions", "", ".npy with the condition of every trial", flag_values=fv)
    flags.DEFINE_integer("bins_forward", 0, "last bins of a trial to predict", flag_values=fv)
    number("window_ms", 0.0, "length of the windows of a continuous recording", flag_values=fv)
    number("overlap_ms", 0.0, "what neighbouring windows share", flag_values=fv)
    _drawn(fv)
    flag, _ = _parse(fv, argv, _arrays)
    _required(flag, "spikes", "bin_ms", "out")
    data = _from_arrays(flag)
    from stndt_jax.data import hdf5

    inputs, targets = _paths(flag["out"], data.name)
    hdf5.write(data, inputs)
    hdf5.write_targets(data, targets)
    return _show(data, inputs, velocity=False)


def _from_arrays(flag: dict[str, Any]) -> Any:
    from stndt_jax.data import arrays
    from stndt_jax.data.trials import SpikeData

    path, width = Path(flag["spikes"]), flag["bin_ms"]
    options = {
        "bin_ms": width,
        "name": flag["name"] or path.stem,
        "heldout": flag["heldout_fraction"],
        "seed": flag["seed"],
    }
    if flag["behavior"]:
        options["behavior"] = arrays.load(flag["behavior"])
    if arrays.is_lfads(path):
        return arrays.from_lfads(path, bins_forward=flag["bins_forward"], **options)
    options["evaluated"] = _evaluated(flag["split"])
    found = arrays.load(path)
    if isinstance(found, np.ndarray) and found.ndim == 2:
        if not flag["window_ms"]:
            raise UserError(
                f"{path} holds a continuous recording {found.shape}; give the length of the "
                "windows to chop it into with --window-ms"
            )
        window, overlap = (round(flag[f"{what}_ms"] / width) for what in ("window", "overlap"))
        return arrays.from_continuous(found, window=window, overlap=overlap, **options)
    if flag["conditions"]:
        options["conditions"] = arrays.load(flag["conditions"])
    return SpikeData.from_arrays(found, bins_forward=flag["bins_forward"], **options)


def download(argv: list[str]) -> int:
    """Brings a benchmark data set's NWB files from the DANDI archive, checked by digest.

    usage: stndt download NAME --out=DIR

    The same command on the same folder goes on where it was.

    example: stndt download mc_maze --out=data/nwb
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "folder for all data sets", flag_values=fv)
    flag, (name,) = _parse(fv, argv, download, 1)
    _required(flag, "out")
    _download(name, flag["out"])
    print(f"next: stndt prepare {name} --nwb={flag['out']} --out=data")
    return 0


def _download(name: str, out: str) -> None:
    from stndt_jax.data import dandi as room

    room.download(name, out, say=print)


def inspect(argv: list[str]) -> int:
    """Lists what an NWB or HDF5 file offers: units, columns of trials, time series, arrays.

    usage: stndt inspect FILE

    example: stndt inspect day1.nwb
    """
    _, (path,) = parse(new_flags(), argv, inspect, 1)
    from stndt_jax.data import summary

    print(summary.of_file(path))
    return 0


def check_submission(argv: list[str]) -> int:
    """Checks a submission file against the recording: group, keys, shapes, values, unit.

    usage: stndt check-submission FILE --data=INPUT [--name=DATASET]

    example: stndt check-submission runs/maze/submission.h5 --data=data/mc_maze_test.h5
    """
    fv = new_flags()
    flags.DEFINE_string("data", "", "the recording's input file", flag_values=fv)
    flags.DEFINE_string("name", "", "data set, where the file's name is another", flag_values=fv)
    flag, (path,) = _parse(fv, argv, check_submission, 1)
    _required(flag, "data")
    from stndt_jax.data import hdf5
    from stndt_jax.evaluation import submission

    data = hdf5.read(flag["data"], name=flag["name"] or None)
    group = hdf5.group_name(data.name, data.bin_ms)
    rates = submission.read(path, group)
    submission.check(rates, data)
    submission.check_units(rates, data)
    print(
        f"{path}: group {group} fits {flag['data']}: {len(rates)} keys, all rates in counts per bin"
    )
    return 0


def export(argv: list[str]) -> int:
    """Writes inferred rates for other tools; windows of a continuous recording are merged.

    usage: stndt export SUBMISSION --data=INPUT --out=FILE [--name=DATASET]

    The ending of FILE tells the format: .nwb, .nc (xarray, NetCDF) or .h5. An NWB file that is
    there already gets the rates added to it; take a copy of the recording.

    example: stndt export runs/day1/submission.h5 --data=data/day1.h5 --out=day1_rates.nwb
    """
    fv = new_flags()
    flags.DEFINE_string("data", "", "the recording's input file", flag_values=fv)
    flags.DEFINE_string("out", "", "file to write", flag_values=fv)
    flags.DEFINE_string("name", "", "data set, where the file's name is another", flag_values=fv)
    flag, (path,) = _parse(fv, argv, export, 1)
    _required(flag, "data", "out")
    from stndt_jax.data import export as room
    from stndt_jax.data import hdf5
    from stndt_jax.evaluation import submission

    data = hdf5.read(flag["data"], name=flag["name"] or None)
    rates = submission.read(path, hdf5.group_name(data.name, data.bin_ms))
    submission.check(rates, data)
    found = room.collect(rates, data, {"submission": path, "fingerprint": data.fingerprint()})
    room.write(found, flag["out"])
    R, T, N = found.rates.shape
    print(f"wrote {flag['out']}: {R} x {T} bins of {data.bin_ms:g} ms, {N} neurons, counts per bin")
    return 0


def _drawn(fv: flags.FlagValues) -> None:
    """Flags of the draws that split a recording."""
    flags.DEFINE_float("heldout_fraction", 0.25, "of the neurons to hold out", flag_values=fv)
    flags.DEFINE_string("split", ".75/.25", "fractions to train on / evaluate", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the draws", flag_values=fv)


def _parse(fv: flags.FlagValues, argv: list[str], command: Any, positional: int = 0) -> Any:
    """As `parse`, with two numbers behind --window."""
    words: list[str] = []
    for word in argv:
        # --window -250 450: absl takes one value, and a number is no positional argument here.
        if re.fullmatch(r"[-+.\d]+", word) and len(words) > 1 and words[-2] == "--window":
            words[-1] += f",{word}"
        else:
            words.append(word)
    return parse(fv, words, command, positional)


def _required(flag: dict[str, Any], *names: str) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if not flag[name]]
    if missing:
        raise UserError(f"{' and '.join(missing)} missing; --help shows an example")


def _pair(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in re.split(r"[,\s]+", text.strip()))
    except ValueError:
        raise UserError(f"--{name} is {text!r}; give two numbers, for example -250,450") from None
    return low, high


def _evaluated(split: str) -> float:
    """The second of two fractions that add up to 1."""
    try:
        train, evaluated = (float(part) for part in split.split("/"))
    except ValueError:
        train = evaluated = -1.0
    if not (train > 0 and evaluated > 0 and abs(train + evaluated - 1) < 1e-6):
        raise UserError(f"--split is {split!r}; give two fractions that add up to 1, as .75/.25")
    return evaluated


def _paths(out: str, stem: str) -> tuple[Path, Path]:
    """The input and the target file, in a folder that is there."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be made a folder: {error.strerror}") from error
    return folder / f"{stem}.h5", folder / f"{stem}_target.h5"


def _show(data: Any, inputs: Path, *, velocity: bool) -> int:
    """Prints the summary and writes it, and the picture, beside the input file."""
    from stndt_jax.data import summary

    text = summary.of_recording(data)
    files.write_text(inputs.with_suffix(".txt"), text + "\n")
    print(text)
    written = [inputs, inputs.with_suffix(".txt")]
    if data.eval.heldout is not None:
        written.insert(1, inputs.with_name(f"{inputs.stem}_target.h5"))
    try:
        from stndt_jax.plotting import recording, style
    except ModuleNotFoundError:
        print("no picture: matplotlib is missing; run: pip install 'stndt_jax[plots]'")
    else:
        sizes = (data.bins_forward, data.heldout)
        fig = recording.recording(
            data.train.counts(*sizes),
            has_count_RTN=data.train.has_count(*sizes),
            heldin=data.heldin,
            bins_observed=data.bins_observed,
            bin_ms=data.bin_ms,
            behavior=data.train.behavior,
            velocity=velocity,
            conditions=data.train.conditions,
            trials=range(min(3, len(data.train))),
            name=f"{data.name}: training trials",
        )
        written += style.save(fig, inputs.with_suffix(".png"))
    print("wrote " + ", ".join(map(str, written)))
    return 0
