"""The seven data sets of the Neural Latents Benchmark, made from NWB files by nlb_tools.

Windows, alignment, lags, jitter, decode masks and PSTHs are those of nlb_tools: its arrays are
written unchanged, in the types in which it stores them. Added is what nlb_tools leaves out: row and
time of every trial, identifier and area of every unit, names and unit of behaviour, as far as the
NWB files state them. The files are checked first, because nlb_tools does not explain what is wrong
with a file.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.nwb import NWB, open_nwb
from stndt_jax.data.nwb_series import Series
from stndt_jax.data.tables import SOURCE
from stndt_jax.data.validation import MAX_COUNT, ragged, write_group
from stndt_jax.errors import UserError, install
from stndt_jax.types import NDArray

BIN_MS = (5, 20)
PHASES = ("val", "test")


class Dandiset(NamedTuple):
    """Where a data set is published: number and version on the DANDI archive, and its folder."""

    number: str
    version: str
    subject: str


DATA_SETS = {
    "mc_maze": Dandiset("000128", "0.220113.0400", "sub-Jenkins"),
    "mc_rtt": Dandiset("000129", "0.241017.1444", "sub-Indy"),
    "area2_bump": Dandiset("000127", "0.220113.0359", "sub-Han"),
    "dmfc_rsg": Dandiset("000130", "0.220113.0407", "sub-Haydn"),
    "mc_maze_large": Dandiset("000138", "0.220113.0407", "sub-Jenkins"),
    "mc_maze_medium": Dandiset("000139", "0.220113.0408", "sub-Jenkins"),
    "mc_maze_small": Dandiset("000140", "0.220113.0408", "sub-Jenkins"),
}
TRAIN_FILE, TEST_FILE = "desc-train", "desc-test"


@dataclass(frozen=True)
class Tensors:
    """The arrays that nlb_tools makes from a data set, under its keys.

    Attributes:
      name: name of the data set.
      bin_ms: bin width, ms.
      inputs: training counts and behaviour, and held-in counts of the evaluated trials.
      targets: what the evaluated trials are scored against; None in the test phase.
      notes: messages of nlb_tools.
      tables: what is known of trials, units and behaviour, under the keys of input files.
      behavior_unit: unit of behaviour; empty if the file states none.
    """

    name: str
    bin_ms: int
    inputs: Mapping[str, NDArray]
    targets: Mapping[str, NDArray] | None
    notes: tuple[str, ...]
    tables: Mapping[str, NDArray]
    behavior_unit: str

    def write(self, inputs: Path, targets: Path, *, keep_other: bool = False) -> None:
        """Writes the input file and, if there are targets, the target file.

        Args:
          inputs: the input file.
          targets: the target file.
          keep_other: refuse to replace files with other arrays.

        Raises:
          UserError: a file cannot be written.
        """
        attributes: dict[str, str | float] = {"name": self.name, "bin_ms": float(self.bin_ms)}
        unit = {"behavior_unit": self.behavior_unit} if self.behavior_unit else {}
        arrays = {**_stored(self.inputs), **self.tables}
        write_group(inputs, None, arrays, attributes | unit, keep_other=keep_other)
        if self.targets is not None:
            group = group_name(self.name, self.bin_ms)
            stored = _stored(self.targets)
            write_group(targets, group, stored, attributes, keep_other=keep_other)


def check_name(name: str) -> Dandiset:
    """Where a data set is published.

    Raises:
      UserError: the benchmark has no data set of this name.
    """
    if name not in DATA_SETS:
        raise UserError(
            f"{name} is no data set of the benchmark; choose one of {', '.join(DATA_SETS)}"
        )
    return DATA_SETS[name]


def prepare(
    name: str, folder: str | Path, *, bin_ms: int = 5, phase: str = "val", seed: int = 0
) -> Tensors:
    """Makes the arrays of a data set.

    In the validation phase, the model trains on trials of the split ``train`` and is evaluated on
    those of ``val``, with targets. In the test phase it trains on both and is evaluated on those
    of ``test``, whose held-out counts only the benchmark has.

    Args:
      name: name of the data set.
      folder: the folder of its NWB files, or one above it.
      bin_ms: bin width, 5 or 20 ms.
      phase: "val" or "test".
      seed: seed of nlb_tools' jitter, which dmfc_rsg has.

    Raises:
      UserError: nlb_tools or a file is missing, or a file does not hold what is needed.
    """
    check_name(name)
    for option, value, choices in (("bin_ms", bin_ms, BIN_MS), ("phase", phase, PHASES)):
        if value not in choices:
            raise UserError(f"{option} is {value}; choose {choices[0]} or {choices[1]}")
    tools, interface = _nlb_tools()
    paths = find(name, folder, phase)
    params = tools.PARAMS[name]
    skipped = [_check_file(path, params, test=TEST_FILE in path.name) for path in paths]
    _check_same_units(paths)
    notes: list[str] = []
    with _captured(interface, notes):
        # The prefix excludes the test file where it is not needed.
        prefix = f"*{TRAIN_FILE}" if phase == "val" else ""
        data = _in_order(interface.NWBDataset)(
            str(paths[0].parent), prefix, skip_fields=sorted(set().union(*skipped))
        )
        data.resample(bin_ms)
        try:
            inputs, targets = _arrays(tools, data, name, bin_ms, phase, seed)
        except (ValueError, AssertionError) as error:
            raise UserError(_why_uneven(data, params, paths[0], error)) from error
        known = _of_trials(tools, data, params, phase, seed, paths) | _of_units(data, paths[0])
    sizes = {split: len(inputs[f"{split}_spikes_heldin"]) for split in ("train", "eval")}
    names, unit = _of_behavior(paths[0], params)
    if len(names) == np.shape(inputs["train_behavior"])[-1]:
        known["behavior_names"] = np.array(names, "U")
    return Tensors(
        name=name,
        bin_ms=bin_ms,
        inputs=inputs,
        targets=targets,
        notes=tuple(dict.fromkeys(notes)),
        tables={
            # Of trials that nlb_tools drops, it does not say which they are.
            key: column
            for key, column in known.items()
            if len(column) == sizes.get(key.partition("_")[0], len(column))
        },
        behavior_unit=unit,
    )


def _of_trials(
    tools: Any, data: Any, params: Mapping[str, Any], phase: str, seed: int, paths: list[Path]
) -> dict[str, NDArray]:
    """Row of every trial in its file's table, and the time of its first bin, s.

    The trials of a test file have no times, because that file has a clock of its own.
    """
    field, low = _alignment(params)
    tables = {}
    for path in sorted(paths):  # the order in which nlb_tools reads and numbers them
        with open_nwb(path) as file:
            tables[path] = (file.trials.times(field), file.trials.times("start_time"))
    splits = {"train": "train" if phase == "val" else ["train", "val"], "eval": phase}
    found = {}
    for split, wanted in splits.items():
        mask = np.asarray(tools._prep_mask(data, wanted))
        path = paths[-1] if split == "eval" else paths[0]
        before = sum(len(times) for other, (times, _) in tables.items() if other < path)
        rows = np.flatnonzero(mask) - before
        event_s, start_s = (times[rows] for times in tables[path])
        if "jitter" in params:
            np.random.seed(seed)  # noqa: NPY002, as nlb_tools does
            event_s = event_s + tools._prep_jitter(data, mask, params["jitter"]) / 1e3
        has_event = np.isfinite(event_s) & np.isfinite(start_s)
        found[f"{split}_trials_{SOURCE}"] = rows[has_event].astype(np.int64)
        if path == paths[0]:
            # The first bin is the one that begins in the window, on a grid from time 0.
            begin_ms = np.round(event_s[has_event] * 1e3 + low, 6)
            found[f"{split}_starts_s"] = np.ceil(begin_ms / data.bin_width) * data.bin_width / 1e3
    return found


def _alignment(params: Mapping[str, Any]) -> tuple[str, float]:
    """The column with the event of every trial, and the begin of the window from it, ms."""
    made = params["make_params"]
    return made["align_field"], float(made["align_range"][0])


def _of_units(data: Any, path: Path) -> dict[str, NDArray]:
    """Identifier and area of every unit, held-in then held-out, in nlb_tools' order."""
    columns = [list(data.data[field].columns) for field in ("spikes", "heldout_spikes")]
    ids = np.array([int(unit) for unit in (*columns[0], *columns[1])])
    if not np.all((ids >= -1) & (ids < MAX_COUNT)) or len(set(ids)) < len(ids):
        return {}
    with open_nwb(path) as file:
        units, areas = list(file.units.ids), file.units.areas
    found = {"unit_ids": ids}
    if areas is not None:
        found["units_area"] = areas[[units.index(unit) for unit in ids]]
    return found


def _of_behavior(path: Path, params: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Names of the dimensions of behaviour, and its unit, where the file states them."""
    field = params["behavior_field"]
    if params["behavior_source"] != "data":
        return tuple(field), ""
    with open_nwb(path) as file:
        series = _behavior_series(file, field)
        # nlb_tools takes the values as they are stored.
        return series.value_names, series.unit if series.is_stored_in_unit else ""


def _arrays(
    tools: Any, data: Any, name: str, bin_ms: int, phase: str, seed: int
) -> tuple[dict[str, NDArray], dict[str, NDArray] | None]:
    """The inputs and, in the validation phase, the targets, from nlb_tools' functions."""
    train: Any = "train" if phase == "val" else ["train", "val"]
    common = {"save_file": False, "seed": seed}
    inputs = tools.make_train_input_tensors(
        data, name, train, include_behavior=True, include_forward_pred=True, **common
    )
    evaluated = tools.make_eval_input_tensors(data, name, phase, **common)
    inputs["eval_spikes_heldin"] = evaluated["eval_spikes_heldin"]
    if phase != "val":
        return inputs, None
    targets = tools.make_eval_target_tensors(
        data, name, train, phase, include_psth="psth_params" in tools.PARAMS[name], **common
    )
    return inputs, targets[group_name(name, bin_ms)]


def find(name: str, folder: str | Path, phase: str) -> list[Path]:
    """The training file of a data set and, for the test phase, its test file.

    Both are in one folder, the given one or one below it. If several folders have such files, the
    one whose path contains the number of the dandiset is chosen.

    Args:
      name: name of the data set.
      folder: the folder of its NWB files, or one above it.
      phase: "val" or "test".

    Raises:
      UserError: the files are not there, or several folders have them.
    """
    folder, dandiset = Path(folder), check_name(name)
    layout = f"{dandiset.number}/{dandiset.subject}/*{TRAIN_FILE}*.nwb"
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the one that holds {layout}")
    parents = sorted({path.parent for path in folder.rglob(f"*{TRAIN_FILE}*.nwb")})
    if len(parents) > 1:
        parents = [p for p in parents if dandiset.number in p.relative_to(folder).parts] or parents
    if len(parents) != 1:
        what = "several folders with training files: " + ", ".join(map(str, parents))
        raise UserError(
            f"{folder} holds {what if parents else 'no training file'}; {name} is expected as "
            f"{layout}: download it with stndt download {name}"
        )
    found = []
    for kind in (TRAIN_FILE, TEST_FILE)[: 1 if phase == "val" else 2]:
        files = sorted(parents[0].glob(f"*{kind}*.nwb"))
        if len(files) != 1:
            raise UserError(
                f"{parents[0]} holds {len(files)} files *{kind}*.nwb; it must hold exactly one, of "
                f"{name}"
            )
        found += files
    return found


def _check_file(path: Path, params: Mapping[str, Any], *, test: bool) -> set[str]:
    """Checks that a file holds what nlb_tools needs.

    Args:
      path: NWB file.
      params: nlb_tools' parameters of the data set.
      test: whether it is the test file.

    Returns:
      The time series that are not needed, under the names that nlb_tools gives them.

    Raises:
      UserError: something is missing or broken.
    """
    with open_nwb(path) as file:
        _check_trials(file, params, test)
        _check_units(file, test)
        names = {s.name.rsplit("/", 1)[-1] for s in file.series.values()}
        # The name of a series in a container starts with the name of the container.
        names |= {"_".join(s.name.split("/")[-2:]) for s in file.series.values()}
        field = params["behavior_field"]
        if params["behavior_source"] == "data" and not test:
            if field not in names:
                raise UserError(
                    f"{path} has no series {field}; series: {', '.join(file.series) or 'none'}"
                )
            _check_behavior(file, field)
    return names - {field} if isinstance(field, str) else names


def _check_trials(file: NWB, params: Mapping[str, Any], test: bool) -> None:
    trials = file.trials
    _ = trials.ids
    align = params["make_params"]["align_field"]
    needed = ["start_time", "stop_time", "split", align]
    if not test:
        fields = params["behavior_field"]
        needed += fields if isinstance(fields, list) else []
        needed += params.get("psth_params", {}).get("cond_fields", [])
    for column in needed:
        trials.column(column)
    splits, counts = np.unique(trials.column("split"), return_counts=True)
    for wanted in ["test"] if test else ["train", "val"]:
        if wanted not in splits:
            present = ", ".join(f"{s} ({n})" for s, n in zip(splits, counts, strict=True))
            raise UserError(
                f"{trials.where}: no trial of split {wanted}; splits: {present or 'none'}"
            )
    if not np.isfinite(trials.times(align)).any():
        raise UserError(f"{trials.where}: column {align} has no time in any trial")


def _check_units(file: NWB, test: bool) -> None:
    units = file.units
    heldout = units.flags("heldout")
    if not test and (heldout.all() or not heldout.any()):
        raise UserError(
            f"{units.where}: {int(heldout.sum())} of {len(heldout)} units are held out; "
            "co-smoothing needs some held-out and some held-in ones"
        )
    recorded = [units.recorded_intervals(row) for row in range(len(units))]
    ends = [intervals[-1, 1] for intervals in recorded if intervals is not None]
    if len(ends) < len(recorded):
        raise UserError(
            f"{units.where} has units without obs_intervals, the times when they were recorded; "
            "take another file"
        )
    # nlb_tools rounds the end of its table to whole ms.
    end = round(1e3 * max(ends)) / 1e3
    for row, number in enumerate(units.ids):
        for times in units.spikes(row):
            outside = times[(times < 0) | (times >= end)]
            if outside.size:
                raise UserError(
                    f"{units.where}: unit {number} has a spike at {outside[0]:g} s, outside the "
                    f"recording, which is from 0 to {end:g} s; times must be in s"
                )
    for note in units.notes():
        raise UserError(f"{note}; nlb_tools takes spike times as they are: write the file again")


def _check_same_units(paths: list[Path]) -> None:
    """Raises UserError unless the held-in units of all files have the same ids."""
    ids = []
    for path in paths:
        with open_nwb(path) as file:
            ids.append(file.units.ids[~file.units.flags("heldout")].tolist())
    if ids[0] != ids[-1]:
        raise UserError(
            f"{paths[-1]}: its held-in units have the ids {_few(ids[-1])}, those of "
            f"{paths[0].name} {_few(ids[0])}; take two files of one recording"
        )


def _few(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")


def _check_behavior(file: NWB, field: str) -> None:
    """Raises UserError if a time series is NaN in all trials."""
    series = _behavior_series(file, field)
    trials = file.trials
    low = float(np.nanmin(trials.times("start_time")))
    high = float(np.nanmax(trials.times("stop_time")))
    _, x_SD = series.between(low, high)
    if not np.isfinite(x_SD).any():
        raise UserError(
            f"{file.path}: {series.name} is NaN in all trials, {low:g} to {high:g} s; there is no "
            "behaviour to decode"
        )


def _behavior_series(file: NWB, field: str) -> Series:
    return next(s for s in file.series.values() if s.name.replace("/", "_").endswith(field))


def _why_uneven(data: Any, params: Mapping[str, Any], path: Path, error: Exception) -> str:
    """Why nlb_tools failed: it drops times with any NaN, and trials then differ in length."""
    missing = {
        str(field): float(data.data[field].isna().any(axis=1).mean())
        for field in data.data.columns.get_level_values(0).unique()
    }
    found = ", ".join(f"{field} {part:.1%}" for field, part in missing.items() if part > 0)
    window = params["make_params"]["align_range"]
    return (
        f"{path}: nlb_tools cannot cut trials of one length, {window[0]} to {window[1]} ms around "
        f"{params['make_params']['align_field']} ({error}); NaN in {found or 'no field'}: give "
        "trials that reach into a gap, or beyond the end of the recording, the split none"
    )


def _stored(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The arrays in the types in which nlb_tools stores them."""
    short = {"f": np.float32, "i": np.int32}
    return {
        # nlb_tools returns lists of equal length as a matrix of objects.
        key: ragged([np.asarray(row, np.int64) for row in x])
        if x.dtype == object
        else x.astype(short.get(x.dtype.kind, x.dtype), copy=False)
        for key, x in tensors.items()
    }


def _nlb_tools() -> tuple[ModuleType, ModuleType]:
    try:
        from nlb_tools import make_tensors, nwb_interface
    except ModuleNotFoundError as error:
        raise UserError(
            f"the benchmark's data sets need nlb_tools and its requirements ({error}); "
            f"{install('nlb')} and then: pip install --no-deps nlb_tools==0.0.4"
        ) from error
    return make_tensors, nwb_interface


def _in_order(dataset: type) -> type:
    """A loader of nlb_tools with its rows in order of time.

    If behaviour has gaps, the table starts with it, and pandas 2 and later puts rows in the gaps
    after all others. A table that is in order is not changed.
    """

    class InOrder(dataset):
        def load(self, *args: Any, **kwargs: Any) -> tuple:
            data, *rest = super().load(*args, **kwargs)
            return data.sort_index(), *rest

    return InOrder


class _Notes(logging.Handler):
    """Appends log messages to a list."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(record.getMessage())


@contextlib.contextmanager
def _captured(interface: Any, notes: list[str]) -> Iterator[None]:
    """Collects what nlb_tools logs and prints, and ignores its warnings (pandas deprecations).

    nlb_tools smooths the neurons of a PSTH in forked processes. They may hang if JAX runs in this
    process, so that here the neurons are smoothed in turn.

    Args:
      interface: the module ``nlb_tools.nwb_interface``.
      notes: the messages are appended to it.
    """
    handler, logger = _Notes(notes), logging.getLogger("nlb_tools")
    parallel, propagate = interface._poolmap, logger.propagate
    interface._poolmap = lambda f, rows, **_: [f(row) for row in rows]
    logger.addHandler(handler)
    logger.propagate = False
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            yield
    finally:
        interface._poolmap = parallel
        logger.removeHandler(handler)
        logger.propagate = propagate
        notes += [line for line in printed.getvalue().splitlines() if line.strip()]
