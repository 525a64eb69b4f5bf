"""From runs to an ensemble directory, and what is made of it."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models
from helpers.recordings import small_reach
from nlb_tools.evaluation import bits_per_spike

from stndt_jax.cli import main
from stndt_jax.config import loading, schema
from stndt_jax.data import hdf5
from stndt_jax.ensembles import build, candidates
from stndt_jax.errors import UserError
from stndt_jax.interop import stablehlo_loader
from stndt_jax.runs import directory, ensemble_directory, recording
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.training import batches, population, restore, setup, step


def run(path: Path, folder: Path, targets: bool = True, **keys: Any) -> Path:
    """A run on the small recording, of freshly drawn members that pass for validated ones."""
    settings = {
        "data.path": folder / "reach.h5",
        "data.targets": folder / "reach_target.h5" if targets else "",
        "model.layers": 1,
        "contrast.enabled": False,
        "population": 3,
    }
    settings |= {name.replace("__", "."): value for name, value in keys.items()}
    words = [f"--config.{k}={v}" for k, v in settings.items()]
    loaded = loading.load(["--config=tiny", *words])
    data = recording.read(loaded)
    directory.make(path)
    directory.open_run(path, loaded, data)
    trainable = batches.split(loaded, data)[0].counts.shape[0]
    arch = step.arch(loaded, data.dims, trainable // 16)
    hyper = jax.tree.map(jnp.asarray, schema.hyper(loaded))
    members = population.make_init(arch)(hyper, setup.prepare(loaded, data).statistics)
    best = members.selection.cobps._replace(
        epoch=jnp.ones(3, jnp.int32), value=jnp.array([0.1, 0.3, 0.2])
    )
    chosen = members.selection._replace(cobps=best)
    Checkpoints(path / "checkpoints").save(2, members._replace(selection=chosen))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two populations, STNDT with factors and NDT without, selected on the targets."""
    folder = small_reach(tmp_path_factory.mktemp("data"))
    run(folder / "runs" / "a", folder, **small_models.SETTINGS)
    run(folder / "runs" / "deep" / "b", folder, model__spatial=False)
    return folder


@pytest.fixture(scope="module")
def blind(folder: Path) -> Path:
    """A population without targets, selected on a part of the training trials."""
    return run(folder / "blind", folder, targets=False)


@pytest.fixture(scope="module")
def pool(folder: Path) -> candidates.Candidates:
    """All members of both."""
    return candidates.collect([folder / "runs"], folder / "out")


@pytest.fixture(scope="module")
def best(pool: candidates.Candidates, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of members of both, with weights of their own."""
    out = tmp_path_factory.mktemp("out") / "best"
    chosen = build.choose(pool, "top", 3)
    build.write(out, pool, chosen._replace(weights={5: 0.5, 1: 0.25, 0: 0.25}, size=4))
    return out


def said(out: Path) -> dict[str, Any]:
    return json.loads((out / "ensemble.json").read_text())


def mean_rate(out: Path, folder: Path) -> np.ndarray:
    """The weighted mean rate of what ``ensemble.json`` names, from the sources themselves."""
    total: Any = 0
    for row in said(out)["members"]:
        trained, k = restore.load(Path(row["source"])), row["source_member"]
        hyper = jax.tree.map(lambda leaf, k=k: leaf[k], trained.hyper)
        run = jax.jit(functools.partial(step.rates, trained.arch))
        one = run(trained.params(k, "cobps"), hyper, jnp.asarray(all_counts(folder)))
        total = total + row["weight"] * np.asarray(one, np.float64)
    return total


@pytest.fixture(scope="module")
def mean(best: Path, folder: Path) -> np.ndarray:
    """That of the ensemble of both."""
    return mean_rate(best, folder)


def all_counts(folder: Path) -> np.ndarray:
    data = hdf5.read(folder / "reach.h5", folder / "reach_target.h5")
    return data.eval.counts(data.bins_forward, data.heldout)


def test_what_is_said_is_the_score_of_the_mean_rate(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["ensemble", str(folder / "runs"), f"--out={out}", "--select=greedy", "--max=6"]
    assert main.main(argv) == 0
    found, counts = said(out), all_counts(folder)
    data = hdf5.read(folder / "reach.h5", folder / "reach_target.h5")
    T, N = data.bins_observed, data.heldin
    mean = mean_rate(out, folder)[:, :T, N:]
    expected = bits_per_spike(mean, counts[:, :T, N:].astype(float))
    assert found["validation_co_bps"] == pytest.approx(float(expected), abs=1e-6)
    assert sum(row["weight"] for row in found["members"]) == pytest.approx(1)
    assert found["size"] <= 6 and len(found["candidates"]) == 6
    curve = found["curve"]
    assert found["validation_co_bps"] >= max(curve["top"]) - 1e-12
    alone = max(row["validation_co_bps"] for row in found["candidates"])
    assert curve["top"][0] == pytest.approx(alone)
    assert found["validation_co_bps"] == pytest.approx(curve["greedy"][-1])
    assert len(curve["random"]["mean"]) == len(curve["top"]) == 6
    for kind in ("png", "pdf"):
        assert (out / "figures" / f"ensemble_curve.{kind}").stat().st_size > 1000


@pytest.mark.parametrize("gone", [False, True])
def test_it_is_evaluated_like_a_run(
    folder: Path, best: Path, mean: np.ndarray, tmp_path: Path, gone: bool
) -> None:
    """The submission is the weighted mean rate of the sources, which need not be there."""
    if gone:
        shutil.copytree(best, tmp_path / "best")
        best = tmp_path / "best"
        (folder / "runs").rename(folder / "hidden")
    try:
        assert main.main(["evaluate", str(best)]) == 0
    finally:
        if gone:
            (folder / "hidden").rename(folder / "runs")
    with h5py.File(best / "submission.h5") as file:
        group = file["reach_20"]
        found = np.concatenate(
            [group["eval_rates_heldin"][()], group["eval_rates_heldout"][()]], axis=-1
        )
    np.testing.assert_allclose(found, mean[:, : found.shape[1]], rtol=1e-4)
    scores = json.loads((best / "scores.json").read_text())
    data = hdf5.read(folder / "reach.h5", folder / "reach_target.h5")
    assert data.eval.heldout is not None
    heldout = mean[:, : data.bins_observed, data.heldin :]
    expected = float(bits_per_spike(heldout.copy(), data.eval.heldout.astype(float)))
    assert scores["ensemble"]["co_bps"] == pytest.approx(expected, abs=1e-5)
    low, high = scores["ensemble"]["co_bps_interval"]
    assert low < expected < high
    assert [row["weight"] for row in scores["members"]] == [0.5, 0.25, 0.25]
    assert [m.weight for m in restore.models(best)] == [0.5, 0.25, 0.25]
    leader = max(scores["members"], key=lambda row: row["validation_co_bps"])
    assert scores["best_member"]["member"] == leader["member"] == 1
    assert scores["best_member"]["co_bps"] == leader["co_bps"]


def test_it_is_exported_like_a_run(
    folder: Path, best: Path, mean: np.ndarray, tmp_path: Path
) -> None:
    assert len(list((best / "parts").iterdir())) == 2
    counts = all_counts(folder)
    data = hdf5.read(folder / "reach.h5")
    x = counts[:, : data.bins_observed, : data.heldin]
    for weights in ("baked", "beside"):
        out = tmp_path / weights
        assert main.main(["export", str(best), f"--out={out}", f"--weights={weights}"]) == 0
        found = stablehlo_loader.Model(out).rates(x)
        np.testing.assert_allclose(found, mean, rtol=1e-4)
        assert main.main(["export", "--again", str(out)]) == 0
        np.testing.assert_array_equal(stablehlo_loader.Model(out).rates(x), found)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["members"] == len(said(best)["members"])
    assert manifest["model"] == "NDT and STNDT"


def edited(source: Path, out: Path, file: str, *keys: str, value: Any) -> Path:
    """A copy of a run, with another value in one of its files."""
    if source != out:
        shutil.copytree(source, out)
    whole = json.loads((out / file).read_text())
    inner = whole
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (out / file).write_text(json.dumps(whole))
    return out


def test_selection_never_sees_what_did_not_select(blind: Path, tmp_path: Path) -> None:
    """Without targets a part of the training trials selects: the evaluated ones play no part."""
    small_reach(tmp_path)
    file = str(tmp_path / "reach.h5")
    a = edited(blind, tmp_path / "a", "config.json", "data", "path", value=file)
    choices = []
    for number in range(2):
        pool = candidates.collect([a], tmp_path / "out")
        choices.append([build.choose(pool, how, 5) for how in ("top", "greedy")])
        # The evaluated trials become noise, and with them what the run remembers of them.
        with h5py.File(file, "a") as stored:
            seen = stored["eval_spikes_heldin"]
            seen[...] = np.random.default_rng(number).integers(0, 9, seen.shape)
        mark = hdf5.read(file).fingerprint()
        edited(a, a, "run.json", "data_fingerprint", value=mark)
    assert choices[0] == choices[1]
    # Targets that a run was not selected on are refused, wherever they come from.
    targets = str(tmp_path / "reach_target.h5")
    edited(a, a, "config.json", "data", "targets", value=targets)
    with (
        pytest.warns(UserWarning, match=r"not the one that .* was trained on"),
        pytest.raises(UserError, match="not the one that it was trained on"),
    ):
        candidates.collect([a], tmp_path / "out")


def test_only_held_out_observed_counts_are_looked_at(
    folder: Path, pool: candidates.Candidates
) -> None:
    """Neither behaviour nor forward bins of the trials that select are there to be seen."""
    data = hdf5.read(folder / "reach.h5", folder / "reach_target.h5")
    assert data.eval.heldout is not None and pool.spikes is not None
    assert pool.spikes.has_count.shape == data.eval.heldout.shape
    places = pool.spikes.places
    np.testing.assert_array_equal(pool.spikes.counts, data.eval.heldout.ravel()[places])
    assert pool.spikes.counts.sum() == data.eval.heldout.sum()


@pytest.mark.long
def test_runs_that_cannot_be_compared_are_refused(
    folder: Path, blind: Path, tmp_path: Path
) -> None:
    a, out = folder / "runs" / "a", tmp_path / "out"
    c = edited(a, tmp_path / "c", "run.json", "data_fingerprint", value="0" * 64)
    e = edited(blind, tmp_path / "e", "config.json", "seed", value=7)
    # The weights are those that were selected, but now no trial is there to compare them.
    f = edited(blind, tmp_path / "f", "config.json", "data", "validation_fraction", value=0.0)
    (tmp_path / "empty").mkdir()
    for pair, words in (
        ((a, c), "was trained on other data than"),
        ((a, blind), "was trained on other data than"),
        ((blind, e), "other trials selected the weights of"),
        ((f,), "members cannot be compared: no trial selects"),
        ((tmp_path / "nothing",), "is no directory"),
        ((tmp_path / "empty",), "no run of stndt train is at or below"),
    ):
        with pytest.raises(UserError, match=words) as error:
            build.build(pair, out)
        assert len(str(error.value).splitlines()) == 1
        assert not out.exists()
    found = build.build([f], out, select="all")
    assert found["validation_co_bps"] is None and found["curve"] is None
    assert [model.weight for model in restore.models(out)] == [1 / 3] * 3


def test_sources_are_runs_once(folder: Path, best: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copytree(best, runs / "earlier")
    shutil.copytree(runs / "a", runs / "a.old1")
    (runs / "killed").mkdir()
    (runs / "killed" / "config.json").write_text("{")
    found = [path for path, _, _ in candidates.sources([runs, runs / "a"], runs / "out")]
    assert found == [runs / "a", runs / "deep" / "b", runs / "killed"]
    parts = candidates.sources([runs / "earlier"], runs / "out")
    assert [path.name for path, _, _ in parts] == ["00", "01"]
    pool = candidates.collect([runs, runs / "earlier"], runs / "out")
    assert len(pool.found) == 6
    assert sum("is a copy of" in sentence for sentence in pool.left_out) == len(
        said(best)["members"]
    )
    assert sum("killed" in sentence for sentence in pool.left_out) == 1
    with pytest.raises(UserError, match=r"run.json"):
        candidates.collect([runs / "killed"], runs / "out")


def test_a_directory_in_use_is_left_alone(folder: Path, best: Path, tmp_path: Path) -> None:
    a = folder / "runs" / "a"
    with pytest.raises(UserError, match="holds an ensemble; move it aside with --fresh"):
        build.build([a], best)
    with pytest.raises(UserError, match="holds something else"):
        build.build([a], folder)
    out = tmp_path / "out"
    (out / "parts" / "00" / "torn").mkdir(parents=True)
    (out / "parts.partial" / "00").mkdir(parents=True)
    build.build([a], out, select="top", most=2)
    assert not (out / "parts.partial").exists() and not (out / "parts/00/torn").exists()
    assert main.main(["ensemble", str(a), f"--out={out}", "--fresh", "--max=1"]) == 0
    assert len(said(out)["members"]) == 1 and ensemble_directory.is_ensemble(Path(f"{out}.old1"))


def test_damage_to_an_ensemble_is_told(best: Path, tmp_path: Path) -> None:
    for number, (text, words) in enumerate(
        (
            ("{", "cannot be read"),
            ("[]", "holds no JSON object"),
            ('{"members": [{"part": "../x", "member": 0, "weight": 1}]}', "lists no valid members"),
            ('{"members": [{"part": "00", "member": 9, "weight": 1}]}', "holds no member 9"),
            ('{"members": [{"part": "77", "member": 0, "weight": 1}]}', "77"),
        )
    ):
        copy = shutil.copytree(best, tmp_path / str(number))
        (copy / "ensemble.json").write_text(text)
        with pytest.raises(UserError, match=words):
            restore.models(copy)
