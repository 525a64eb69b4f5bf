"""``synth``, ``download``, ``inspect`` and ``prepare``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags, Values, wants_help
from stndt_jax.errors import UserError


def synth(argv: list[str]) -> int:
    """Simulates a recording with known rates.

    usage: stndt synth lorenz|rnn|reach --out=FILE [--seed=0]

    lorenz is a Lorenz attractor, rnn a chaotic recurrent network, reach a reaching
    task with hand velocity. The target file, here reach_target.h5, holds the
    true rates.

    example: stndt synth reach --out=reach.h5
    """
    flags = Flags(synth)
    shared.out(flags, "FILE", "HDF5 file to write", required="reach.h5")
    shared.seed(flags, "of the simulation")
    flag, (kind,) = flags.parse(argv, 1)
    from stndt_jax.workflows import prepare as workflow

    workflow.simulated(kind, Path(flag["out"]), seed=flag["seed"])
    return 0


def download(argv: list[str]) -> int:
    """Downloads NWB files of the benchmark from DANDI, or its test targets.

    usage: stndt download NAME --out=DIR
       or: stndt download nlb-test-targets --out=DIR [--url=URL]

    Every file is checked against its digest. The same command on the same directory
    resumes an interrupted download.

    nlb-test-targets are the held-out counts of the benchmark's test trials (106 MB),
    for stndt evaluate --test.

    example: stndt download mc_maze --out=data/nwb
    """
    flags = Flags(download)
    shared.out(flags, "DIR", "directory for all data sets", required="data/nwb")
    flags.text("url", "URL", "another address of the test targets")
    flag, (name,) = flags.parse(argv, 1)
    from stndt_jax.data import benchmark_targets, dandi

    if name == "nlb-test-targets":
        url = flag["url"] or benchmark_targets.URL
        path = benchmark_targets.download(flag["out"], url, say=print)
        print(f"wrote {path}; next: stndt evaluate DIR --test, with recordings in {path.parent}")
        return 0
    flag.refuse("url", when="without nlb-test-targets")
    if name.startswith("nlb"):
        raise UserError(f"{name} is nothing to download; did you mean nlb-test-targets?")
    dandi.download(name, flag["out"], say=print)
    shared.following("prepare", name, f"--nwb={flag['out']}", "--out=data")
    return 0


def inspect(argv: list[str]) -> int:
    """Lists what a file or directory holds, and the command to make a recording.

    usage: stndt inspect FILE

    FILE is an NWB file, of which units, trials and time series are listed; HDF5, .mat,
    .npy, .npz, .csv, .tsv or .parquet; or a directory of Kilosort or phy.

    example: stndt inspect day1.nwb
    """
    _, (path,) = Flags(inspect).parse(argv, 1)
    from stndt_jax.data import summary

    print(summary.of_file(path))
    return 0


def prepare(argv: list[str]) -> int:
    """Makes a recording's HDF5 files, with a summary and a picture to check.

    usage: stndt prepare KIND [flags]

    KIND is a data set of the Neural Latents Benchmark (mc_maze, mc_rtt, area2_bump,
    dmfc_rsg, mc_maze_large, mc_maze_medium, mc_maze_small), custom for any other NWB
    file, arrays for files of spike counts, or spikes for files of spike times. stndt
    prepare KIND --help lists the flags of a kind.

    example: stndt prepare mc_maze --nwb=data/nwb --out=data
    """
    if not argv or (wants_help(argv) and argv[0].startswith("-")):
        print(Flags(prepare).help())
        return 0
    from stndt_jax.data import nlb

    kind, rest = argv[0], argv[1:]
    if kind == "custom":
        return prepare_custom(rest)
    if kind == "arrays":
        return prepare_arrays(rest)
    if kind == "spikes":
        return prepare_spikes(rest)
    if kind not in nlb.DATA_SETS:
        known = ", ".join([*nlb.DATA_SETS, "custom", "arrays", "spikes"])
        raise UserError(f"{kind} is nothing that can be prepared; choose one of {known}")
    return prepare_benchmark(rest, kind)


def prepare_benchmark(argv: list[str], name: str = "mc_maze") -> int:
    """Makes the input and target files of a data set of the benchmark.

    usage: stndt prepare NAME --nwb=DIR --out=DIR [--bin-ms=5|20] [--phase=val|test]
                         [--download]

    Windows, lags, jitter, decode masks and PSTHs are those of nlb_tools. In the phase
    val, models train on the trials of the split train and are evaluated on those of
    val; in the phase test, they train on both.

    example: stndt prepare mc_maze --nwb=data/nwb --out=data
    """
    flags = Flags(prepare_benchmark)
    flags.text("nwb", "DIR", "directory of the NWB files, or one above it", required="data/nwb")
    shared.out(flags, "DIR", "directory to write to", required="data")
    flags.whole("bin_ms", "bin width, ms: 5 or 20", 5)
    flags.choice("phase", "of the benchmark", ["val", "test"], "val")
    shared.seed(flags, "of the jitter, which only dmfc_rsg has")
    flags.switch("download", "download the NWB files first")
    flag, _ = flags.parse(argv)
    if name != "dmfc_rsg":
        flag.refuse("seed", when=f"on {name}, which has no jitter")
    from stndt_jax.data import dandi
    from stndt_jax.workflows import prepare as workflow

    if flag["download"]:
        dandi.download(name, flag["nwb"], say=print)
    written = workflow.benchmark(
        name,
        flag["nwb"],
        Path(flag["out"]),
        bin_ms=flag["bin_ms"],
        phase=flag["phase"],
        seed=flag["seed"],
    )
    return shared.wrote(written)


def prepare_custom(argv: list[str]) -> int:
    r"""Makes a recording's input and target files from any NWB file.

    usage: stndt prepare custom --nwb=FILE --align=COLUMN --window=FROM,TO --out=DIR
                         [flags]

    The file needs a table of units with spike times and a table of trials; stndt
    inspect FILE lists what it has. Bins outside the observation intervals of a unit, in
    invalid_times, and after a unit was lost count as not recorded.

    --heldout, --units and --skip-units take identifiers of units (5,6), COLUMN=VALUE of
    the table of units (area=V2, quality=good), or a file with identifiers, or with true
    or false for each unit; --evaluated takes trials in the same way, by their rows.
    Trials are padded to the longest: one 20 times as long as the median is refused, and
    --max-bins leaves it out.

    example: stndt prepare custom --nwb=day1.nwb --align=go_cue_time \
                 --window=-250,450 --behavior=hand_vel --forward-ms=100 --out=data
    """
    flags = _custom_flags()
    flag, _ = flags.parse(_join_window(argv))
    _check_custom(flag)
    from stndt_jax.data import nwb_population, nwb_trials, spike_trials
    from stndt_jax.workflows import prepare as workflow

    names = ("align", "bin_ms", "until", "forward_ms", "behavior", "lag_ms", "max_bins", "drifting")
    cut = spike_trials.Cut(
        window_ms=_two_numbers(flag, "window"),
        spike_time_unit=flag["spike_time_unit"],
        trial_time_unit=flag["trial_time_unit"],
        **{name: flag[name] for name in names},
    )
    written = workflow.custom(
        flag["nwb"],
        cut,
        Path(flag["out"]),
        name=flag["name"],
        heldout=flag["heldout"] or flag["heldout_units"] or flag["heldout_fraction"],
        heldout_column=flag["heldout_column"],
        evaluated=flag["evaluated"] or _evaluated(flag["split"]),
        split_column=flag["split_column"],
        trials_table=flag["trials_table"],
        behavior_rate=flag["behavior_rate"],
        taken=nwb_population.Taken(
            tables=flag["units_table"],
            units=flag["units"],
            skipped=flag["skip_units"],
            ids=flag["ids"] or "",
            intervals=flag["obs_intervals"],
        ),
        kept=nwb_trials.Kept(
            trial_columns=flag["trial_columns"],
            unit_columns=flag["unit_columns"],
            conditions=flag["condition_column"],
            behavior_names=flag["behavior_name"],
            behavior_unit=flag["behavior_unit"],
        ),
        seed=flag["seed"],
    )
    return shared.wrote(written)


def _custom_flags() -> Flags:
    flags = Flags(prepare_custom)
    flags.text("nwb", "FILE", "the NWB file", required="day1.nwb")
    shared.out(flags, "DIR", "directory to write to", required="data")
    flags.text("name", "NAME", "of the recording; by default the file's own")
    flags.text("trials_table", "TABLE", "table of intervals to cut, instead of trials")
    flags.text("align", "COLUMN", "column of trials with the time of an event", required="go_time")
    flags.text("window", "FROM,TO", "of a trial, ms from the event", required="-250,450")
    flags.text("until", "COLUMN", "column of trials; TO is ms from this event instead")
    flags.whole("max_bins", "leave out trials with more bins (0: none)", 0, 0)
    flags.text("trial_time_unit", "UNIT", "of the times of trials, if not s: ms, us, samples:RATE")
    flags.number("bin_ms", "MS", "bin width, ms", 5.0)
    flags.number("forward_ms", "MS", "end of the window that is to be predicted, ms", 0.0)
    flags.text("behavior", "SERIES", "time series to decode")
    flags.number("lag_ms", "MS", "how much later than the spikes behaviour is taken, ms", 0.0)
    flags.number("behavior_rate", "HZ", "its samples/s, if the file does not say it", None)
    _behavior_names(flags)
    flags.words("units_table", "PATH", "tables of units to take, several are joined")
    flags.text("units", "UNITS", "units to take, such as quality=good")
    flags.text("skip_units", "UNITS", "units to leave out")
    flags.choice("ids", "number the units from 0", ["new"], None)
    flags.text("spike_time_unit", "UNIT", "of the spike times, if not s: ms, us, samples:RATE")
    flags.choice(
        "drifting", "units lost or found half-way: silence is not recorded, or a rate of 0",
        ["mask", "keep"], "mask",
    )  # fmt: skip
    flags.switch("obs_intervals", "take bins outside all intervals of recording for recorded", True)
    flags.text("heldout_column", "COLUMN", "column of units that is true for held-out units")
    flags.text("heldout_units", "FILE", "file with identifiers or names of held-out units")
    flags.text("split_column", "COLUMN", "column of trials with train, and val or test")
    flags.text("evaluated", "TRIALS", "trials to evaluate, instead of --split")
    flags.text("condition_column", "COLUMN", "column of trials with conditions")
    flags.words("trial_columns", "COLUMN", "columns of trials to keep beside the rates")
    flags.words("unit_columns", "COLUMN", "columns of units to keep besides area and quality")
    _partition(flags)
    return flags


def _check_custom(flag: Values) -> None:
    """Refuses flags that would have no effect."""
    _refuse_heldout_twice(flag)
    if flag["heldout_units"]:
        flag.refuse("heldout_fraction", "heldout", when="with --heldout-units")
    if flag["heldout_column"]:
        flag.refuse("heldout_fraction", "heldout", "heldout_units", when="with --heldout-column")
    if flag["split_column"]:
        flag.refuse("split", "evaluated", when="with --split-column")
    if flag["evaluated"]:
        flag.refuse("split", when="with --evaluated")
    if flag["heldout_column"] and flag["split_column"]:
        flag.refuse("seed", when="with --heldout-column and --split-column")
    if not flag["behavior"]:
        flag.refuse("lag_ms", "behavior_name", "behavior_unit", when="without --behavior")


def prepare_arrays(argv: list[str]) -> int:
    r"""Makes a recording's input and target files from arrays of spike counts.

    usage: stndt prepare arrays --spikes=FILE --bin-ms=5 --out=DIR [flags]

    FILE holds counts (trials, bins, neurons); (bins, neurons) of a continuous
    recording, which is chopped into windows; or one array (bins, neurons) per trial,
    of any lengths. It is .npy, .npz, .mat, HDF5, a table (.csv, .tsv, .parquet) with
    one column per neuron, or the HDF5 file of LFADS or lfads-torch. stndt inspect FILE
    lists what is in it. NaN means not recorded. FILE:NAME takes one array of a file,
    or one column of a table.

    Behaviour has the form of the spikes, or one row for each bin of all trials one
    after the other, or a column time (s) with samples at any times.

    --heldout takes identifiers of units (5,6-9), COLUMN=VALUE of the table of units
    (area=V2), or a file with identifiers, or with true or false for each unit;
    --evaluated takes trials in the same way, numbered from 0. Conditions and areas may
    be texts. Tables keep their rows: rates are exported with all columns of a trial and
    of a unit. Of their columns, condition, start_s (s), unit and held_out count as
    what they say.

    example: stndt prepare arrays --spikes=x.npy --bin-ms=5 --window-ms=600 \
                 --overlap-ms=200 --out=data
    """
    flags = Flags(prepare_arrays)
    flags.text("spikes", "FILE", "spike counts", required="x.npy")
    flags.number("bin_ms", "MS", "bin width, ms (required, unless the file states it)", None)
    flags.text("axes", "AXES", "of the array, such as neurons,bins (default: trials,bins,neurons)")
    shared.out(flags, "DIR", "directory to write to", required="data")
    flags.text("name", "NAME", "of the recording; by default the file's own")
    flags.text("behavior", "FILE", "values in bins, or samples with a column time")
    _behavior_names(flags)
    _circular(flags)
    flags.text("conditions", "FILE", ".npy, .csv or .txt with the condition of every trial")
    flags.text("area", "FILE", ".npy, .csv or .txt with the area of every unit")
    flags.text("trial_table", "FILE", ".csv or .npz with columns about trials, to be kept")
    flags.text("unit_table", "FILE", ".csv or .npz with columns about units, to be kept")
    flags.text("evaluated", "TRIALS", "trials to evaluate, instead of --split")
    flags.whole("bins_forward", "last bins of a trial to predict", 0)
    flags.number("window_ms", "MS", "length of the windows of a continuous recording, ms", None)
    flags.number("overlap_ms", "MS", "what neighbouring windows share, ms", None)
    _partition(flags)
    flag, _ = flags.parse(argv)
    _refuse_heldout_twice(flag)
    if flag["evaluated"]:
        flag.refuse("split", when="with --evaluated")
    if flag["evaluated"] and flag["heldout"]:
        flag.refuse("seed", when="with --evaluated and --heldout")
    from stndt_jax.data import arrays, behavior, count_files
    from stndt_jax.workflows import prepare as workflow

    split = _evaluated(flag["split"]) if "split" in flag.given else None
    written = workflow.from_arrays(
        Path(flag["spikes"]),
        Path(flag["out"]),
        bin_ms=flag["bin_ms"],
        name=flag["name"],
        axes=count_files.parsed_axes(flag["axes"]),
        bins_forward=flag.if_given("bins_forward"),
        window_ms=flag["window_ms"],
        overlap_ms=flag["overlap_ms"],
        evaluated=flag["evaluated"] or split,
        heldout=flag["heldout"] or flag.if_given("heldout_fraction"),
        seed=flag["seed"],
        beside=arrays.Beside(
            behavior=flag["behavior"],
            behavior_names=flag["behavior_name"],
            behavior_unit=flag["behavior_unit"],
            conditions=flag["conditions"],
            trial_table=flag["trial_table"],
            unit_table=flag["unit_table"],
            area=flag["area"],
            angles=behavior.parsed_angles(flag["circular"]),
        ),
    )
    return shared.wrote(written)


def prepare_spikes(argv: list[str]) -> int:
    r"""Makes a recording's input and target files from spike times and events.

    usage: stndt prepare spikes --spikes=FILE --events=FILE --window=FROM,TO
                         --bin-ms=5 --out=DIR [flags]

    Spike times are a table with the columns unit and time (s; .csv, .tsv, .parquet),
    arrays of these (.npz, .mat, HDF5), one list of times per unit, or a directory of
    Kilosort or phy, of which the units labelled good are taken. Events are a table with
    one row per trial; all its columns are kept. Without events the recording is chopped
    into windows of --window-ms. stndt inspect FILE lists what a file holds.

    --heldout, --units and --skip-units take identifiers of units (5,6-9), COLUMN=VALUE
    of what is known of them (area=V2, group=mua), or a file; --evaluated takes trials in
    the same way, by their rows. Behaviour is a table with a column time (s).

    example: stndt prepare spikes --spikes=kilosort --events=trials.csv \
                 --align=go_time --window=-250,450 --bin-ms=5 --out=data
    """
    flags = _spike_flags()
    flag, _ = flags.parse(_join_window(argv))
    _check_spikes(flag)
    from stndt_jax.data import behavior, spike_files, spike_times, spike_trials
    from stndt_jax.workflows import prepare as workflow

    series, names = None, tuple(flag["behavior_name"])
    if flag["behavior"]:
        angles = behavior.parsed_angles(flag["circular"])
        series, found = behavior.samples(flag["behavior"], angles, names)
        names = found if angles or not names else names
    cut = spike_trials.Cut(
        align=flag["align"],
        window_ms=_two_numbers(flag, "window") if flag["events"] else (0.0, flag["bin_ms"]),
        bin_ms=flag["bin_ms"],
        **{name: flag[name] for name in ("until", "forward_ms", "lag_ms", "max_bins", "drifting",
                                         "trial_time_unit")},
    )  # fmt: skip
    written = workflow.from_spikes(
        flag["spikes"],
        Path(flag["out"]),
        events=flag["events"],
        cut=cut,
        options=spike_times.Options(
            name=flag["name"],
            heldout=flag["heldout"] or flag["heldout_fraction"],
            evaluated=flag["evaluated"] or _evaluated(flag["split"]),
            split_column=flag["split_column"],
            condition_column=flag["condition_column"],
            series=series,
            behavior_names=names,
            behavior_unit=flag["behavior_unit"],
            seed=flag["seed"],
        ),
        chosen=spike_files.Chosen(
            units=flag["units"],
            skipped=flag["skip_units"],
            unit_table=flag["unit_table"],
            time_unit=flag["spike_time_unit"],
        ),
        windows_ms=None if flag["events"] else (flag["window_ms"], flag["overlap_ms"] or 0.0),
    )
    return shared.wrote(written)


def _spike_flags() -> Flags:
    flags = Flags(prepare_spikes)
    flags.text("spikes", "FILE", "file or directory of spike times", required="spikes.csv")
    flags.text("events", "FILE", "table with one row per trial", "")
    flags.text("align", "COLUMN", "column of events with the time; needed if there are several")
    flags.text("window", "FROM,TO", "of a trial, ms from the event", "")
    flags.text("until", "COLUMN", "column of events; TO is ms from this event instead")
    flags.whole("max_bins", "leave out trials with more bins (0: none)", 0, 0)
    flags.number("bin_ms", "MS", "bin width, ms", None, required="5")
    shared.out(flags, "DIR", "directory to write to", required="data")
    flags.text("name", "NAME", "of the recording; by default the file's own")
    flags.number("forward_ms", "MS", "end of the window that is to be predicted, ms", 0.0)
    flags.number("window_ms", "MS", "length of windows of a recording without events, ms", None)
    flags.number("overlap_ms", "MS", "what neighbouring windows share, ms", None)
    flags.text("spike_time_unit", "UNIT", "of the spike times, if not s: ms, us, samples:RATE")
    flags.text("trial_time_unit", "UNIT", "of the times of events, if not s")
    flags.choice(
        "drifting", "units lost or found half-way: silence is not recorded, or a rate of 0",
        ["mask", "keep"], "mask",
    )  # fmt: skip
    flags.text("units", "UNITS", "units to take, such as group=good, or all")
    flags.text("skip_units", "UNITS", "units to leave out")
    flags.text("unit_table", "FILE", "table with columns about units, to be kept")
    flags.text("behavior", "FILE", "table of samples to decode, with a column time (s)")
    flags.number("lag_ms", "MS", "how much later than the spikes behaviour is taken, ms", 0.0)
    _behavior_names(flags)
    _circular(flags)
    flags.text("condition_column", "COLUMN", "column of events with conditions")
    flags.text("split_column", "COLUMN", "column of events with train, and val or test")
    flags.text("evaluated", "TRIALS", "trials to evaluate, instead of --split")
    _partition(flags)
    return flags


def _check_spikes(flag: Values) -> None:
    """Refuses flags that are missing, or would have no effect."""
    _refuse_heldout_twice(flag)
    of_events = ("align", "window", "until", "max_bins", "trial_time_unit", "forward_ms", "lag_ms",
                 "condition_column", "split_column", "evaluated")  # fmt: skip
    if flag["events"]:
        flag.refuse("window_ms", "overlap_ms", when="with --events")
        if not flag["window"]:
            raise UserError("--window is missing; for example --window=-250,450")
    else:
        flag.refuse(*of_events, when="without --events")
        if not flag["window_ms"]:
            raise UserError(
                "--events is missing; for example --events=trials.csv, or --window-ms=600 to chop "
                "a recording without trials"
            )
    if flag["split_column"]:
        flag.refuse("split", "evaluated", when="with --split-column")
    if flag["evaluated"]:
        flag.refuse("split", when="with --evaluated")
    if not flag["behavior"]:
        flag.refuse("lag_ms", "behavior_name", "behavior_unit", "circular",
                    when="without --behavior")  # fmt: skip


def _partition(flags: Flags) -> None:
    """Flags that partition a recording into trials and neurons to train on and to score."""
    flags.number("heldout_fraction", "F", "fraction of the neurons to hold out", 0.25)
    flags.text("heldout", "UNITS", "units to hold out, such as 5,6 or area=V2, or a file")
    flags.text("split", "F/F", "fractions of the trials to train on and to evaluate", ".75/.25")
    shared.seed(flags, "of the partition")


def _behavior_names(flags: Flags) -> None:
    """Flags that say what behaviour is."""
    flags.words("behavior_name", "NAME", "names of its dimensions, such as vel_x,vel_y")
    flags.text("behavior_unit", "UNIT", "its unit, such as mm/s")


def _circular(flags: Flags) -> None:
    """The flag that names angles."""
    flags.words("circular", "NAME[:deg]", "dimensions that are angles, read as sine and cosine")


def _refuse_heldout_twice(flag: Values) -> None:
    if flag["heldout"]:
        flag.refuse("heldout_fraction", when="with --heldout")


def _join_window(argv: Sequence[str]) -> list[str]:
    """``--window -250 450`` as ``--window -250,450``, because absl takes one value."""
    words: list[str] = []
    for word in argv:
        if re.fullmatch(r"[-+.\d]+", word) and len(words) > 1 and words[-2] == "--window":
            words[-1] += f",{word}"
        else:
            words.append(word)
    return words


def _two_numbers(flag: Values, name: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in re.split(r"[,\s]+", flag[name].strip()))
    except ValueError:
        raise UserError(
            f"--{name} is {flag[name]!r}; give two numbers, for example -250,450"
        ) from None
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
