"""Interpretation: means over members, layers, trials and conditions; files; commands."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import small_models

from stndt_jax.cli import main
from stndt_jax.errors import UserError
from stndt_jax.interpret import ablation, attention, files, summary
from stndt_jax.plotting import interpretation_figures
from stndt_jax.run import Run
from stndt_jax.training import restore
from stndt_jax.training.restore import TrainedModel

NDT = {"model": {"spatial": False, "layers": 3}}


@pytest.fixture(scope="module")
def models() -> list[TrainedModel]:
    """Two members with attention over neurons, of unequal weight, and one of NDT."""
    data = small_models.recording()
    first, second = small_models.models(data, members=2)
    (ndt,) = small_models.models(data, changes=NDT)
    return [
        first._replace(weight=0.5),
        second._replace(weight=0.25),
        ndt._replace(weight=0.25, trained=ndt.trained._replace(path=Path("runs/ndt"))),
    ]


@pytest.fixture(scope="module")
def found(models: list[TrainedModel]) -> summary.Interpretation:
    return summary.of_models(models)


def test_importance_is_the_attention_received(
    models: list[TrainedModel], found: summary.Interpretation
) -> None:
    data = small_models.recording()
    first, second, ndt = (attention.maps(model, data.eval) for model in models)
    assert first.received is not None and second.received is not None
    assert first.spatial is not None and found.importance_by_member is not None
    assert found.importance is not None and found.importance_by_trial is not None
    assert found.importance_by_layer is not None
    # NDT has no share in it, so that two thirds and one third are left.
    trials = (2 * first.received + second.received).mean(axis=1) / 3
    np.testing.assert_allclose(found.importance, trials.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.importance_by_trial, trials, rtol=1e-6)
    assert found.importance.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        found.importance_by_member[0], first.spatial.mean(axis=(0, 1)), rtol=1e-5
    )
    assert np.isnan(found.importance_by_member[2]).all()
    np.testing.assert_array_equal(found.conditions, [0, 1, 2])
    assert found.importance_by_condition is not None
    np.testing.assert_allclose(
        found.importance_by_condition[1], trials[[1, 4]].mean(axis=0), rtol=1e-5
    )
    # A layer that only NDT has is unknown, not 0.
    np.testing.assert_allclose(found.temporal_by_layer[2], ndt.temporal)
    np.testing.assert_allclose(found.temporal_by_layer[1, :2], second.temporal)
    assert np.isnan(found.temporal_by_layer[:2, 2]).all()
    assert np.isnan(found.importance_by_layer[:, 2]).all()
    assert found.labels[0] == "small, member 0" and found.labels[2] == "ndt, member 0"


@pytest.fixture(scope="module")
def mixed(models: list[TrainedModel]) -> list[TrainedModel]:
    """Two members of six factors, one of four and one layer, one without factors, one of NDT."""
    data, six = small_models.recording(), small_models.FACTORS
    four = {**six, "model": {**six["model"], "width": 4, "layers": 1}}
    return [
        *small_models.models(data, members=2, changes=six),
        *small_models.models(data, changes=four),
        *models[1:],
    ]


def test_factors_are_brought_to_neurons_by_the_read_in(mixed: list[TrainedModel]) -> None:
    data, model = small_models.recording(), mixed[0]
    kernel_ND = np.asarray(model.params("cobps")["embedder"]["kernel"], float)
    found = attention.maps(model, data.eval)
    assert found.spatial is not None and found.received is not None
    assert found.spatial.shape == (2, 6, 6) and found.received.shape == (7, 2, 6)
    # One trial, so that the map is that trial's.
    one = data.eval.subset(np.array([3]))
    maps_LDD = attention.maps(model, one).spatial
    assert maps_LDD is not None
    for layer, map_DD in enumerate(maps_LDD):
        wanted = np.zeros(6)
        for n in range(4):
            for d in range(6):
                wanted[n] += abs(kernel_ND[n, d]) * map_DD[:, d].mean()
        np.testing.assert_allclose(found.received[3, layer], wanted / wanted.sum(), rtol=1e-5)


def test_factors_of_several_members_are_not_averaged(
    tmp_path: Path, mixed: list[TrainedModel]
) -> None:
    weighted = [m._replace(weight=w) for m, w in zip(mixed, (1, 2, 1, 1, 1), strict=True)]
    found = summary.of_models(weighted, with_gradients=False)
    own = [attention.maps(model, small_models.recording().eval) for model in mixed]
    assert found.factors is not None and found.spatial_by_layer is not None
    assert found.importance is not None and found.importance_by_member is not None
    assert found.factors.tolist() == [6, 6, 4, 0, 0] and found.shown_member == 1
    assert own[1].spatial is not None and own[2].spatial is not None
    assert found.spatial is not None
    np.testing.assert_allclose(found.spatial, own[1].spatial.mean(axis=0))
    np.testing.assert_array_equal(found.shown_by_layer, own[1].spatial)
    np.testing.assert_array_equal(found.spatial_by_layer[2, :1, :4, :4], own[2].spatial)
    assert np.isnan(found.spatial_by_layer[2, :, 4:]).all()
    # Neurons are the same for all members but the last, which has no spatial attention.
    wanted = np.array([1, 2, 1, 1]) / 5 @ found.importance_by_member[:4]
    np.testing.assert_allclose(found.importance, wanted)
    assert found.importance.sum() == pytest.approx(1) and found.importance[4:].all()
    assert not found.importance_by_member[:3, 4:].any()
    assert found.uniform == pytest.approx(4 / 5 / 4 + 1 / 5 / 6)
    lines = files.text(found).splitlines()
    assert "held-out neurons are not read in and have 0 in these members" in lines[1]
    assert "nor as many (6, 4, neurons)" in lines[2]
    assert "has " in lines[3] and "of their importance" in lines[3]
    drawn = {d.name: d for d in interpretation_figures.of_interpretation(found)}
    assert "among factors" in drawn["attention"].caption
    assert "shown is the attention of small, member 1." in drawn["attention"].caption
    files.write(found, tmp_path)
    again = files.read(tmp_path)
    assert again.shown_member == 1 and again.shows_factors


def test_the_lag_profile_keeps_to_the_context_window(found: summary.Interpretation) -> None:
    np.testing.assert_array_equal(found.lags_ms, np.arange(-7, 8) * 10.0)
    outside = (found.lags_ms > 20) | (found.lags_ms < -30)
    assert not found.by_lag[outside].any() and (found.by_lag[~outside] > 0).all()


def test_the_files_hold_everything(tmp_path: Path, found: summary.Interpretation) -> None:
    written = files.write(found, tmp_path / "new")
    assert [path.name for path in written] == ["attention.h5", "neurons.csv", "interpret.json"]
    again = files.read(tmp_path / "new")
    for field in dataclasses.fields(found):
        one, two = getattr(found, field.name), getattr(again, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two, err_msg=field.name)
        elif field.name != "summary":
            assert one == two, field.name
    with h5py.File(written[0]) as file:
        assert file["spatial_by_layer"].shape == (3, 3, 6, 6) and file.attrs["bin_ms"] == 10
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert [row["kind"] for row in rows] == ["held-in"] * 4 + ["held-out"] * 2
    assert found.importance is not None and found.gradient_importance is not None
    for n, row in enumerate(rows):
        assert float(row["importance"]) == pytest.approx(found.importance[n], rel=1e-5)
        assert float(row["rate_hz"]) == pytest.approx(found.rate_hz[n], rel=1e-5)
        if n < 4:
            assert float(row["gradient_importance"]) == pytest.approx(
                found.gradient_importance[n], rel=1e-5
            )
            assert int(row["rank"]) == 1 + int(np.sum(found.importance[:4] > found.importance[n]))
        else:
            assert row["gradient_importance"] == ""
    assert "NaN" not in written[2].read_text()
    (tmp_path / "new" / "attention.h5").write_bytes(b"no")
    with pytest.raises(UserError, match=r"attention\.h5 cannot be read .* interpret again"):
        files.read(tmp_path / "new")


def test_the_text_says_what_agrees(found: summary.Interpretation) -> None:
    lines = files.text(found).splitlines()
    assert lines[0] == "3 models, 7 trials of small, 4 held-in and 2 held-out neurons"
    (members,) = [line for line in lines if line.startswith("members  ")]
    assert found.importance_by_member is not None
    own = summary.rankings.agreement(found.importance_by_member[:2, :4])
    assert members.split() == ["members", "2", f"{own.spearman:.3f}", f"{own.overlap:.3f}", "0.250"]


def test_one_model_with_factors_as_files_and_arrays(
    tmp_path: Path, mixed: list[TrainedModel]
) -> None:
    found = summary.of_models(mixed[:1])
    assert summary.ranking(found)[1] == "attention"
    assert summary.BY_READ_IN in files.text(found).splitlines()
    assert "factors of one member" not in files.text(found)
    files.write(found, tmp_path / "interpret")
    rows = list(csv.DictReader((tmp_path / "interpret" / "neurons.csv").read_text().splitlines()))
    assert sorted(row["rank"] for row in rows) == ["", "", "1", "2", "3", "4"]
    assert [row["importance"] for row in rows[4:]] == ["0", "0"]
    run = Run(tmp_path)
    assert run.attention().shape == (6, 6) and run.attention(by_layer=True).shape == (1, 2, 6, 6)
    assert run.importance().shape == run.importance("gradients").shape == (6,)


@pytest.mark.long
def test_the_command_interprets_drops_and_draws(
    tmp_path: Path,
    models: list[TrainedModel],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restore, "models", lambda path, data="", targets="": models[:2])
    monkeypatch.setattr(ablation, "FRACTIONS", (0.5,))
    out = tmp_path / "out"
    argv = ["interpret", str(tmp_path / "run"), f"--out={out}", "--repeats=2", "--nogradients"]
    assert main.main([*argv, "--against=other"]) == 0
    printed = capsys.readouterr().out
    assert "rankings agree across" in printed and "co-bps of run" in printed
    found = json.loads((out / "dropping.json").read_text())
    assert list(found["models"]) == ["run", "other"] and found["measure"] == "attention"
    drawn = {path.stem for path in out.glob("*.png")}
    assert drawn == {"attention", "lags", "importance", "agreement", "conditions", "dropping"}
    assert {path.stem for path in out.glob("*.svg")} == drawn
    assert all(f"{name}.png" in printed for name in drawn)


@pytest.mark.long
def test_ndt_has_no_importance_by_attention(
    tmp_path: Path,
    models: list[TrainedModel],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restore, "models", lambda path, data="", targets="": models[2:])
    monkeypatch.setattr(ablation, "FRACTIONS", (0.5,))
    assert main.main(["interpret", str(tmp_path), "--repeats=1"]) == 0
    printed = capsys.readouterr().out
    assert "without attention over neurons" in printed
    assert "in the order of integrated gradients" in printed
    drawn = {path.stem for path in (tmp_path / "interpret").glob("*.png")}
    assert drawn == {"attention", "lags", "importance", "dropping"}
    rows = list(csv.DictReader((tmp_path / "interpret" / "neurons.csv").read_text().splitlines()))
    assert rows[0]["importance"] == "" and float(rows[0]["gradient_importance"]) > 0
    assert main.main(["interpret", str(tmp_path), "--nogradients"]) == 2
    assert "leave out --nogradients" in capsys.readouterr().err


@pytest.mark.long
def test_figures_that_need_missing_data_are_left_out(
    tmp_path: Path,
    models: list[TrainedModel],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restore, "models", lambda path, data="", targets="": models[:1])
    assert main.main(["figures", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert drawn == {
        *("single_trials", "populations", "psths", "behavior", "latents", "correlations"),
        *("calibration", "attention", "lags", "importance", "agreement", "conditions"),
    }
    assert all(f"{name}.png\n    " in printed for name in drawn)
