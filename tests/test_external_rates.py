"""Rates of other methods: every format arrives at the same submission."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import recordings

from stndt_jax.cli import main
from stndt_jax.data import export, hdf5
from stndt_jax.errors import UserError
from stndt_jax.evaluation import external_rates, method_scores, scoring, submission

DATA = recordings.toy()
T, N = recordings.T_OBS, recordings.N_IN
SHAPES = {s: (len(t), DATA.bins, DATA.neurons) for s, t in (("train", DATA.train),
                                                            ("eval", DATA.eval))}  # fmt: skip


def rates(seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {split: rng.random(shape) + 0.5 for split, shape in SHAPES.items()}


def assert_arrived(found: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    for split, x in given.items():
        np.testing.assert_array_equal(found[f"{split}_rates_heldin"], x[:, :T, :N])
        np.testing.assert_array_equal(found[f"{split}_rates_heldout"], x[:, :T, N:])
        np.testing.assert_array_equal(found[f"{split}_rates_heldin_forward"], x[:, T:, :N])
        np.testing.assert_array_equal(found[f"{split}_rates_heldout_forward"], x[:, T:, N:])
    assert len(found) == 4 * len(given)


def test_plain_arrays(tmp_path: Path) -> None:
    given = rates()
    np.savez(tmp_path / "a.npz", **given)  # type: ignore[arg-type]
    assert_arrived(external_rates.read(tmp_path / "a.npz", DATA), given)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, x in given.items():
            file[name] = x
    assert_arrived(external_rates.read(tmp_path / "a.h5", DATA), given)
    np.save(tmp_path / "a.npy", given["eval"])
    assert_arrived(external_rates.read(tmp_path / "a.npy", DATA), {"eval": given["eval"]})


@pytest.mark.parametrize("ending", [".h5", ".nc"])
def test_rates_that_were_exported(ending: str, tmp_path: Path) -> None:
    """Both ways of a file of rates, units in another order than those of the recording."""
    if ending == ".nc":
        pytest.importorskip("h5netcdf", reason="needs the extra export: h5netcdf")
    given = rates()
    shuffled = np.random.default_rng(0).permutation(DATA.neurons)
    both = np.concatenate([given["train"], given["eval"]])
    found = export.Rates(
        rates=both[..., shuffled],
        starts=None,
        evaluated=np.repeat([False, True], [len(given["train"]), len(given["eval"])]),
        units=np.arange(DATA.neurons)[shuffled],
        heldout=(np.arange(DATA.neurons) >= DATA.heldin)[shuffled],
        bin_ms=DATA.bin_ms,
        provenance={},
    )
    assert DATA.units is None
    path = tmp_path / f"a{ending}"
    export.write(found, path)
    assert_arrived(external_rates.read(path, DATA), given)
    export.write(dataclasses.replace(found, units=found.units + 1), path)
    with pytest.raises(UserError, match="which are not those of"):
        external_rates.read(path, DATA)
    export.write(dataclasses.replace(found, evaluated=None), path)
    with pytest.raises(UserError, match=r"windows of a continuous recording, joined"):
        external_rates.read(path, DATA)


def test_rates_of_observed_bins_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", rates()["eval"][:, :T])
    assert set(external_rates.read(tmp_path / "a.npy", DATA)) == {
        "eval_rates_heldin",
        "eval_rates_heldout",
    }


@pytest.mark.parametrize("grouped", [True, False])
def test_a_submission(grouped: bool, tmp_path: Path) -> None:
    given = {key: np.full((2, 3, 4), i / 4, np.float32) for i, key in enumerate(submission.KEYS, 1)}
    if grouped:
        submission.write(tmp_path / "a.h5", DATA.name, given, bin_ms=DATA.bin_ms)
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file["another/eval_rates_heldin"] = np.ones((1, 1, 1))
    else:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for key, x in given.items():
                file[key] = x
    found = external_rates.read(tmp_path / "a.h5", DATA)
    for key, x in given.items():
        np.testing.assert_array_equal(found[key], x)


def test_lfads_torch_whose_valid_trials_are_evaluated(tmp_path: Path) -> None:
    given = rates()
    with h5py.File(tmp_path / "lfads.h5", "w") as file:
        file["train_output_params"], file["valid_output_params"] = given["train"], given["eval"]
        file["train_factors"] = np.ones((2, 2, 2))
        file["train_recon_data"] = np.ones((2, 2, 2))
    assert_arrived(external_rates.read(tmp_path / "lfads.h5", DATA), given)


def test_lfads_torch_with_test_trials_and_shuffled_training_trials(tmp_path: Path) -> None:
    given = rates()
    train, valid = [4, 0, 5, 1], [3, 2]
    with h5py.File(tmp_path / "lfads.h5", "w") as file:
        file["train_output_params"] = given["train"][train]
        file["valid_output_params"] = given["train"][valid]
        file["train_inds"], file["valid_inds"] = train, valid
        file["test_output_params"] = given["eval"][..., None]
    assert_arrived(external_rates.read(tmp_path / "lfads.h5", DATA), given)


def test_what_is_not_recognised_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", firing=np.ones(3))
    np.save(tmp_path / "b.npy", np.ones((2, 2, 2)))
    (tmp_path / "c.h5").write_text("no HDF5")
    np.save(tmp_path / "d.npy", np.array([{}], object), allow_pickle=True)
    cases = {
        "a.npz": "firing",
        "b.npy": r"\(2, 2, 2\).*needs \(4, 7, 5\) or \(4, 5, 5\)",
        "c.h5": "cannot be read",
        "d.npy": r"d.npy have shape \(1,\)",
        "e.h5": "does not exist",
    }
    for name, expected in cases.items():
        with pytest.raises(UserError, match=expected):
            external_rates.read(tmp_path / name, DATA)


def test_spikes_per_second_are_noticed(tmp_path: Path) -> None:
    counts = DATA.eval.counts(DATA.bins_forward, DATA.heldout) + 0.1
    np.save(tmp_path / "bins.npy", counts)
    external_rates.read(tmp_path / "bins.npy", DATA)
    np.save(tmp_path / "hz.npy", counts * 200)
    with pytest.warns(UserWarning, match=r"multiply them by 0\.005"):
        external_rates.read(tmp_path / "hz.npy", DATA)


def test_scores_are_the_benchmarks_and_behaviour_waits_for_training_rates(tmp_path: Path) -> None:
    pytest.importorskip("nlb_tools")
    given, targets = rates(), hdf5.targets_of(DATA)
    np.savez(tmp_path / "a.npz", **given)  # type: ignore[arg-type]
    found = external_rates.read(tmp_path / "a.npz", DATA)
    whole = external_rates.score(found, targets)
    assert whole == scoring.score(found, targets, kind="velocity")
    evaluated = {key: x for key, x in found.items() if key.startswith("eval")}
    some = external_rates.score(evaluated, targets)
    assert set(whole) - set(some) == {"vel_r2"}
    assert some == {name: whole[name] for name in some}


def test_a_method_stands_beside_a_run(tmp_path: Path) -> None:
    own = {"ensemble": {"co_bps": 0.3}, "best_member": {"co_bps": 0.25}, "members": [{}, {}]}
    (tmp_path / "scores.json").write_text(json.dumps(own))
    method_scores.add(tmp_path, "AutoLFADS", {"co_bps": 0.2, "vel_r2": float("nan")})
    method_scores.add(tmp_path, "MINT", {"co_bps": 0.1, "vel_r2": 0.5})
    method_scores.add(tmp_path, "MINT", {"co_bps": 0.15, "vel_r2": 0.6})
    heading, *rows = method_scores.table(method_scores.beside(tmp_path)).splitlines()
    assert heading.split() == ["method", "co-bps", "vel", "R2"]
    assert [row.split() for row in rows] == [
        ["ensemble", "0.3000", "-"],
        ["best", "member", "0.2500", "-"],
        ["AutoLFADS", "0.2000", "-"],
        ["MINT", "0.1500", "0.6000"],
    ]
    with pytest.raises(UserError, match="choose another"):
        method_scores.add(tmp_path, "ensemble", {})


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nlb_tools")
    data = dataclasses.replace(DATA, name="toy")
    hdf5.write(data, tmp_path / "toy.h5")
    hdf5.write_targets(data, tmp_path / "target.h5")
    np.savez(tmp_path / "a.npz", **rates())  # type: ignore[arg-type]
    where = [f"--data={tmp_path / 'toy.h5'}", f"--targets={tmp_path / 'target.h5'}"]
    argv = ["evaluate", f"--rates={tmp_path / 'a.npz'}", *where]
    assert main.main([*argv, "--name=AutoLFADS"]) == 0
    out = capsys.readouterr().out
    expected = external_rates.score(
        external_rates.read(tmp_path / "a.npz", data), hdf5.targets_of(data)
    )
    assert f"{expected['co_bps']:.4f}" in out and "AutoLFADS" in out
    mistakes = {
        "--name is missing": argv,
        "--data is missing": [*argv[:2], "--name=x"],
        "no targets are known": [*argv[:3], "--name=x"],
        "DIR is missing": ["evaluate"],
    }
    for expected_words, wrong in mistakes.items():
        assert main.main(wrong) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected_words in line
    (tmp_path / "toy_target.h5").write_bytes((tmp_path / "target.h5").read_bytes())
    assert main.main(mistakes["no targets are known"]) == 2
    assert f"--targets={tmp_path / 'toy_target.h5'}" in capsys.readouterr().err
