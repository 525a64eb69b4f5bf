"""The functions of ``import stndt_jax``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_models
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import stndt_jax as stndt
from stndt_jax.cli import main
from stndt_jax.data import hdf5
from stndt_jax.evaluation import inference
from stndt_jax.training import loop, restore

ROOT = Path(__file__).resolve().parents[1]
R, T, N = 24, 6, 6


def counts(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.7, (R, T, N))


def data(**options: Any) -> stndt.SpikeData:
    return stndt.SpikeData.from_arrays(counts(), bin_ms=5, heldout=[1, 4], seed=1, **options)


def config(**changes: Any) -> Any:
    """The smallest model of two members."""
    found = stndt.get_config("tiny")
    found.population, found.model.layers, found.model.feedforward = 2, 1, 4
    found.model.context_forward = found.model.context_backward = 2
    found.train.epochs, found.train.batch = 5, 4
    found.contrast.enabled = False
    found.update_from_flattened_dict(changes)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> stndt.Run:
    """A run on data in memory, evaluated."""
    run = stndt.train(config(), data(), workdir=tmp_path_factory.mktemp("api") / "run", quiet=True)
    pytest.importorskip("nlb_tools")
    run.evaluate()
    return run


def test_public_names_are_there_and_documented() -> None:
    assert set(stndt.__all__) <= set(dir(stndt))
    for name in stndt.__all__:
        assert getattr(stndt, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = stndt.trian  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_run_keeps_data_that_were_in_memory(trained: stndt.Run, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(trained.path, moved)
    loaded = stndt.load_run(moved)
    assert loaded.config.data.path == str(moved / "data.h5")
    assert json.loads((moved / "config.json").read_text())["data"]["path"] == "{run}/data.h5"
    np.testing.assert_array_equal(loaded.data.eval.heldin, data().eval.heldin)
    (moved / "scores.json").unlink()
    assert main.main(["evaluate", str(moved)]) == 0
    assert loaded.scores["ensemble"] == trained.scores["ensemble"]
    assert main.main(["train", f"--workdir={moved}"]) == 0
    assert main.main(["train", f"--workdir={moved}", "--fresh"]) == 0
    assert (tmp_path / "moved.old1" / "data.h5").exists()
    np.testing.assert_array_equal(stndt.load_run(moved).data.eval.heldin, data().eval.heldin)


def test_training_again_continues_and_other_data_are_refused(
    trained: stndt.Run, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(trained.path, path)
    again = stndt.train(config(), data(), workdir=path, quiet=True)
    assert len(again.record["sessions"]) == 2
    before = restore.read(trained.path).members.state.params
    for a, b in zip(
        jax.tree.leaves(before),
        jax.tree.leaves(restore.read(path).members.state.params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    other = stndt.SpikeData.from_arrays(counts(1), bin_ms=5, heldout=[1, 4], seed=1)
    with pytest.raises(stndt.UserError, match="trained on other data"):
        stndt.train(config(), other, workdir=path, quiet=True)
    # The copy is that of the run, still.
    np.testing.assert_array_equal(stndt.load_run(path).data.train.heldin, data().train.heldin)
    with pytest.raises(stndt.UserError, match=r"another configuration \(train.batch: 4 -> 3\)"):
        stndt.train(config(**{"train.batch": 3}), data(), workdir=path, quiet=True)
    fresh = stndt.train(config(), other, workdir=path, fresh=True, quiet=True)
    assert (tmp_path / "run.old1" / "data.h5").exists()
    np.testing.assert_array_equal(fresh.data.train.heldin, other.train.heldin)


def test_data_from_files_stay_in_their_files(tmp_path: Path) -> None:
    hdf5.write(data(), tmp_path / "in.h5")
    hdf5.write_targets(data(), tmp_path / "target.h5")
    found = stndt.load_data(tmp_path / "in.h5", targets=tmp_path / "target.h5")
    run = stndt.train(config(), found, workdir=tmp_path / "run", quiet=True)
    assert run.config.data.path == str(tmp_path / "in.h5")
    assert not (run.path / "data.h5").exists()
    assert run.data.fingerprint() == found.fingerprint() == run.record["data_fingerprint"]
    other = config(**{"data.path": str(tmp_path / "elsewhere.h5")})
    with pytest.raises(stndt.UserError, match=r"names .*elsewhere.h5, but other data"):
        stndt.train(other, found, workdir=tmp_path / "other", quiet=True)


def test_options_reach_the_training_loop(
    trained: stndt.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(loop, "train", lambda *args, **options: calls.append((args, options)))
    run = stndt.train(
        config(),
        data(),
        workdir=tmp_path / "tuned",
        init=trained,
        freeze=["embedder"],
        population=3,
        extend=True,
    )
    ((given, _, path), options) = calls[0]
    assert given.population == 3 and path == run.path == tmp_path / "tuned"
    assert options["extend"] and not options["quiet"]
    initialisation = options["initialisation"]
    assert initialisation.frozen["embedder"]["kernel"] is True
    assert initialisation.frozen["decoder"]["kernel"] is False
    assert str(trained.path) in initialisation.sentence
    with pytest.raises(stndt.UserError, match="the run that has them"):
        stndt.train(config(), data(), workdir=tmp_path / "other", freeze=["embedder"])


def test_predicted_rates_are_those_of_the_evaluation(trained: stndt.Run) -> None:
    rates = trained.predict(trained.data.eval.heldin)
    np.testing.assert_allclose(rates, trained.rates("eval"), rtol=1e-5)
    assert rates.dtype == np.float32 and rates.shape == (6, T, N)
    # All neurons in the order of the recording, by their identifiers, in any order.
    order = np.array([5, 1, 0, 3, 2, 4])
    shown = counts()[:3]
    expected = trained.predict(shown[..., [0, 2, 3, 5]])
    for found in (
        trained.predict(shown, units=range(N)),
        trained.predict(shown[..., order], units=order),
        trained.predict(shown[..., trained.data.units], units=trained.data.units),
    ):
        np.testing.assert_array_equal(found, expected)
    assert trained.predict(shown[:0, :, :4]).shape == (0, T, N)


BAD_COUNTS: dict[str, tuple[Callable[[np.ndarray], Any], dict[str, Any], str]] = {
    "one trial": (lambda x: x[0], {}, r"shape \(6, 6\).*give numbers \(trials, bins, neurons\)"),
    "text": (lambda x: x.astype(str), {}, "give numbers"),
    "neurons": (lambda x: x[..., :3], {}, "3 neurons; give the 4 held-in ones, or all 6"),
    "order": (lambda x: x, {}, r"run.data.units\[:run.data.heldin\]\] or units=range\(6\)"),
    "ragged": (lambda _: [[[1]], [[1, 2]]], {}, "lists of unequal length"),
    "units twice": (lambda x: x, {"units": [0] * 6}, "each of the 6 neurons"),
    "units missing": (lambda x: x[..., :4], {"units": range(4)}, "unit 5"),
    "bins": (lambda x: x[:, :5, :4], {}, "5 bins; give 6 observed bins; only models trained"),
    "rates": (lambda x: x[..., :4] + 0.5, {}, "whole numbers"),
    "negative": (lambda x: -x[..., :4] - 1, {}, "0 or more"),
    "gaps": (lambda x: np.where(x[..., :4] > 1, np.nan, x[..., :4]), {}, "NaN"),
}


@pytest.mark.parametrize("case", BAD_COUNTS)
def test_counts_that_do_not_fit_are_refused(trained: stndt.Run, case: str) -> None:
    change, options, message = BAD_COUNTS[case]
    with pytest.raises(stndt.UserError, match=message):
        trained.predict(change(counts()), **options)


def untrained(found: stndt.SpikeData) -> stndt.Run:
    """A run in memory alone, of two models that were never trained."""
    run = stndt.Run(Path("runs/small"))
    run.__dict__.update(data=found, models=small_models.models(found, members=2))
    return run


def unequal_trials(bins: tuple[int, int]) -> list[np.ndarray]:
    """The first is the shortest, the last the longest."""
    rng = np.random.default_rng(0)
    lengths = [bins[0], *rng.integers(*bins, 10), bins[1]]
    return [rng.poisson(0.7, (int(length), N)).astype(float) for length in lengths]


def test_short_trials_are_predicted_where_the_model_knows_gaps() -> None:
    trials = unequal_trials((3, 6))
    found = stndt.SpikeData.from_arrays(trials, bin_ms=5, heldout=[4, 5], evaluated=[0, 11])
    assert found.gaps
    run = untrained(found)
    expected = inference.mean_rates(run.models, found.eval)
    rates = run.predict(trials[0][None])
    assert rates.shape == (1, 3, N)
    np.testing.assert_allclose(rates[0], expected[0, :3], rtol=1e-5)
    np.testing.assert_allclose(run.predict(trials[11][None])[0], expected[1], rtol=1e-5)
    missing = trials[11].copy()
    missing[2, 1] = np.nan
    assert np.isfinite(run.predict(missing[None])).all()
    with pytest.raises(stndt.UserError, match=r"7 bins; give at most 6 observed bins$"):
        run.predict(np.zeros((1, 7, N)))


def test_forward_bins_follow_the_observed_ones_of_a_short_trial() -> None:
    trials = unequal_trials((5, 8))
    found = stndt.SpikeData.from_arrays(
        trials, bin_ms=5, heldout=[4, 5], evaluated=[0, 11], bins_forward=2
    )
    run = untrained(found)
    expected = inference.mean_rates(run.models, found.eval)
    rates = run.predict(trials[0][None, :3])
    assert rates.shape == (1, 3 + 2, N)
    np.testing.assert_allclose(rates[0], expected[0, 3:], rtol=1e-5)
    # All bins are accepted as well; the forward ones are not read.
    np.testing.assert_array_equal(run.predict(trials[11][None]), run.predict(trials[11][None, :6]))


@pytest.mark.long
def test_an_ensemble_is_a_run_again(
    trained: stndt.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "one"
    shutil.copytree(trained.path, source)
    best = stndt.build_ensemble([source], out=tmp_path / "best", select="all", quiet=True)
    assert best.is_ensemble and len(best.ensemble["members"]) == 2
    assert capsys.readouterr().out == ""
    shutil.rmtree(source)
    # It has its own copy of the recording.
    np.testing.assert_allclose(
        best.predict(data().eval.heldin), trained.predict(data().eval.heldin), rtol=1e-5
    )
    assert best.evaluate()["ensemble"]["co_bps"] == pytest.approx(
        trained.scores["ensemble"]["co_bps"], rel=1e-5
    )
    with pytest.raises(stndt.UserError, match="holds an ensemble"):
        stndt.build_ensemble(trained, out=tmp_path / "best")
    stndt.build_ensemble(trained, out=tmp_path / "best", fresh=True, quiet=True)
    assert (tmp_path / "best.old1").is_dir()


def test_scores_of_any_rates_are_those_of_the_evaluation(trained: stndt.Run) -> None:
    found = stndt.score(trained.data, trained.rates("eval"), trained.rates("train"))
    for name, value in found.items():
        assert trained.scores["ensemble"][name] == pytest.approx(value, rel=1e-5)
    trained.add_method("smoothing", stndt.baseline(trained.data))
    heading, *rows = trained.table().splitlines()
    assert "co-bps" in heading
    assert [row.split()[0] for row in rows][:3] == ["ensemble", "best", "smoothing"]
    with pytest.raises(stndt.UserError, match=r"shape \(6, 6, 5\); recording needs \(6, 6, 6\)"):
        stndt.score(trained.data, trained.rates("eval")[..., :5])


@pytest.mark.parametrize(
    ("name", "scores", "message"),
    [
        ("mine", {"co_bps": np.nan}, "co_bps is nan"),
        ("mine", {"cobps": 0.3}, "'cobps' is no score; choose from co_bps"),
        ("mine", {}, "scores of mine are {}"),
        ("", {"co_bps": 0.3}, "name of the method is ''"),
        ("this run", {"co_bps": 0.3}, "run's own scores"),
    ],
)
def test_scores_of_no_method_are_refused(
    tmp_path: Path, name: str, scores: dict[str, Any], message: str
) -> None:
    with pytest.raises(stndt.UserError, match=message):
        stndt.Run(tmp_path).add_method(name, scores)
    assert not list(tmp_path.iterdir())


def test_rates_in_another_unit_or_type(trained: stndt.Run) -> None:
    rates = trained.rates("eval").astype(float)
    with pytest.warns(UserWarning, match=r"in spikes/s \(Hz\), multiply by 0.005"):
        stndt.score(trained.data, rates * 200)
    with pytest.raises(stndt.UserError, match="finite and 0 or more"):
        stndt.score(trained.data, -rates)


def test_a_run_without_named_data_uses_its_own(trained: stndt.Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "run")
    again = stndt.train(config(), workdir=tmp_path / "run", quiet=True)
    assert len(again.record["sessions"]) == 2


def test_a_recording_says_what_it_is() -> None:
    assert repr(data(name="mine")) == (
        "SpikeData mine: 18 training and 6 evaluated trials, 6 observed + 0 forward bins of 5 ms, "
        "4 held-in + 2 held-out neurons"
    )


@pytest.mark.long
def test_the_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "api.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (found,) = re.findall(r"co-bps of the ensemble: (\S+)", done.stdout)
    assert float(found) > 0.3 and not list(tmp_path.iterdir())


def test_simulations_and_configurations_are_found_by_name() -> None:
    found = stndt.simulate("reach", trials=20, eval_trials=4, bins=6, bins_forward=0)
    assert len(found.train) == 20 and found.dims == stndt.Dims(6, 0, found.heldin, found.heldout)
    with pytest.raises(stndt.UserError, match="did you mean tiny"):
        stndt.get_config("tinny")
    with pytest.raises(AttributeError, match="layerz"):
        stndt.get_config("tiny").model.layerz = 3


def test_unknown_keys_and_wrong_values_are_sentences(tmp_path: Path) -> None:
    values = config().to_dict()
    for change, message in (
        ({"layerz": 3}, "config.model.layerz is not a key; did you mean layers"),
        ({"layers": 0}, "config.model.layers is 0"),
        ({"heads": 5}, "config.model.heads is 5, which does not divide"),
    ):
        wrong = values | {"model": values["model"] | change}
        for call in (
            lambda wrong=wrong: stndt.train(wrong, data(), workdir=tmp_path / "run"),
            lambda wrong=wrong: stndt.make_train(wrong, data()),
        ):
            with pytest.raises(stndt.UserError, match=message):
                call()
    with pytest.raises(stndt.UserError, match=r"config\.population is 0"):
        stndt.train(config(), data(), workdir=tmp_path / "run", population=0)
    with pytest.raises(stndt.UserError, match=r"config\.data\.path is empty"):
        stndt.train(config(), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_types_are_sentences_too(tmp_path: Path) -> None:
    """In another process, where no test checks types first."""
    code = """
import sys, numpy as np, stndt_jax as stndt
x = np.zeros((4, 3, 2))
arrays = lambda **options: stndt.SpikeData.from_arrays(x, **({"bin_ms": 5} | options))
config = stndt.get_config("tiny")
for call in (
    lambda: stndt.train(config, x, workdir="run"),
    lambda: stndt.train("tiny", None, workdir="run"),
    lambda: stndt.make_train(config, x),
    lambda: stndt.make_predict(config, None),
    lambda: stndt.make_train(config, stndt.simulate("reach", trials=20, eval_trials=4))({}),
    lambda: stndt.score(x, x),
    lambda: stndt.build_ensemble("nowhere", out="best"),
    lambda: stndt.build_ensemble(None, out="best"),
    lambda: stndt.build_ensemble([], out="best"),
    lambda: stndt.build_ensemble("nowhere", out="best", select="foo"),
    lambda: stndt.build_ensemble("nowhere", out="best", most="a"),
    lambda: stndt.build_ensemble("nowhere", out="best", most=0),
    lambda: stndt.build_ensemble("nowhere", out="best", seed="x"),
    lambda: stndt.train(config, workdir=None),
    lambda: stndt.load_data(None),
    lambda: stndt.load_run(None),
    lambda: stndt.load_run("run", data=arrays()),
    lambda: stndt.write_report(None, "x.html"),
    lambda: stndt.simulate(3),
    lambda: stndt.simulate("reach", trials="a"),
    lambda: stndt.simulate("reach", variability="a"),
    lambda: stndt.baseline(arrays(heldout=[1]), kind=[1]),
    lambda: stndt.Run("run").predict(x, select="x"),
    lambda: stndt.Run("run").evaluate(select="best"),
    lambda: stndt.models.register("network", "x")(3),
    lambda: stndt.SpikeData.from_arrays(None, bin_ms=5),
    lambda: arrays(bin_ms="5"),
    lambda: arrays(bin_ms=np.ones(2)),
    lambda: arrays(bin_ms=True),
    lambda: arrays(heldout=None),
    lambda: arrays(bins_forward=2.5),
    lambda: arrays(bins_forward="a"),
    lambda: arrays(seed="x", heldout=0.5),
    lambda: arrays(conditions=[{}] * 4, heldout=[1]),
    lambda: arrays(conditions=list("abc"), heldout=[1]),
    lambda: arrays(starts="x", heldout=[1]),
    lambda: arrays(units=list("ab"), heldout=[1]),
    lambda: arrays(name=3),
    lambda: stndt.score(arrays(heldout=[1]), x[:1] * 1j),
    lambda: stndt.Run("run").add_method("mine", {"co_bps": "0.3"}),
):
    try:
        call()
    except stndt.UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 40 and not list(tmp_path.iterdir())
    assert "data is a ndarray; give a recording" in lines[0]
    assert "the configuration is a str; give what get_config() returns" in lines[1]
    assert "takes a Hyper, not a dict" in lines[4]


# What differs between compiled programs is rounding, which training amplifies.
RTOL, ATOL = 2e-4, 2e-5


def close(found: Any, expected: Any) -> None:
    leaves, _ = jax.tree.flatten_with_path(found)
    for (path, a), b in zip(leaves, jax.tree.leaves(expected), strict=True):
        x, y = np.asarray(a), np.asarray(b)
        if (names := [getattr(key, "key", "") for key in path])[-1] == "bias":
            # The loss does not depend on the biases of keys: only rounding moves them.
            width = {"qkv": N, "qk": T}.get(names[-2], 0)
            x, y = (np.delete(z, slice(width, 2 * width), axis=-1) for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=RTOL, atol=ATOL, err_msg=str(path))


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, stndt.Hyper, Any]:
    """A training function, the hyperparameters of eight members, and their states by vmap."""
    given = config(**{"population": 8, "model.spatial": False})
    given.members.learning_rate = tuple(np.geomspace(1e-3, 2e-2, 8))
    fit, hypers = stndt.make_train(given, data()), stndt.hypers(given)
    return fit, hypers, jax.vmap(fit)(hypers)


def test_a_member_by_vmap_equals_the_same_model_trained_alone(
    fitted: tuple[Any, stndt.Hyper, Any], tmp_path: Path
) -> None:
    fit, hypers, states = fitted
    one = fit(jax.tree.map(lambda leaf: leaf[5], hypers))
    close(jax.tree.map(lambda leaf: leaf[5], states.params), one.params)
    close(jax.tree.map(lambda leaf: leaf[5], states.metrics), one.metrics)
    # And the run that trains it.
    given = config(**{"population": 1, "model.spatial": False, "seed": int(hypers.seed[5])})
    given.optimizer.learning_rate = float(hypers.learning_rate[5])
    run = stndt.train(given, data(), workdir=tmp_path / "run", quiet=True)
    close(one.params, run.models[0].params("cobps"))
    close(one.member.state.params, run.models[0].params("last"))
    assert one.metrics["valid_cobps"].shape == (3,)  # after 2, 4 and 5 epochs
    assert int(one.member.state.step) == 5 * (18 // 4)
    np.testing.assert_allclose(
        one.metrics["valid_cobps"], [row["valid_cobps"][0] for row in run.history], rtol=1e-3
    )
    kernels = np.asarray(states.params["embedder"]["kernel"])
    assert np.ptp(kernels, axis=0).min() > 0  # members differ


@pytest.mark.long
def test_pmap_and_sharded_jit_train_the_same_members(
    fitted: tuple[Any, stndt.Hyper, Any],
) -> None:
    fit, hypers, states = fitted
    assert jax.device_count() == 8
    close(jax.pmap(fit)(hypers).params, states.params)
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("member",)), P("member"))
    train = jax.jit(
        jax.vmap(fit, in_axes=(0, None)), in_shardings=(sharding, None), out_shardings=sharding
    )
    sharded = train(jax.device_put(hypers, sharding), fit.trials)
    assert len(sharded.params["embedder"]["kernel"].sharding.device_set) == 8
    close(sharded.params, states.params)


def test_rates_by_a_pure_function_are_those_of_plain_flax(
    fitted: tuple[Any, stndt.Hyper, Any],
) -> None:
    _, hypers, states = fitted
    given, found = config(**{"model.spatial": False}), data()
    predict = stndt.make_predict(given, found)
    rates = jax.vmap(predict, in_axes=(0, 0, None))(states.params, hypers, found.eval.heldin)
    assert rates.shape == (8, 6, T, N)
    model = stndt.STNDT.from_config(given, found.dims)
    x = jnp.pad(jnp.asarray(found.eval.heldin, jnp.float32), ((0, 0), (0, 0), (0, found.heldout)))
    params = jax.tree.map(lambda leaf: leaf[2], states.params)
    z, _ = model.apply({"params": params}, x)
    np.testing.assert_allclose(np.exp(z), rates[2], rtol=1e-5)
    with pytest.raises(stndt.UserError, match=r"give \(trials, 6 observed bins, 4 held-in"):
        predict(params, hypers, counts())


def test_hyperparameters_of_a_population_want_vmap(fitted: tuple[Any, stndt.Hyper, Any]) -> None:
    fit, hypers, _ = fitted
    with pytest.raises(stndt.UserError, match=r"shape \(8,\); use jax.vmap"):
        fit(hypers)
