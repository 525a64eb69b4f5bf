"""The benchmark's data sets: every tensor is the one that nlb_tools itself makes and stores."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from stndt_jax.data import hdf5, nlb
from stndt_jax.data.nwb import open_nwb
from stndt_jax.errors import UserError

pytest.importorskip("pynwb", reason="needs pynwb")
nwb_files = importlib.import_module("helpers.nwb_files")
make_tensors = pytest.importorskip("nlb_tools.make_tensors", reason="needs nlb_tools")
nwb_interface = pytest.importorskip("nlb_tools.nwb_interface", reason="needs nlb_tools")

# Behaviour of this one has samples in the gaps between trials too: there nlb_tools' loader needs
# no help. Everywhere else its moments come out of order with pandas 2, and it stumbles.
WITHOUT_GAPS = "mc_maze_medium"


class Folders(dict[str, Path]):
    """The folder of every data set, in the layout of the archive; written when asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def __missing__(self, name: str) -> Path:
        where = nlb.DATA_SETS[name]
        folder = self._root / where.number / where.subject
        seed = list(nlb.DATA_SETS).index(name)
        self[name] = nwb_files.data_set(name, folder, seed=seed, gaps=name != WITHOUT_GAPS)
        return self[name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("nwb"))


def oracle(
    name: str, folder: Path, bin_ms: int, phase: str, tmp_path: Path, monkeypatch
) -> dict[str, np.ndarray]:
    """What nlb_tools stores, called as its own examples do."""
    load = nwb_interface.NWBDataset.load

    def in_order(self, *args, **kwargs):
        data, *rest = load(self, *args, **kwargs)
        return data.sort_index(), *rest

    if name != WITHOUT_GAPS:
        monkeypatch.setattr(nwb_interface.NWBDataset, "load", in_order)
    # Not in processes of their own, which would be forked from this one.
    monkeypatch.setattr(nwb_interface, "_poolmap", lambda f, X, **_: list(map(f, X)))
    train = "train" if phase == "val" else ["train", "val"]
    paths = [str(tmp_path / f"{kind}.h5") for kind in ("train", "eval", "target")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = nwb_interface.NWBDataset(folder, "*train" if phase == "val" else "")
        data.resample(bin_ms)
        make_tensors.make_train_input_tensors(
            data, name, train, include_behavior=True, include_forward_pred=True, save_path=paths[0]
        )
        made = make_tensors.make_eval_input_tensors(data, name, phase, save_path=paths[1])
        if phase == "val":
            # With its own writer, conditions of one size each cannot be stored.
            target = make_tensors.make_eval_target_tensors(
                data, name, train, phase, include_psth=True, save_file=False
            )
            [(group, arrays)] = target.items()
            ragged = {k: arrays.pop(k) for k in list(arrays) if k.endswith("cond_idx")}
            make_tensors.save_to_h5({group: arrays}, paths[2])
    found: dict[str, np.ndarray] = {}
    for path in paths[: 3 if phase == "val" else 2]:
        with h5py.File(path) as file:
            holder = file if path != paths[2] else file[group]
            found |= {key: holder[key][()] for key in holder}
    if phase == "val":
        found |= ragged
        assert group == (name if bin_ms == 5 else f"{name}_20")
    else:
        assert set(made) == {"eval_spikes_heldin"}
    return found


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Bit for bit, NaNs and the sign of zero included."""
    return (
        ours.dtype == theirs.dtype and ours.shape == theirs.shape
    ) and ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("phase", nlb.PHASES)
@pytest.mark.parametrize("bin_ms", nlb.BIN_MS)
@pytest.mark.parametrize("name", nlb.DATA_SETS)
def test_tensors_are_those_of_nlb_tools(name, bin_ms, phase, folders, tmp_path, monkeypatch):
    inputs, targets = tmp_path / "in.h5", tmp_path / "out.h5"
    nlb.prepare(name, folders[name], bin_ms=bin_ms, phase=phase).write(inputs, targets)
    theirs = oracle(name, folders[name], bin_ms, phase, tmp_path, monkeypatch)
    with h5py.File(inputs) as file:
        wanted = {key for key in theirs if key.startswith("train_spikes")}
        wanted |= {"train_behavior", "eval_spikes_heldin"}
        added = {"unit_ids", "behavior_names", "train_starts_s", "eval_starts_s"}
        added |= {"train_trials_source_trial", "eval_trials_source_trial"}
        added -= {"eval_starts_s"} if phase == "test" else set()
        assert set(file) == wanted | added
        for key in wanted:
            assert same(file[key][()], theirs[key]), key
    assert targets.exists() == (phase == "val")
    if phase == "test":
        return
    with h5py.File(targets) as file:
        [group] = file.values()
        seen = set(group)
        assert seen >= {"eval_spikes_heldout", "eval_spikes_heldin_forward", "eval_behavior"}
        assert seen == (set(theirs) - wanted) | {"train_behavior"}
        for key in group:
            if key.endswith("cond_idx"):
                assert [list(row) for row in group[key]] == [list(row) for row in theirs[key]]
            else:
                assert same(group[key][()], theirs[key]), key


@pytest.mark.parametrize("phase", nlb.PHASES)
@pytest.mark.parametrize(("name", "bin_ms"), [("mc_maze", 5), ("mc_rtt", 20), ("dmfc_rsg", 5),
                                              ("area2_bump", 20)])  # fmt: skip
def test_every_trial_and_unit_is_that_of_the_file(name, bin_ms, phase, folders, tmp_path):
    """Counts of the first bins, from the spike times of the stated unit at the stated time."""
    inputs = tmp_path / "in.h5"
    nlb.prepare(name, folders[name], bin_ms=bin_ms, phase=phase, seed=3).write(
        inputs, tmp_path / "out.h5"
    )
    data = hdf5.read(inputs)
    names = ("is_eye", "theta", "is_short", "ts", "tp") if name == "dmfc_rsg" else ("x", "y")
    assert data.behavior_names == names
    assert data.behavior_unit == ("" if name == "dmfc_rsg" else "mm/s")
    [path] = folders[name].glob("*desc-train*.nwb")
    [test] = folders[name].glob("*desc-test*.nwb")
    assert list(data.units) == [0, 2, 4, 6, 7, 1, 3, 5]
    for split, trials in (("train", data.train), ("eval", data.eval)):
        held_back = split == "eval" and phase == "test"
        with open_nwb(test if held_back else path) as file:
            splits, ids = file.trials.column("split"), list(file.units.ids)
            spikes = {n: np.concatenate([*file.units.spikes(row)]) for row, n in enumerate(ids)}
            onset = file.trials.times(
                {"mc_rtt": "start_time", "dmfc_rsg": "go_time"}.get(name, "move_onset_time")
            )
        source = trials.columns["source_trial"]
        kinds = {"train": {"train"} | ({"val"} if phase == "test" else set()), "eval": {phase}}
        assert len(source) == len(trials) == sum(x in kinds[split] for x in splits)
        assert {splits[r] for r in source} == kinds[split] and np.all(np.diff(source) > 0)
        assert (trials.starts is None) == held_back
        low = {"mc_rtt": 0.0, "dmfc_rsg": -1.5, "area2_bump": -0.1}.get(name, -0.25)
        for row, r in enumerate(source):
            start = onset[r] + low if held_back else trials.starts[row]
            if held_back:
                start = np.ceil(round(start * 1e3 / bin_ms, 6)) * bin_ms / 1e3
            jitter = 0.3 if name == "dmfc_rsg" else 0.0
            assert -1e-6 <= start - (onset[r] + low) <= jitter + bin_ms / 1e3
            edges = np.round(start * 1e3) + bin_ms * np.arange(trials.heldin.shape[1] + 1)
            for n, unit in enumerate(data.units[: data.heldin]):
                at = np.floor(np.round(spikes[unit] * 1e3, 6))  # spikes of a millisecond
                counts = np.diff(np.searchsorted(at, edges))
                np.testing.assert_array_equal(trials.heldin[row, :, n], counts)


def test_dmfc_targets_are_known_between_set_and_go_only(folders, tmp_path):
    inputs, targets = tmp_path / "in.h5", tmp_path / "out.h5"
    nlb.prepare("dmfc_rsg", folders["dmfc_rsg"]).write(inputs, targets)
    data = hdf5.read(inputs, targets)
    known = np.isfinite(hdf5.targets_of(data)["eval_spikes_heldout"][..., 0])
    produced = data.eval.behavior[:, 4]
    sure = np.isfinite(produced)  # an outlier's behaviour is masked
    assert known.shape == (8, 300)
    # Front-padded: the set-go period, tp ms on a grid of bins, ends with the window, but for the
    # jitter.
    jitter = hdf5.read_targets(targets)["eval_jitter"]
    assert np.all(np.abs(known[sure].sum(axis=1) * 5 - produced[sure]) <= 5)
    for row, shift in zip(known[sure], jitter[sure], strict=True):
        last = np.flatnonzero(row)[-1]
        assert last == 299 - shift
    assert not data.gaps  # every input is there


def test_the_folder_may_be_above(folders, tmp_path):
    root = folders["mc_rtt"].parents[1]
    found = nlb.find("mc_rtt", root, "test")
    assert [path.parent for path in found] == [folders["mc_rtt"]] * 2
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    shutil.copy(found[0], lonely)
    assert nlb.find("mc_rtt", tmp_path, "val") == [lonely / found[0].name]
    with pytest.raises(UserError, match=r"0 files \*desc-test"):
        nlb.find("mc_rtt", tmp_path, "test")
    empty = tmp_path / "lonely" / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"no training file.*000129/sub-Indy/.*stndt download"):
        nlb.find("mc_rtt", empty, "val")
    shutil.copy(found[0], empty)
    with pytest.raises(UserError, match="several folders with training files"):
        nlb.find("mc_rtt", tmp_path, "val")
    # The number of the dandiset decides.
    assert nlb.find("mc_rtt", root.parent, "val") == found[:1]


def test_nothing_of_nlb_tools_stays_changed(folders):
    before = nwb_interface._poolmap
    nlb.prepare("mc_rtt", folders["mc_rtt"])
    assert nwb_interface._poolmap is before


def _edit(folder: Path, tmp_path: Path, edit) -> Path:
    """A copy of a data set after `edit(training file)`."""
    copy = tmp_path / "edited"
    shutil.copytree(folder, copy)
    [path] = copy.glob("*train*")
    with h5py.File(path, "r+") as file:
        edit(file)
    return copy


def _put(file: h5py.File, key: str, values) -> None:
    attrs = dict(file[key].attrs)
    del file[key]
    file[key] = values
    file[key].attrs.update(attrs)


def _swap_spikes(file):
    x = file["units/spike_times"][()]
    x[[3, 4]] = x[[4, 3]]
    file["units/spike_times"][...] = x


def _late(file):
    x = file["units/spike_times"][()]
    last = file["units/spike_times_index"][1] - 1
    x[last] = 1e6
    file["units/spike_times"][...] = x


BROKEN = {
    "no held-out units": (
        lambda f: _put(f, "units/heldout", np.zeros(len(f["units/id"]), bool)),
        "0 of 8 units are held out; co-smoothing needs",
    ),
    "no column heldout": (
        lambda f: f["units"].pop("heldout"),
        "units has no column heldout; columns: ",
    ),
    "spikes out of order": (
        _swap_spikes,
        "the spike times of unit 0 were not in order, 1 of them earlier .* write the file",
    ),
    "spikes beyond the recording": (
        _late,
        r"unit 1 has a spike at 1e\+06 s, outside the recording",
    ),
    "two units of one id": (
        lambda f: _put(f, "units/id", np.array([0, 1, 2, 3, 4, 5, 6, 6])),
        "units: 2 rows have the id 6",
    ),
    "no such trials": (
        lambda f: _put(f, "intervals/trials/split", np.array([b"train"] * 24)),
        r"no trial of split val; splits: train \(24\)",
    ),
    "no event": (
        lambda f: f["intervals/trials"].pop("move_onset_time"),
        "trials has no column move_onset_time; columns: ",
    ),
    "no behaviour": (
        lambda f: f["processing/behavior"].pop("hand_vel"),
        "has no series hand_vel; series: behavior/cursor_pos",
    ),
    "NaN behaviour": (
        lambda f: _put(
            f,
            "processing/behavior/hand_vel/data",
            f["processing/behavior/hand_vel/data"][()] * np.nan,
        ),
        "hand_vel is NaN in all trials",
    ),
    "a window in a gap": (
        lambda f: _put(
            f,
            "intervals/trials/move_onset_time",
            f["intervals/trials/move_onset_time"][()] + np.arange(24) % 4,
        ),
        "cannot cut trials of one length, -250 to 450 ms around move_onset_time.*NaN in",
    ),
    "no trials table": (lambda f: f["intervals"].pop("trials"), "has no trials table"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_explained(what, folders, tmp_path):
    edit, message = BROKEN[what]
    folder = _edit(folders["mc_maze_small"], tmp_path, edit)
    with pytest.raises(UserError, match=message) as caught:
        nlb.prepare("mc_maze_small", folder)
    assert "\n" not in str(caught.value)


def test_units_of_two_recordings_are_refused(folders, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(folders["mc_maze_small"], folder)
    [path] = folder.glob("*test*")
    with h5py.File(path, "r+") as file:
        _put(file, "units/id", np.arange(5))
    with pytest.raises(UserError, match="its held-in units have the ids 0, 1, 2, 3, 4, those of"):
        nlb.prepare("mc_maze_small", folder, phase="test")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bin_ms": 10}, "bin_ms is 10"), ({"phase": "train"}, "phase is train")],
)
def test_what_the_benchmark_does_not_have(options, message, folders):
    with pytest.raises(UserError, match=message):
        nlb.prepare("mc_rtt", folders["mc_rtt"], **options)
    with pytest.raises(
        UserError, match="mc_mace is no data set of the benchmark; choose one of mc_maze"
    ):
        nlb.prepare("mc_mace", folders["mc_rtt"])
