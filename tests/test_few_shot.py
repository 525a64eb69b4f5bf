"""Few-shot co-smoothing against latents whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models
from helpers.imported_runs import imported, one

from stndt_jax.cli import main
from stndt_jax.data.trials import Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate, few_shot
from stndt_jax.run import load_run
from stndt_jax.training import restore, step


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return imported(folder, one(folder / "a.pth"), f"--targets={folder / 'target.h5'}")


@pytest.mark.parametrize("factors", [pytest.param(False, marks=pytest.mark.long), True])
def test_latents_are_what_the_decoder_reads(run: Path, factors: bool) -> None:
    """Latents times the decoder are the log-rates, which other code computes."""
    trained = restore.load(run)
    if factors:
        changes = {**small_models.FACTORS, "model": {**small_models.FACTORS["model"], "width": 8}}
        trained = small_models.models(small_models.recording(), changes=changes)[0].trained
    params = trained.params(0, "cobps")
    hyper = jax.tree.map(lambda leaf: leaf[0], trained.hyper)
    dims = trained.arch.dims
    counts = jnp.asarray(trained.data.eval.counts(dims.bins_forward, dims.heldout))
    known = jnp.asarray(trained.data.eval.has_count(dims.bins_forward, dims.heldout))
    z = np.asarray(few_shot.latents(trained.arch, params, hyper, counts, known))
    assert z.shape[-1] == (8 if factors else 6)
    decoder = params["decoder"]
    found = z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"])
    expected = step.log_rates(trained.arch, params, hyper, counts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_more_trials_and_true_latents_reach_the_oracle(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents that are the true log-rates need few trials; noise never gets anywhere."""
    trained = restore.load(run)
    rng = np.random.default_rng(0)
    rates = {n: np.exp(rng.normal(0, 1, (n, 5, 2))) for n in (200, 100)}

    def with_counts(rate):
        heldin = np.zeros((len(rate), 5, 4), "u1")
        none = dict.fromkeys(("behavior", "conditions", "rates", "recorded"))
        forward = dict.fromkeys(("heldin_forward", "heldout_forward"))
        return Trials(heldin, rng.poisson(rate).astype("u1"), **forward, **none)

    data = dataclasses.replace(
        trained.data, train=with_counts(rates[200]), eval=with_counts(rates[100])
    )
    trained = trained._replace(data=data)
    assert data.eval.heldout is not None
    y = data.eval.heldout.astype(float)
    null = y.mean(axis=(0, 1))
    oracle = np.sum((null - y * np.log(null)) - (rates[100] - y * np.log(rates[100])))
    oracle /= y.sum() * np.log(2)
    monkeypatch.setattr(few_shot, "_latents", lambda t, m, trials, s: np.log(rates[len(trials)]))
    found = few_shot.score(trained, [1, 200], repeats=4)
    assert found["200"]["co_bps"] == pytest.approx(oracle, abs=0.02)
    assert found["1"]["co_bps"] < found["200"]["co_bps"]
    assert found["200"]["sd"] == pytest.approx(0, abs=1e-6)  # all trials: one choice
    assert found["1"]["sd"] > 0
    monkeypatch.setattr(
        few_shot, "_latents", lambda t, m, trials, s: rng.normal(size=rates[len(trials)].shape)
    )
    assert few_shot.score(trained, [200], repeats=1)["200"]["co_bps"] < 0.1 * oracle


def test_it_needs_targets_and_enough_trials(run: Path) -> None:
    trained = restore.load(run)
    with pytest.raises(UserError, match="between 1 and the 8"):
        few_shot.score(trained, [9])
    hidden = dataclasses.replace(trained.data.eval, heldout=None)
    data = dataclasses.replace(trained.data, eval=hidden)
    with pytest.raises(UserError, match="--targets"):
        few_shot.score(trained._replace(data=data), [2])


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nlb_tools")
    assert main.main(["evaluate", str(run), "--shots=2,4"]) == 0
    assert "few-shot" in capsys.readouterr().out
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores["few_shot"]) == {"2", "4"} and "ensemble" in scores
    assert main.main(["evaluate", str(run), "--shots=many"]) == 2


@pytest.mark.parametrize("file", ["scores.json", "submission.h5", "others.json"])
def test_scores_are_printed_though_a_file_cannot_be_written(
    run: Path, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nlb_tools")
    path = shutil.copytree(run, tmp_path / "run")
    (path / file).unlink(missing_ok=True)
    (path / file / "in the way").mkdir(parents=True)
    capsys.readouterr()
    assert main.main(["evaluate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[0] == "co-bps"
    assert f"{path / file} cannot be" in err.splitlines()[-1]
    with pytest.raises(evaluate.NotWritten) as caught:
        load_run(path).evaluate()
    assert "co_bps" in caught.value.scores["ensemble"]
