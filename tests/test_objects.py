"""Objects of other packages, as small fakes and, where they are installed, as themselves."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from stndt_jax.data import objects
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError

RNG = np.random.default_rng(0)
TRAINS = {unit: np.sort(RNG.random(400) * 60) for unit in (4, 7, 12)}
STARTS = np.arange(2, 56, 3.0)
TARGETS = np.array(["left", "right"] * 9)


class TsGroup(dict):
    """What pynapple's group of spike trains can do."""

    def __init__(self) -> None:
        super().__init__({unit: SimpleNamespace(t=times) for unit, times in TRAINS.items()})
        self.time_support = SimpleNamespace(values=np.array([[0.0, 60.0]]))
        self.metadata_columns = ["rate", "area"]

    def get_info(self, name: str) -> Any:
        return {"rate": np.ones(3), "area": np.array(["V1", "V2", "V1"])}[name]


class Sorting:
    """What a sorting of spikeinterface can do."""

    def __init__(self, segments: int = 1) -> None:
        self.segments = segments

    def get_num_segments(self) -> int:
        return self.segments

    def get_unit_ids(self) -> list[str]:
        return [str(unit) for unit in TRAINS]

    def get_unit_spike_train(self, unit: str, segment_index: int, return_times: bool) -> Any:
        assert segment_index == 0 and return_times
        return TRAINS[int(unit)]

    def get_property_keys(self) -> list[str]:
        return ["area"]

    def get_property(self, name: str) -> Any:
        return np.array(["V1", "V2", "V1"])


class Quantity:
    """What a quantity of neo can do, in ms."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, float)

    def rescale(self, unit: str) -> Any:
        assert unit == "s"
        return SimpleNamespace(magnitude=self.values / 1000)


class Train(Quantity):
    """What a spike train of neo can do, in ms."""

    def __init__(self, unit: int) -> None:
        super().__init__(TRAINS[unit] * 1000)
        self.t_start, self.t_stop = Quantity(0), Quantity(60_000)
        self.name, self.annotations = f"unit {unit}", {"area": "V2" if unit == 7 else "V1"}


class IntervalSet:
    """What pynapple's set of intervals can do."""

    start, end = STARTS, STARTS + 0.5
    metadata_columns = ("target",)

    def get_info(self, name: str) -> Any:
        return {"target": TARGETS}[name]


FAKES = {
    "pynapple": lambda: TsGroup(),
    "spikeinterface": lambda: Sorting(),
    "neo, trains": lambda: [Train(unit) for unit in TRAINS],
    "neo, segment": lambda: SimpleNamespace(spiketrains=[Train(unit) for unit in TRAINS]),
    "neo, block": lambda: SimpleNamespace(
        segments=[SimpleNamespace(spiketrains=[Train(unit) for unit in TRAINS])]
    ),
    "pandas, units": lambda: pandas.DataFrame(
        {"spike_times": list(TRAINS.values()), "area": ["V1", "V2", "V1"]}, index=list(TRAINS)
    ),
    "by unit": lambda: dict(TRAINS),
    "pandas, spikes": lambda: pandas.DataFrame(
        {"unit": np.repeat(list(TRAINS), 400), "time": np.concatenate(list(TRAINS.values()))}
    ).sample(frac=1, random_state=0),
}


def the_same(data: SpikeData) -> None:
    """Trials of the trains, counted by a loop."""
    assert data.units is not None and sorted(data.units) == list(TRAINS)
    for split, trials in (("train", data.train), ("eval", data.eval)):
        table = data.trial_table(split)
        for row, r in enumerate(table["source_trial"]):
            assert table["condition"][row] == TARGETS[r]
            edges = [STARTS[r] + 0.05 * k for k in range(11)]
            for column, unit in enumerate(data.units):
                wanted = [
                    sum(low <= t < high for t in TRAINS[int(unit)])
                    for low, high in itertools.pairwise(edges)
                ]
                counts = trials.counts(0, data.heldout)[row, :, column]
                np.testing.assert_array_equal(counts, wanted)


@pytest.mark.parametrize("what", FAKES)
def test_spikes_of_other_packages(what):
    events = {"start": STARTS, "target": TARGETS}
    data = SpikeData.from_spike_times(
        FAKES[what](), events, bin_ms=50, window_ms=(0, 500), align="start",
        condition_column="target", heldout="7",
    )  # fmt: skip
    the_same(data)
    assert data.heldout == 1
    if not what.startswith("by unit") and what != "pandas, spikes":
        assert {int(n): str(a) for n, a in zip(data.units, data.areas, strict=True)} == {
            4: "V1", 7: "V2", 12: "V1",
        }  # fmt: skip


EVENTS = {
    "pynapple": lambda: IntervalSet(),
    "pandas": lambda: pandas.DataFrame({"start": STARTS, "end": STARTS + 0.5, "target": TARGETS}),
    "columns": lambda: {"start": STARTS, "end": list(STARTS + 0.5), "target": list(TARGETS)},
}


@pytest.mark.parametrize("what", EVENTS)
def test_events_of_other_packages(what):
    the_same(
        SpikeData.from_spike_times(
            TRAINS,
            EVENTS[what](),
            bin_ms=50,
            window_ms=(0, 0),
            until="end",
            condition_column="target",
            heldout=[0],
        )
    )


def test_events_as_arrays_and_evaluated_rows():
    for events in (STARTS, np.stack([STARTS, STARTS + 1], axis=1)):
        data = SpikeData.from_spike_times(
            TRAINS, events, bin_ms=50, window_ms=[0, 500], heldout=[0], evaluated=[2, 5]
        )
        assert list(data.eval.columns["source_trial"]) == [2, 5]
    # A trial without a time is left out, and rows are still those of the events.
    some = np.where(np.arange(18) == 1, np.nan, STARTS)
    with pytest.warns(UserWarning, match="left out 1 trial"):
        data = SpikeData.from_spike_times(
            TRAINS, some, bin_ms=50, window_ms=[0, 500], heldout=[0], evaluated=[2, 5]
        )
    assert list(data.eval.columns["source_trial"]) == [2, 5]


def test_behaviour_as_samples():
    times = np.arange(0, 60, 0.01)
    data = SpikeData.from_spike_times(
        TRAINS, STARTS, bin_ms=50, window_ms=(0, 500), heldout=[0],
        behavior=(times, np.stack([times, -times], axis=1)), behavior_names=("a", "b"),
    )  # fmt: skip
    for row, r in enumerate(data.eval.columns["source_trial"]):
        middle = STARTS[r] + 0.05 * (np.arange(10) + 0.5)
        assert data.eval.behavior is not None
        np.testing.assert_allclose(data.eval.behavior[row], np.stack([middle, -middle], 1), 1e-5)
    with pytest.raises(UserError, match=r"2 times of 3 samples; give one for each"):
        objects.series(([1.0, 2.0], np.ones(3)))


def test_without_events():
    data = SpikeData.from_spike_times(TRAINS, bin_ms=50, window_ms=1000, heldout=[0])
    assert data.bins == 20 and data.train.starts is not None
    first, unit = data.train.starts[0], int(data.units[0])
    wanted = [sum(first + k * 0.05 <= t < first + (k + 1) * 0.05 for t in TRAINS[unit])
              for k in range(20)]  # fmt: skip
    np.testing.assert_array_equal(data.train.counts(0, 1)[0, :, 0], wanted)


@pytest.mark.parametrize(
    ("spikes", "events", "options", "message"),
    [
        (5, STARTS, {}, "spikes is 5; give one list of times"),
        ([1.0, 2.0], STARTS, {}, "spikes is one list of numbers"),
        (Sorting(2), STARTS, {}, r"a sorting of 2 segments; give one, sorting.select_segments"),
        (TRAINS, None, {}, r"window_ms is \(0, 500\); give the length of a window, ms"),
        (TRAINS, STARTS, {"window_ms": 500}, "window_ms is 500; give a pair, begin and end, ms"),
        (TRAINS, "trials", {}, "events is 'trials'; give times"),
        (TRAINS, {"a": [1], "b": [1, 2]}, {}, "columns of several lengths"),
        (TRAINS, {"a": STARTS, "b": STARTS}, {}, "name the one with the time of the event"),
        ([np.ones((4, 5))], STARTS, {}, r"unit 0 have shape \(4, 5\); give a list of times"),
        (pandas.DataFrame({"x": [1]}), STARTS, {}, "a table with the columns x; give the"),
        (TRAINS, STARTS, {"behavior": 7}, "behavior is 7; give times"),
    ],
)
def test_other_objects_are_one_sentence(spikes, events, options, message):
    with pytest.raises(UserError, match=message):
        SpikeData.from_spike_times(
            spikes, events, **{"bin_ms": 50, "window_ms": (0, 500), **options}
        )


# The packages themselves.


def test_pynapple():
    nap = pytest.importorskip("pynapple", reason="needs pynapple")
    support = nap.IntervalSet(0, 60)
    group = nap.TsGroup(
        {unit: nap.Ts(times) for unit, times in TRAINS.items()},
        time_support=support,
        metadata={"area": ["V1", "V2", "V1"]},
    )
    trials = nap.IntervalSet(STARTS, STARTS + 0.5, metadata={"target": TARGETS})
    times = np.arange(0, 60, 0.01)
    hand = nap.TsdFrame(times, np.stack([times, -times], 1), columns=["x", "y"])
    data = SpikeData.from_spike_times(
        group, trials, bin_ms=50, window_ms=(0, 0), until="end", condition_column="target",
        heldout="area=V2", behavior=hand,
    )  # fmt: skip
    the_same(data)
    assert data.behavior_names == ("x", "y") and list(data.units[-1:]) == [7]


def test_spikeinterface():
    core = pytest.importorskip("spikeinterface.core", reason="needs spikeinterface")
    rate = 30_000.0
    frames = {str(unit): np.round(times * rate).astype(int) for unit, times in TRAINS.items()}
    sorting = core.NumpySorting.from_unit_dict([frames], rate)
    sorting.set_property("area", ["V1", "V2", "V1"])
    found = objects.spikes(sorting)
    assert list(found.ids) == list(TRAINS) and list(found.columns["area"]) == ["V1", "V2", "V1"]
    for row, times in enumerate(TRAINS.values()):
        [block] = found.spikes(row)
        np.testing.assert_allclose(block, times, atol=1 / rate)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_neo():
    neo = pytest.importorskip("neo", reason="needs neo")
    trains = [
        neo.SpikeTrain(times * 1000, units="ms", t_stop=60_000, name=f"unit{unit}", area="V1")
        for unit, times in TRAINS.items()
    ]
    segment = neo.Segment()
    segment.spiketrains.extend(trains)
    epoch = neo.Epoch(STARTS * 1000, np.full(18, 500.0), labels=TARGETS, units="ms")
    for given in (trains, segment):
        data = SpikeData.from_spike_times(
            given, epoch, bin_ms=50, window_ms=(0, 500), align="time", condition_column="label",
            heldout=[0],
        )  # fmt: skip
        the_same(data)
    assert data.areas is not None and set(data.areas) == {"V1"}


def test_xarray():
    xarray = pytest.importorskip("xarray", reason="needs xarray")
    x = np.random.default_rng(1).poisson(1.0, (8, 6, 5))
    array = xarray.DataArray(
        np.transpose(x, (2, 0, 1)), dims=("unit", "trial", "time"), coords={"unit": [9, 3, 5, 1, 7]}
    )
    data = SpikeData.from_arrays(array, bin_ms=5, heldout=[0])
    assert list(data.units) == [3, 5, 1, 7, 9]
    rows = data.train.columns["source_trial"]
    np.testing.assert_array_equal(data.train.counts(0, 1), x[rows][..., [1, 2, 3, 4, 0]])
    with pytest.raises(UserError, match="the dimensions a, b, c; name them trial, time and unit"):
        SpikeData.from_arrays(xarray.DataArray(x, dims=("a", "b", "c")), bin_ms=5)
    times = np.arange(0, 60, 0.01)
    hand = xarray.DataArray(
        np.stack([times, -times]), dims=("dim", "time"), coords={"time": times, "dim": ["x", "y"]}
    )
    series, names = objects.series(hand)
    assert names == ("x", "y")
    np.testing.assert_array_equal(series.values, np.stack([times, -times], 1))
