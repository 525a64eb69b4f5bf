"""What trials, neurons and behaviour are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stndt_jax.data import labels, synthetic
from stndt_jax.data.trials import SpikeData
from stndt_jax.runs import score_names

RNG = np.random.default_rng(0)


def make(lengths: tuple[int, ...] = (6, 6, 6, 6), **options: Any) -> SpikeData:
    spikes = [RNG.poisson(1.0, (length, 4)) for length in lengths]
    return SpikeData.from_arrays(spikes, bin_ms=100, heldout=[1], evaluated=[1, 3], **options)


def values(dimensions: int) -> np.ndarray:
    return RNG.normal(size=(4, 6, dimensions))


def test_nothing_is_made_up_about_behaviour():
    assert labels.behavior(make()) is None
    called = labels.behavior(make(behavior=values(2)))
    assert called is not None
    assert called == (("behaviour 1", "behaviour 2"), "", False, False)
    assert called.text == "2 values" and called.axis(1) == "behaviour 2"


@pytest.mark.parametrize(
    ("unit", "is_velocity"),
    [
        ("cm/s", True),
        ("mm / s", False),
        ("mm /s", True),
        ("N", False),
        ("", False),
        ("1/s2", False),
    ],
)
def test_a_unit_per_second_is_a_velocity(unit: str, is_velocity: bool):
    names = ("vel_x", "vel_y")
    called = labels.behavior(make(behavior=values(2), behavior_names=names, behavior_unit=unit))
    assert called is not None and called.is_velocity == is_velocity and called.names == names
    # A value of a whole trial leads along no path.
    whole = labels.behavior(make(behavior=RNG.normal(size=(4, 2)), behavior_unit=unit))
    assert whole is not None and not whole.is_velocity


def test_axes_of_values_and_paths():
    called = labels.Behavior(("a", "b", "c"), "cm/s", is_velocity=True, is_named=True)
    assert called.axis(0) == "a (cm/s)" and called.path_axis(1) == "b, summed (cm)"
    assert called._replace(unit="").path_axis(1) == "b, summed"
    assert called.text == "a, b and c (cm/s)"


def test_recordings_of_the_benchmark_are_known_without_names():
    data = make(behavior=values(2), name="mc_maze_large")
    called = labels.behavior(data)
    assert called is not None and called.is_velocity and called.unit == "mm/s"
    assert called.names == ("hand velocity x", "hand velocity y")
    # What the recording itself says counts for more.
    own = labels.behavior(replace(data, behavior_names=("u", "v"), behavior_unit="m/s"))
    assert own is not None and (own.names, own.unit) == (("u", "v"), "m/s")
    # Another number of values is something else.
    other = labels.behavior(make(behavior=values(3), name="mc_maze_large"))
    assert other is not None and not other.is_velocity and not other.is_named


def test_simulated_reaches_are_known_without_names():
    old = replace(synthetic.make("reach", trials=32), behavior_names=(), behavior_unit="")
    called = labels.behavior(old)
    assert called == (("vel_x", "vel_y"), "mm/s", True, True)
    # A recording that somebody calls so is not.
    mine = labels.behavior(make(behavior=values(2), name="reach"))
    assert mine is not None and not mine.is_velocity and mine.unit == ""


def test_a_trial_is_called_by_its_row_condition_and_start():
    data = make(conditions=["left", "right", "", "left"], starts=[10.0, 11.5, 13, 14.25])
    found = labels.trial(data, "eval", 1)
    assert found == ("trial 3", "left", "14.25 s")
    assert found.text == "trial 3, left, from 14.25 s" and found.title == "trial 3\nleft, 14.25 s"
    assert labels.trial(data, "train", 1) == ("trial 2", "", "13.00 s")
    numbered = labels.trial(make(conditions=[5, 6, 7, 8]), "eval", 0)
    assert numbered.text == "trial 1, condition 6" and numbered.start == ""
    assert labels.trial(make(conditions=[0.5, 1.5, 2, 3]), "eval", 0).condition == "condition 1.5"
    own = make(trial_table={"source_trial": [20.0, 30.0, 40.0, 50.0]})
    assert labels.trial(own, "eval", 0).text == "trial 30"
    bare = replace(own, eval=replace(own.eval, columns={}))
    assert labels.trial(bare, "eval", 1).title == "evaluated trial 1"
    long = labels.TrialLabel("trial 1", "a condition with a long name", "")
    assert long.title == "trial 1\na condition wi…" and "long name" in long.text


def test_a_start_is_that_of_the_first_own_bin():
    """With forward bins, the padding comes first, and bin 0 is before the trial."""
    data = make((6, 3, 6, 5), starts=[10.0, 11.5, 13, 14.25], bins_forward=2)
    assert data.eval.starts is not None
    assert data.eval.starts[0] == pytest.approx(11.2)
    assert labels.trial(data, "eval", 0).start == "11.50 s"
    in_trial = data.eval.in_trial(data.bins)
    assert in_trial.astype(int).tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]]


def test_gaps_inside_a_trial_are_part_of_it():
    spikes = RNG.poisson(1.0, (4, 6, 4)).astype(float)
    spikes[1, 2] = np.nan
    spikes[1, 4:] = np.nan
    spikes[3, :, 0] = np.nan
    data = SpikeData.from_arrays(spikes, bin_ms=100, heldout=[1], evaluated=[1, 3])
    in_trial = data.eval.in_trial(6)
    assert in_trial.astype(int).tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert data.train.in_trial(6).all()


def test_neurons_are_called_by_what_is_known():
    plain = make()
    assert labels.neuron(plain, 0) == "neuron 0, held-in" and labels.areas(plain) is None
    # The second of four units is held out, and so comes last.
    assert labels.neuron(plain, 3) == "neuron 3, unit 1, held-out"
    data = make(units=[7, 8, 9, 10], unit_table={"area": ["V1", "V2", "", "V1"]})
    assert labels.areas(data) == ["V1", labels.NO_AREA, "V1", "V2"]
    assert labels.neuron(data, 3) == "neuron 3, unit 8, V2, held-out"
    assert labels.neuron_title(data, 1) == f"neuron 1\nunit 9, {labels.NO_AREA}"
    assert labels.neuron_title(plain, 0) == "neuron 0"


def test_names_in_a_sentence():
    assert [labels.listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_scores_of_behaviour_name_it():
    assert "hand velocity" in score_names.meaning("vel_r2")
    assert score_names.meaning("vel_r2", ("a", "b")).endswith("Behaviour here is a, b.")
    assert score_names.meaning("tp_corr", ("a", "b")).endswith("Behaviour here is b.")
    assert score_names.meaning("co_bps", ("a", "b")) == score_names.meaning("co_bps")
