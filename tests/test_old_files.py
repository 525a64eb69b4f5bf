"""Files of format 1, made by an earlier version, open, evaluate and go on training.

``data/v1`` was made at commit 337eac3 from ``helpers.recordings.small_reach``::

    stndt train --config=tiny --config.population=2 --config.data.path=reach.h5
        --config.data.targets=reach_target.h5 --config.train.batch=8 --config.train.epochs=6
        --workdir=run
    stndt evaluate run
    stndt interpret run
    stndt ensemble run other --out=best
    stndt evaluate best
    stndt export run --out=model
    stndt infer model --spikes=counts.npy --out=rates.npy

where ``other`` is a run with another seed, no member of which was chosen. ``longer.npz`` has the
weights and the selection of the same run continued with ``--extend`` to 10 epochs. Figures and logs
were removed, and in ``run.json``, in the checkpoints and in the exported program the names of
directories were replaced.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from stndt_jax.config import loading, schema
from stndt_jax.data import hdf5
from stndt_jax.evaluation import evaluate, method_scores, submission
from stndt_jax.interop import stablehlo
from stndt_jax.interpret import ablation
from stndt_jax.report import compare, page
from stndt_jax.run import load_run
from stndt_jax.runs import ensemble_directory, listing, recording
from stndt_jax.training import loop, restore

V1 = Path(__file__).parent / "data" / "v1"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, which is the working directory, because data.path is relative to it."""
    monkeypatch.chdir(shutil.copytree(V1, tmp_path / "v1"))
    return tmp_path / "v1"


def stored(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    assert isinstance(found, dict)
    return found


def close_scores(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Scores under their new keys against those of an old file, which has the old ones."""
    names = {"co_bps": "co-bps", "fp_bps": "fp-bps", "vel_r2": "vel R2", "psth_r2": "psth R2"}
    names |= {"rate_r2": "rate R2", "oracle_co_bps": "oracle co-bps"}
    names |= {"co_bps_of_oracle": "co-bps / oracle", "co_bps_interval": "co-bps interval"}
    for key, name in names.items():
        assert new[key] == pytest.approx(old[name], rel=1e-4), key


@pytest.mark.parametrize("name", ["run", "best"])
def test_a_directory_evaluates_to_the_same_rates_and_scores(old: Path, name: str) -> None:
    before = submission.read(V1 / name / "submission.h5")
    scores = stored(V1 / name / "scores.json")
    found = evaluate.evaluate(old / name)
    assert set(found.rates) == set(before)
    for key, rates_RTN in before.items():
        np.testing.assert_allclose(found.rates[key], rates_RTN, rtol=1e-5)
    for part, label in (("ensemble", "ensemble"), ("best_member", "best member")):
        close_scores(found.scores[part], scores[label])
    # What was written is of the newest format.
    new = stored(old / name / "scores.json")
    assert new["format"] == 2 and new["left_out"] == [] and "left out" not in new
    assert new["ensemble"]["co_bps"] == found.scores["ensemble"]["co_bps"]


def test_a_run_directory_is_read_with_the_new_keys(old: Path) -> None:
    run = load_run(old / "run")
    scores = stored(V1 / "run" / "scores.json")
    close_scores(run.scores["ensemble"], scores["ensemble"])
    assert run.scores["members"][1]["validation_co_bps"] == max(
        row["validation co-bps"] for row in scores["members"]
    )
    close_scores(dict(run.methods["ensemble"]), scores["ensemble"])
    sittings = stored(V1 / "run" / "run.json")["sittings"]
    assert run.record["sessions"] == sittings and "sittings" not in run.record
    assert [row["epoch"] for row in run.history] == [2, 4, 6]


def test_other_methods_are_added_to_an_old_file(old: Path) -> None:
    path = old / "run" / "others.json"
    path.write_text(json.dumps({"MINT": {"co-bps": 0.5, "vel R2": 0.75}}))
    method_scores.add(old / "run", "smoothing", {"co_bps": 0.25})
    assert method_scores.read(old / "run") == {
        "MINT": {"co_bps": 0.5, "vel_r2": 0.75},
        "smoothing": {"co_bps": 0.25},
    }


def test_an_ensemble_directory_is_read_with_the_new_keys(old: Path) -> None:
    found, before = ensemble_directory.read(old / "best"), stored(V1 / "best" / "ensemble.json")
    assert found["validation_co_bps"] == before["validation co-bps"]
    assert [row["source_member"] for row in found["members"]] == [1]
    assert found["curve"]["random"]["percentile_97_5"] == before["curve"]["random"]["97.5%"]
    assert found["left_out"] == []


def test_an_interpretation_is_read_with_the_new_keys(old: Path) -> None:
    summary = load_run(old / "run").interpretation.summary
    before = stored(V1 / "run" / "interpret" / "interpret.json")["summary"]
    assert summary["top_share"] == before["top share"]
    assert (
        summary["agreement"]["members_given_rate"] == before["agreement"]["members, rate taken out"]
    )
    assert summary["gradients"]["and_rate"] == before["gradients"]["and rate"]
    dropped = ablation.read(old / "run" / "interpret")
    assert dropped is not None
    orders = dropped["models"]["run"]
    assert set(orders) == set(ablation.ORDERS)
    before = stored(V1 / "run" / "interpret" / "dropping.json")["models"]["run"]
    assert orders[ablation.LEAST_FIRST]["vel_r2"] == before["least important first"]["vel R2"]
    assert "co-bps of run, silenced" in ablation.text(dropped)


def test_old_directories_are_listed_compared_and_reported(old: Path) -> None:
    scores = {name: stored(V1 / name / "scores.json") for name in ("run", "best")}
    rows = {row["path"]: row for row in listing.table(old)}
    assert set(rows) == {"run", "best"}
    for name, row in rows.items():
        assert row["co_bps"] == scores[name]["ensemble"]["co-bps"]
        assert row["how"] == {"run": "finished", "best": "chosen"}[name]
    text = compare.text(compare.open_runs([old / "run", old / "best"]))
    assert f"{scores['run']['ensemble']['fp-bps']:.4f}".replace("-", "−") in text
    assert "different data" not in text
    page.write(old / "run", old / "run.html", figures=False)
    html = (old / "run.html").read_text()
    assert f"{scores['run']['ensemble']['co-bps']:.3f}".replace("-", "−") in html
    assert "on 26 November 2026" in html  # the end of the last session


def test_an_exported_model_infers_the_same_rates(old: Path) -> None:
    with pytest.warns(UserWarning, match="format 1.*export it again from its run: stndt export"):
        stablehlo.infer(old / "model", old / "counts.npy", old / "new.npy")
    np.testing.assert_allclose(np.load(old / "new.npy"), np.load(V1 / "rates.npy"), rtol=1e-5)


def test_a_run_goes_on_training_to_the_same_weights(old: Path) -> None:
    config = schema.as_config(loading.read(["--config.train.epochs=10"], old / "run"))
    loop.train(config, recording.read(config), old / "run", extend=True, quiet=True)
    members = restore.read(old / "run").members
    expected = np.load(V1 / "longer.npz")
    leaves, _ = jax.tree_util.tree_flatten_with_path(members)
    found = {
        ".".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in path): leaf
        for path, leaf in leaves
    }
    assert set(expected.files) <= set(found)
    for name in expected.files:
        ours, theirs = np.asarray(found[name]), expected[name]
        if name.endswith(("qk.bias", "qkv.bias")):
            # A softmax does not depend on the bias of its keys: the gradient is rounding error,
            # which Adam scales to steps of the size of the others, so that another CPU differs.
            parts = (len(theirs), len(name.split(".")[-2]), -1)
            ours, theirs = (np.delete(x.reshape(parts), 1, axis=1) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=name)
    record = stored(old / "run" / "run.json")
    assert record["format"] == 2 and len(record["sessions"]) == 2
    assert "sittings" not in record


def test_the_recording_has_the_same_fingerprint() -> None:
    data = hdf5.read(V1 / "reach.h5", V1 / "reach_target.h5")
    assert data.fingerprint() == stored(V1 / "run" / "run.json")["data_fingerprint"]
