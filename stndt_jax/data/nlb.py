"""The seven data sets of the Neural Latents Benchmark, from their NWB files through nlb_tools.

Windows, alignment, lags, jitter, decode masks and PSTHs are nlb_tools' own: what is written here
is what its functions return, in the types in which it stores it. Before it is asked, the files are
checked for what it would stumble over.
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
from stndt_jax.data.validation import ragged, write_group
from stndt_jax.errors import UserError
from stndt_jax.types import NDArray

BIN_MS = (5, 20)
PHASES = ("val", "test")


class Dandiset(NamedTuple):
    """Where a data set is published."""

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
    """What nlb_tools makes of a data set.

    Attributes:
        name: of the data set.
        bin_ms: bin width in ms.
        inputs: training counts and behaviour, and held-in counts of the evaluated trials.
        targets: what the evaluated trials are scored against; None in the test phase.
        notes: what nlb_tools remarked.
    """

    name: str
    bin_ms: int
    inputs: Mapping[str, NDArray]
    targets: Mapping[str, NDArray] | None
    notes: tuple[str, ...]

    def write(self, inputs: Path, targets: Path) -> None:
        """Writes the input file, and the target file where the targets are known.

        Raises:
            UserError: they cannot be written there.
        """
        attributes: dict[str, str | float] = {"name": self.name, "bin_ms": float(self.bin_ms)}
        write_group(inputs, None, _stored(self.inputs), attributes)
        if self.targets is not None:
            group = group_name(self.name, self.bin_ms)
            write_group(targets, group, _stored(self.targets), attributes)


def check_name(name: str) -> Dandiset:
    """The publication of a data set.

    Raises:
        UserError: the benchmark has no data set of this name.
    """
    if name not in DATA_SETS:
        raise UserError(f"{name} is no data set of the benchmark; it has {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def prepare(
    name: str, folder: str | Path, *, bin_ms: int = 5, phase: str = "val", seed: int = 0
) -> Tensors:
    """Makes the tensors of a data set.

    In the validation phase, trials of the split `train` train and those of `val` are evaluated,
    with targets; in the test phase both train and those of `test` are evaluated, whose held-out
    neurons nobody but the benchmark knows.

    Args:
        name: of the data set.
        folder: where its NWB files are, or a folder above.
        bin_ms: bin width in ms, 5 or 20.
        phase: "val" or "test".
        seed: of nlb_tools' jitter, which DMFC_RSG has.

    Raises:
        UserError: nlb_tools or a file is missing, or a file is not as it should be.
    """
    check_name(name)
    for option, value, known in (("bin_ms", bin_ms, BIN_MS), ("phase", phase, PHASES)):
        if value not in known:
            raise UserError(f"{option} is {value}; the benchmark has {known[0]} and {known[1]}")
    tools, interface = _nlb_tools()
    files = find(name, folder, phase)
    params = tools.PARAMS[name]
    skip = [_skipped(path, params, test=TEST_FILE in path.name) for path in files]
    _same_units(files)
    train: Any = "train" if phase == "val" else ["train", "val"]
    notes: list[str] = []
    with _quiet(interface, notes):
        # Both files are there: the prefix keeps the test file out where it is not needed.
        prefix = f"*{TRAIN_FILE}" if phase == "val" else ""
        data = _sorted(interface.NWBDataset)(
            str(files[0].parent), prefix, skip_fields=sorted(set().union(*skip))
        )
        data.resample(bin_ms)
        common = {"save_file": False, "seed": seed}
        try:
            inputs = tools.make_train_input_tensors(
                data, name, train, include_behavior=True, include_forward_pred=True, **common
            )
            evaluated = tools.make_eval_input_tensors(data, name, phase, **common)
            targets = None
            if phase == "val":
                targets = tools.make_eval_target_tensors(
                    data, name, train, phase, include_psth="psth_params" in params, **common
                )[group_name(name, bin_ms)]
        except (ValueError, AssertionError) as error:
            raise UserError(_why_uneven(data, params, files[0], error)) from error
    inputs["eval_spikes_heldin"] = evaluated["eval_spikes_heldin"]
    return Tensors(name, bin_ms, inputs, targets, tuple(dict.fromkeys(notes)))


def find(name: str, folder: str | Path, phase: str) -> list[Path]:
    """The training file of a data set and, for the test phase, its test file.

    They lie in one folder, the given one or one below it; where several have such files, the one
    below a folder with the number of the dandiset is taken.

    Raises:
        UserError: they are not there, or nothing tells which to take.
    """
    folder, dandiset = Path(folder), check_name(name)
    layout = f"{dandiset.number}/{dandiset.subject}/*{TRAIN_FILE}*.nwb"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that holds {layout}")
    parents = sorted({path.parent for path in folder.rglob(f"*{TRAIN_FILE}*.nwb")})
    if len(parents) > 1:
        parents = [p for p in parents if dandiset.number in p.relative_to(folder).parts] or parents
    if len(parents) != 1:
        what = "several folders with training files: " + ", ".join(map(str, parents))
        raise UserError(
            f"{folder} holds {what if parents else 'no training file'}; {name} is expected as "
            f"{layout}: stndt download {name} brings it"
        )
    found = []
    for kind in (TRAIN_FILE, TEST_FILE)[: 1 if phase == "val" else 2]:
        files = sorted(parents[0].glob(f"*{kind}*.nwb"))
        if len(files) != 1:
            raise UserError(
                f"{parents[0]} holds {len(files)} files *{kind}*.nwb; it must hold one of {name}"
            )
        found += files
    return found


def _skipped(path: Path, params: Mapping[str, Any], *, test: bool) -> set[str]:
    """Checks a file; returns the names, as nlb_tools gives them, of series that nobody needs."""
    with open_nwb(path) as file:
        _check_trials(file, params, test)
        _check_units(file, test)
        names = {s.name.rsplit("/", 1)[-1] for s in file.series.values()}
        # A series within a container has the container's name before its own.
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
        raise UserError(f"{trials.where}: column {align} holds no time at all")


def _check_units(file: NWB, test: bool) -> None:
    units = file.units
    heldout = units.flags("heldout")
    if not test and (heldout.all() or not heldout.any()):
        raise UserError(
            f"{units.where}: {int(heldout.sum())} of {len(heldout)} units are held out; "
            "co-smoothing needs some held-out and some held-in ones"
        )
    ends = [units.observed(row) for row in range(len(units))]
    if any(interval is None for interval in ends):
        raise UserError(f"{units.where} have no obs_intervals, which tell when they were recorded")
    # nlb_tools rounds the end of its table to whole ms.
    end = round(1e3 * max(interval[-1, 1] for interval in ends if interval is not None)) / 1e3
    for row, number in enumerate(units.ids):
        for times in units.spikes(row):
            outside = times[(times < 0) | (times >= end)]
            if outside.size:
                raise UserError(
                    f"{units.where}: unit {number} has a spike at {outside[0]:g} s, outside the "
                    f"recording, which is from 0 to {end:g} s; times must be in s"
                )


def _same_units(files: list[Path]) -> None:
    """Units of two files are told to be the same ones by their ids."""
    ids = []
    for path in files:
        with open_nwb(path) as file:
            ids.append(file.units.ids[~file.units.flags("heldout")].tolist())
    if ids[0] != ids[-1]:
        raise UserError(
            f"{files[-1]}: its held-in units have the ids {_few(ids[-1])}, those of "
            f"{files[0].name} {_few(ids[0])}; take two files of one recording"
        )


def _few(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")


def _check_behavior(file: NWB, field: str) -> None:
    series = next(s for s in file.series.values() if s.name.replace("/", "_").endswith(field))
    trials = file.trials
    first, last = (np.nanmin, np.nanmax)
    low, high = first(trials.times("start_time")), last(trials.times("stop_time"))
    _, x_SD = series.between(float(low), float(high))
    if not np.isfinite(x_SD).any():
        raise UserError(
            f"{file.path}: {series.name} is NaN in all trials, {low:g} to {high:g} s; there is no "
            "behaviour to decode"
        )


def _why_uneven(data: Any, params: Mapping[str, Any], path: Path, error: Exception) -> str:
    """nlb_tools drops moments in which anything is NaN; trials then differ in length."""
    holes = {
        str(field): float(data.data[field].isna().any(axis=1).mean())
        for field in data.data.columns.get_level_values(0).unique()
    }
    found = ", ".join(f"{field} {share:.1%}" for field, share in holes.items() if share > 0)
    window = params["make_params"]["align_range"]
    return (
        f"{path}: nlb_tools cannot cut trials of one length, {window[0]} to {window[1]} ms around "
        f"{params['make_params']['align_field']} ({error}); NaN in {found or 'no field'}: trials "
        "that reach into a gap, or beyond the end of the recording, must have another split, none"
    )


def _stored(tensors: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Arrays in the types in which nlb_tools stores them."""
    short = {"f": np.float32, "i": np.int32}
    return {
        # Rows of one length come as a two-dimensional array of objects.
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
            f"the benchmark's data sets need nlb_tools and what it needs ({error}); run: pip "
            "install 'stndt_jax[nlb]' and then: pip install --no-deps nlb_tools==0.0.4"
        ) from error
    return make_tensors, nwb_interface


def _sorted(dataset: type) -> type:
    """nlb_tools' loader with moments in order.

    Behaviour that has gaps comes first in its table, and pandas, since version 2, puts the moments
    in the gaps behind all others. Where nothing is out of order this changes nothing.
    """

    class InOrder(dataset):
        def load(self, *args: Any, **kwargs: Any) -> tuple:
            data, *rest = super().load(*args, **kwargs)
            return data.sort_index(), *rest

    return InOrder


class _Notes(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(record.getMessage())


@contextlib.contextmanager
def _quiet(interface: Any, notes: list[str]) -> Iterator[None]:
    """What nlb_tools says goes into notes, and its warnings of what pandas deprecates nowhere.

    It smooths the neurons of a PSTH in processes of their own; forked from one that runs JAX they
    may hang, so that here they take turns.
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
