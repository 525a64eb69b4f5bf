"""Any NWB file: counts against a loop over spikes, behaviour against straight lines."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from stndt_jax.data import nwb_series, nwb_trials, nwb_units, spike_trials, summary
from stndt_jax.data.nwb import open_nwb
from stndt_jax.data.spike_trials import Cut
from stndt_jax.errors import UserError

pytest.importorskip("pynwb", reason="needs pynwb")
nwb_files = importlib.import_module("helpers.nwb_files")

CUT = Cut(align="cue_time", window_ms=(-250.0, 450.0), bin_ms=10.0, behavior="hand")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("custom") / "day1.nwb"
    return path, nwb_files.custom(path)


def prepare(path, cut=CUT, **options):
    """Without the warnings, which have a test of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nwb_trials.prepare(path, cut, **options)


@pytest.mark.parametrize("until", ["", "reward_time"])
def test_counts_are_those_of_a_loop(recording, until):
    path, truth = recording
    cut = Cut(align="cue_time", window_ms=(-250.0, 450.0), bin_ms=10.0, until=until)
    data = prepare(path, cut, split_column="block", heldout=0.34)
    rows = {"train": [], "val": []}
    for r in range(20):
        kind = ("train", "train", "val", "skip")[r % 4]
        begin = truth["event"][r] - 0.25
        seen = begin < 13.1 or begin >= 13.5
        if kind in rows and seen | (truth["end"][r] + 0.45 > 13.5):
            rows[kind].append(r)
    assert (len(data.train), len(data.eval)) == (len(rows["train"]), len(rows["val"]))
    for trials, numbers in ((data.train, rows["train"]), (data.eval, rows["val"])):
        x = trials.counts(0, data.heldout)
        known = trials.has_count(0, data.heldout)
        for i, r in enumerate(numbers):
            begin = truth["event"][r] - 0.25
            assert trials.starts[i] == pytest.approx(begin, abs=1e-9)
            end = (truth["end"] if until else truth["event"])[r] + 0.45
            for t in range(x.shape[1]):
                low, high = begin + t * 0.01, begin + (t + 1) * 0.01
                inside = any(a <= low and high <= b for a, b in truth["intervals"])
                inside &= high <= end + 1e-6
                for n, unit in enumerate(data.units):
                    spikes = truth["spikes"][unit - 10]
                    count = np.sum((spikes >= low) & (spikes < high)) if inside else 0
                    assert (x[i, t, n], known[i, t, n]) == (count, inside)
    assert data.gaps  # the one of the recording, or the short trials


def test_behavior_of_straight_lines_is_exact(recording):
    path, _ = recording
    data = prepare(path, evaluated=0.2, seed=3)
    for trials in (data.train, data.eval):
        middle = trials.starts[:, None] + (np.arange(70) + 0.5) * 0.01
        gap = (middle > 15.015) & (middle < 15.065)
        near = (middle > 15.0) & (middle < 15.08)
        want = np.stack([3.0 * middle, 10.0 - middle], axis=-1)
        known = np.isfinite(trials.behavior).all(axis=-1)
        assert not known[gap].any() and known[~near].all()
        np.testing.assert_allclose(trials.behavior[known], want[known], rtol=1e-5, atol=1e-4)


def test_the_lag_moves_behavior_only(recording):
    path, _ = recording
    lagged = Cut(align="cue_time", window_ms=(-250, 450), bin_ms=10, behavior="hand", lag_ms=100)
    a, b = prepare(path), prepare(path, lagged)
    np.testing.assert_array_equal(a.train.heldin, b.train.heldin)
    both = np.isfinite(a.train.behavior) & np.isfinite(b.train.behavior)
    step = (b.train.behavior - a.train.behavior)[..., 0][both[..., 0]]
    np.testing.assert_allclose(step, 0.3, atol=1e-4)


@pytest.mark.parametrize("rate", [37.0, 100.0, 1000.0])
def test_resampling_against_the_integral(rate):
    """The mean over a bin of the lines between samples, by a fine sum."""
    rng = np.random.default_rng(0)
    times = np.arange(60) / rate
    x = rng.normal(size=(60, 2))
    edges = np.linspace(times[5], times[50], 14)
    found = spike_trials.resample(times, x, edges)
    for t in range(13):
        fine = np.linspace(edges[t], edges[t + 1], 20001)
        lines = np.stack([np.interp(fine, times, x[:, d]) for d in range(2)], axis=1)
        mean = np.trapezoid(lines, fine, axis=0) / (fine[-1] - fine[0])
        np.testing.assert_allclose(found[t], mean, atol=1e-5)


def test_resampling_knows_nothing_in_gaps_and_beyond():
    times = np.array([0.0, 0.1, 0.2, 0.6, 0.7, 0.8])
    x = np.ones((6, 1))
    edges = np.array([-0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.65, 0.8, 0.9])
    known = np.isfinite(spike_trials.resample(times, x, edges)[:, 0])
    np.testing.assert_array_equal(known, [0, 1, 1, 0, 0, 0, 1, 1, 0])


def test_spikes_on_an_edge_belong_to_the_bin_that_begins(tmp_path):
    """0.1 + 0.2 is more than 0.3, and must not matter."""
    import pynwb

    file = nwb_files.new_file("edges")
    for _ in range(2):
        file.add_unit(spike_times=[0.1 + 0.2, 0.4, 0.4 + 1e-6, 1.3, 1.4])
    for start in (0.3, 1.3):
        file.add_trial(start_time=start, stop_time=start + 0.2)
    path = tmp_path / "edges.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    cut = Cut(align="start_time", window_ms=(0.0, 200.0), bin_ms=100.0)
    data = prepare(path, cut, heldout=0.5, evaluated=0.5)
    found = {float(t.starts[0]): t.heldin[0, :, 0].tolist() for t in (data.train, data.eval)}
    assert found == {0.3: [1, 2], 1.3: [1, 1]}


def test_warnings_tell_what_is_left_out(recording):
    path, _ = recording
    with pytest.warns(UserWarning) as caught:
        nwb_trials.prepare(path, CUT)
    assert any("is missing in" in str(w.message) for w in caught)


def _edit(path: Path, tmp_path: Path, edit) -> Path:
    copy = tmp_path / "broken.nwb"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        edit(file)
    return copy


def _scale(file):
    file["units/spike_times"][...] = file["units/spike_times"][()] * 1000


def _no_intervals(file):
    for key in ("obs_intervals", "obs_intervals_index"):
        del file["units"][key]
    _scale(file)
    file["units/spike_times"][...] += 1e6


def _nan_behavior(file):
    file["processing/behavior/Position/hand/data"][...] = np.nan


def _nothing(file):
    pass


BROKEN = {
    "alignment": (
        _nothing, {"align": "go_cue"},
        "trials has no column go_cue; columns: .*cue_time, reward_time, block, kind",
    ),
    "no time": (_nothing, {"align": "block"}, "column block holds no times; columns of times: "),
    "ms for s": (_scale, {}, r"of unit 10 lie outside its observation intervals \(0 to 40 s"),
    "elsewhere": (_no_intervals, {}, "none of the .* spikes falls into a window"),
    "NaN behaviour": (_nan_behavior, {}, "hand has no value in any window"),
    "series": (_nothing, {"behavior": "hand_vel"}, "no series hand_vel; series: behavior/Pos"),
    "empty split": (
        _nothing, {"split_column": "kind"},
        r"column kind has no trial to train, which is train; values: 0 \(7\), 1 \(7\), 2 \(6\)",
    ),
    "held-out column": (_nothing, {"heldout_column": "quality"}, "units has no column quality"),
    "window": (_nothing, {"window_ms": (450.0, -250.0)}, "its end must be after its begin"),
    "bins": (_nothing, {"bin_ms": 9.0}, "700 ms long, which is not a whole number of bins of 9 ms"),
    "outside": (_nothing, {"window_ms": (-9e6, -8e6)}, "fits into the recording"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_explained(what, recording, tmp_path):
    edit, options, message = BROKEN[what]
    path = _edit(recording[0], tmp_path, edit)
    keys = {"align", "behavior", "window_ms", "bin_ms"}
    settings = {"align": "cue_time", "window_ms": (-250.0, 450.0), "bin_ms": 10.0}
    settings |= {"behavior": "hand"} | {k: v for k, v in options.items() if k in keys}
    with pytest.raises(UserError, match=message) as caught:
        prepare(path, Cut(**settings), **{k: v for k, v in options.items() if k not in keys})
    assert "\n" not in str(caught.value)


def test_what_is_no_nwb(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train_data"] = np.zeros((2, 3))
    with pytest.raises(UserError, match=r"is HDF5, but not NWB; .*stndt inspect"):
        prepare(tmp_path / "a.h5")
    text = summary.of_file(tmp_path / "a.h5")
    assert "train_data" in text and "2 x 3" in text


def test_inspect_lists_what_there_is(recording):
    text = summary.of_file(recording[0])
    for part in (
        "units: 6, ",
        "0 to 40 s, 39.6 s in 2 intervals",
        "trials: 20",
        "skip (5), train (10), val (5)",
        "behavior/Position/hand",
        "100 samples/s",
    ):
        assert part in text, text


def test_series_are_read_piece_by_piece(tmp_path, monkeypatch):
    """Times of samples are searched in blocks, whatever their size."""
    import pynwb

    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5e-3, 1.5e-3, 500))
    file = nwb_files.new_file("series")
    file.add_acquisition(
        pynwb.TimeSeries(name="x", data=times * 2, timestamps=times, unit="V", conversion=0.5)
    )
    with pynwb.NWBHDF5IO(tmp_path / "x.nwb", "w") as io:
        io.write(file)
    for mark in (1, 7, 64, 1000):
        monkeypatch.setattr(nwb_series, "INDEX_STRIDE", mark)
        with open_nwb(tmp_path / "x.nwb") as found:
            series = found.one_series("x")
            for low, high in (
                (-1.0, 9.0),
                (times[7], times[7]),
                (times[63], times[64]),
                (0.1, 0.2),
            ):
                t, x = series.between(low, high)
                inside = np.flatnonzero((times >= low) & (times <= high))
                first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, 499)
                assert t[0] <= times[first] and t[-1] >= times[last]
                assert len(t) <= len(inside) + 4
                np.testing.assert_allclose(x[:, 0], t, rtol=1e-12)


def test_windows_shared_by_training_and_evaluation_are_told(recording):
    long = Cut(align="cue_time", window_ms=(-500.0, 2000.0), bin_ms=10.0)
    with pytest.warns(UserWarning, match="5 of 5 evaluated trials overlap with those of training"):
        nwb_trials.prepare(recording[0], long, split_column="block")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nwb_trials.prepare(recording[0], Cut(align="cue_time", window_ms=(0.0, 400.0), bin_ms=10.0))


def test_columns_of_trials_and_units_are_kept_in_their_rows(recording):
    path, truth = recording
    kept = nwb_trials.Kept(
        trial_columns=["block", "reward_time", "id"], unit_columns=["id"], conditions="kind"
    )
    cut = Cut(align="cue_time", window_ms=(-250.0, 450.0), bin_ms=10.0)
    data = prepare(path, cut, split_column="block", heldout="13,11", kept=kept)
    assert list(data.unit_table()["unit"]) == list(data.unit_table()["id"]) == [
        *(10, 12, 14, 15), *(11, 13),
    ]  # fmt: skip
    for split, block in (("train", "train"), ("eval", "val")):
        table = data.trial_table(split)
        source = table["source_trial"]
        assert [("train", "train", "val", "skip")[r % 4] for r in source] == [block] * len(source)
        assert list(table["block"]) == [block] * len(source)
        np.testing.assert_array_equal(table["id"], source)
        np.testing.assert_allclose(table["reward_time"], truth["end"][source])
        np.testing.assert_allclose(table["start_s"], truth["event"][source] - 0.25, atol=1e-9)
        assert list(table["condition"]) == [str(r % 3) for r in source]
    assert data.behavior_names == () and data.behavior_unit == ""


def test_conditions_without_a_label_are_none():
    for labels, names in (
        (["b", "", "a", "b"], ("a", "b")),
        ([180.0, np.nan, 45.0, 180.0], ("45", "180")),
        ([180, 45, 45, 180], ("45", "180")),
        ([True, False, False, True], ("False", "True")),
    ):
        numbers, found = nwb_trials._conditions(np.array(labels))
        assert found == names
        assert [names[c] if c >= 0 else "" for c in numbers] == [
            "" if x in ("",) or x != x else str(x).removesuffix(".0") for x in labels
        ]


def _with_electrodes(path: Path, *, groups: bool) -> None:
    """Two electrodes in M1, one in an area that is not stated, of a group in PMd."""
    import pynwb

    file = nwb_files.new_file("areas")
    device = file.create_device("probe")
    group = file.create_electrode_group("a", description="a", location="PMd", device=device)
    if not groups:
        for location in ("M1", "unknown", "S1"):
            file.add_electrode(location=location, group=group, x=0.0, y=0.0, z=0.0)
    file.add_trial_column("cue_time", "cue")
    for k in range(8):
        file.add_trial(start_time=0.1 + k, stop_time=0.9 + k, cue_time=0.4 + k)
    rng = np.random.default_rng(0)
    for n in range(4):
        electrodes: list[list[int]] = [[0], [1], [1, 2], []]
        place: dict = {"electrode_group": group} if groups else {"electrodes": electrodes[n]}
        file.add_unit(spike_times=np.sort(rng.uniform(0, 8, 200)), id=n, **place)
    series: dict = {"data": rng.normal(size=(800, 2)), "rate": 100.0, "starting_time": 0.0}
    module = file.create_processing_module("behavior", "hand")
    comments = "columns=[vel_x, vel_y]"
    module.add(pynwb.TimeSeries(name="vel", unit="cm/s", comments=comments, **series))
    series["data"] = series["data"][:, 0]
    module.add(pynwb.TimeSeries(name="speed", unit="n/a", **series))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


@pytest.mark.parametrize("groups", [True, False])
def test_areas_names_and_unit_are_those_that_the_file_states(tmp_path, groups):
    _with_electrodes(tmp_path / "a.nwb", groups=groups)
    cut = Cut(align="cue_time", window_ms=(-100.0, 200.0), bin_ms=10.0, behavior="vel")
    data = prepare(tmp_path / "a.nwb", cut, heldout=0.25)
    areas = dict(zip(data.unit_table()["unit"].tolist(), data.areas.tolist(), strict=True))
    wanted = ["PMd"] * 4 if groups else ["M1", "", "S1", ""]
    assert areas == dict(enumerate(wanted))
    assert data.behavior_names == ("vel_x", "vel_y") and data.behavior_unit == "cm/s"
    given = nwb_trials.Kept(behavior_names=("x", "y"), behavior_unit="mm/s")
    data = prepare(tmp_path / "a.nwb", cut, kept=given)
    assert data.behavior_names == ("x", "y") and data.behavior_unit == "mm/s"
    speed = Cut(align="cue_time", window_ms=(-100.0, 200.0), bin_ms=10.0, behavior="speed")
    data = prepare(tmp_path / "a.nwb", speed)
    assert data.behavior_names == ("speed",) and data.behavior_unit == ""


@pytest.mark.parametrize(
    ("location", "area"),
    [
        ("M1", "M1"),
        (" primary motor cortex ", "primary motor cortex"),
        ("brain_region: Thalamus; brain_subregion: N/A; hemisphere: left", "Thalamus"),
        ('{"AP": 2.5, "brain_regions": "left ALM", "DV": 0}', "left ALM"),
        ("unknown", ""),
        ("N/A", ""),
        ("", ""),
        ("a probe in the left hemisphere, somewhere below the surface", ""),
    ],
)
def test_an_area_is_a_name(location, area):
    assert nwb_units.area_of(location) == area


def test_units_of_an_area_are_held_out(tmp_path):
    _with_electrodes(tmp_path / "a.nwb", groups=False)
    cut = Cut(align="cue_time", window_ms=(-100.0, 200.0), bin_ms=10.0)
    data = prepare(tmp_path / "a.nwb", cut, heldout="area=M1,S1")
    assert list(data.units) == [1, 3, 0, 2] and data.heldout == 2
    with pytest.raises(
        UserError, match=r"has the area V9; there are none \(2\), M1 \(1\), S1 \(1\)"
    ):
        prepare(tmp_path / "a.nwb", cut, heldout="area=V9")
