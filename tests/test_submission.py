"""Submission files: checked, written, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers.submissions import BINS, BLOCKS, NEURONS, TRIALS, random_submission

from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import external_rates, submission


def recording(forward: bool = True) -> SpikeData:
    """Of a test phase: nothing but held-in, observed counts of the evaluated trials."""

    def trials(count: int, known: set[str]) -> Trials:
        blocks: dict[str, Any] = {
            block: np.ones((count, BINS[bins], NEURONS[neurons]), np.uint8)
            if block in known
            else None
            for block, (bins, neurons) in BLOCKS.items()
        }
        return Trials(behavior=None, conditions=None, rates=None, recorded=None, **blocks)

    known = set(BLOCKS) if forward else {"heldin", "heldout"}
    return SpikeData(
        train=trials(TRIALS["train"], known),
        eval=trials(TRIALS["eval"], {"heldin"}),
        name="some_recording",
        bin_ms=5.0,
        psth=None,
    )


def test_a_whole_submission_passes():
    rates = random_submission()
    submission.check(rates, recording())
    del rates["train_rates_heldin_forward"]
    submission.check(rates, recording())
    observed = {key: x for key, x in rates.items() if not key.endswith("_forward")}
    submission.check(observed, recording(forward=False))


@pytest.mark.parametrize("key", [key for key in submission.KEYS if "train" not in key])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.inf, "inf"), (np.nan, "nan"), (-0.5, "-0.5"), (0.0, "above 0"), (1e-60, "above 0")],
)
def test_a_bad_rate_anywhere_is_refused(key: str, value: float, message: str):
    rates = random_submission()
    rates[key][2, 3, 1] = value
    with pytest.raises(UserError, match=f"{key} .*{message}"):
        submission.check(rates, recording())


def test_a_misshapen_submission_is_refused():
    rates = random_submission()
    with pytest.raises(UserError, match=r"eval_rates_heldin has shape \(23, 20, 7\)"):
        short = rates | {"eval_rates_heldin": rates["eval_rates_heldin"][:23]}
        submission.check(short, recording())
    with pytest.raises(UserError, match="no eval_rates_heldout_forward"):
        less = {key: x for key, x in rates.items() if key != "eval_rates_heldout_forward"}
        submission.check(less, recording())
    with pytest.raises(UserError, match="unknown keys rates"):
        submission.check(rates | {"rates": np.ones(3)}, recording())


@pytest.mark.parametrize(("bin_ms", "group"), [(5.0, "mc_rtt"), (20.0, "mc_rtt_20")])
def test_a_written_submission_reads_back(tmp_path: Path, bin_ms: float, group: str):
    rates, path = random_submission(), tmp_path / "rates.h5"
    path.write_text("an older file is replaced")
    submission.write(path, "mc_rtt", rates, bin_ms=bin_ms)
    with h5py.File(path) as file:
        assert list(file) == [group]
        assert {x.dtype for x in file[group].values()} == {np.dtype("float32")}
    for name in (None, group):
        found = submission.read(path, name)
        assert set(found) == set(rates)
        for key, array in rates.items():
            np.testing.assert_array_equal(found[key], array.astype(np.float32))
    assert list(tmp_path.iterdir()) == [path]


def with_tables(name: str) -> SpikeData:
    counts = np.random.default_rng(0).poisson(1.0, (8, 6, 5))
    return SpikeData.from_arrays(
        counts,
        bin_ms=5,
        name=name,
        conditions=["left", "größer"] * 4,
        trial_table={"reward": np.arange(8) / 4, "correct": np.arange(8) > 3},
        unit_table={"area": ["V1", "V2", "V1", "", "V4"]},
    )


def written(path: Path, name: str) -> tuple[SpikeData, dict[str, np.ndarray]]:
    data = with_tables(name)
    rates = {
        "train": np.random.default_rng(1).random((len(data.train), 6, 5)) + 0.1,
        "eval": np.random.default_rng(2).random((len(data.eval), 6, 5)) + 0.1,
    }
    found = submission.of_arrays(rates, data)
    submission.write(path, name, found, bin_ms=5.0, tables=submission.tables_of(data))
    return data, found


def test_tables_beside_the_rates_say_which_trials_and_units_they_are(tmp_path: Path):
    data, rates = written(tmp_path / "s.h5", "mc_maze_small")
    with h5py.File(tmp_path / "s.h5") as file:
        assert sorted(file) == ["mc_maze_small", "tables_of_mc_maze_small"]
        tables = file["tables_of_mc_maze_small"]
        for split in ("train", "eval"):
            source = tables[split]["source_trial"][()]
            np.testing.assert_array_equal(tables[split]["reward"][()], source / 4)
            texts = [x.decode() for x in tables[split]["condition"][()]]
            assert texts == [("left", "größer")[r % 2] for r in source]
        units = tables["units"]["unit"][()]
        areas = [x.decode() for x in tables["units"]["area"][()]]
        assert areas == [("V1", "V2", "V1", "", "V4")[n] for n in units]
        assert tables["units"]["held_out"][()].sum() == data.heldout == 1
    for name in (None, "mc_maze_small"):
        assert set(submission.read(tmp_path / "s.h5", name)) == set(rates)
    submission.check(submission.read(tmp_path / "s.h5"), data)
    found = external_rates.read(tmp_path / "s.h5", data)
    np.testing.assert_allclose(found["eval_rates_heldout"], rates["eval_rates_heldout"])


def test_nlb_tools_reads_and_combines_submissions_with_tables(tmp_path: Path):
    make_tensors = pytest.importorskip("nlb_tools.make_tensors", reason="needs nlb_tools")
    evaluation = pytest.importorskip("nlb_tools.evaluation", reason="needs nlb_tools")
    paths = [str(tmp_path / f"{name}.h5") for name in ("mc_maze", "mc_maze_medium")]
    data, rates = written(Path(paths[0]), Path(paths[0]).stem)
    written(Path(paths[1]), Path(paths[1]).stem)
    make_tensors.combine_h5(paths, str(tmp_path / "both.h5"))
    with h5py.File(tmp_path / "both.h5") as file:
        assert len(file) == 4
        area = file["tables_of_mc_maze/units/area"][()]
        np.testing.assert_array_equal(np.char.decode(area, "utf-8"), data.areas)
    behavior = {f"{s}_behavior": np.random.default_rng(3).normal(size=(len(t), 6, 2))
                for s, t in (("train", data.train), ("eval", data.eval))}  # fmt: skip
    targets = {"mc_maze": {key: _Stored(x) for key, x in
                                 {**hdf5.targets_of(data), **behavior}.items()}}  # fmt: skip
    [found] = evaluation.evaluate(targets, str(tmp_path / "both.h5"))
    heldout = rates["eval_rates_heldout"].astype(np.float32).astype(float)
    spikes = hdf5.targets_of(data)["eval_spikes_heldout"].astype(float)
    wanted = evaluation.bits_per_spike(heldout, spikes)
    assert found["mc_maze_split"]["co-bps"] == pytest.approx(wanted)


class _Stored:
    """An array as h5py gives it, which nlb_tools reads with ``[()]``."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.x[index]


def test_a_submission_that_cannot_be_written_leaves_no_trace(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be written"):
        submission.write(tmp_path / "no" / "x.h5", "a", random_submission(), bin_ms=5.0)
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        submission.write(tmp_path / "folder.h5", "a", random_submission(), bin_ms=5.0)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.h5"]


def test_a_failing_write_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rates.h5"
    submission.write(path, "a", random_submission(), bin_ms=5.0)
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="no space left"):
        submission.write(path, "a", random_submission(seed=9), bin_ms=5.0)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_what_is_no_submission_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        submission.read(tmp_path / "none.h5")
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a")["eval_rates_heldin"] = np.ones((1, 1, 1))
        file.create_group("b")["eval_spikes_heldin"] = np.ones((1, 1, 1))
    with pytest.raises(UserError, match="no single group; groups present: a, b"):
        submission.read(path)
    with pytest.raises(UserError, match="no group c"):
        submission.read(path, "c")
    with pytest.raises(UserError, match="unknown keys eval_spikes_heldin"):
        submission.read(path, "b")
    assert list(submission.read(path, "a")) == ["eval_rates_heldin"]
