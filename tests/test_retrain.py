"""Chosen models trained again on all trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import small_models
from helpers.recordings import small_reach
from test_ensembles import run

from stndt_jax.cli import main
from stndt_jax.data import hdf5, synthetic
from stndt_jax.ensembles import build, candidates, retrain
from stndt_jax.errors import UserError
from stndt_jax.runs import recording
from stndt_jax.training import batches, loop, restore


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two runs: two members of one, best after epochs 2 and 4, and one of other."""
    folder = small_reach(tmp_path_factory.mktemp("data"))
    run(folder / "runs" / "a", folder, train__epochs=4, **small_models.SETTINGS)
    run(folder / "runs" / "b", folder, train__epochs=4, model__spatial=False)
    pool = candidates.collect([folder / "runs"], folder / "best")
    chosen = build.choose(pool, "top", 3)
    build.write(folder / "best", pool, chosen._replace(weights={1: 0.5, 2: 0.25, 3: 0.25}, size=4))
    return folder


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the chosen members have been best after epochs 2 and 4, and 4."""
    best = {"00": [2, 4], "01": [4]}
    monkeypatch.setattr(retrain, "_epochs", lambda run: np.array(best[run.path.name], np.int32))


def weights(path: Path) -> list[np.ndarray]:
    """The weights that the members of a run are used with."""
    trained = restore.load(path)
    return jax.tree.leaves(trained.members.selection.cobps.params)


@pytest.mark.long
def test_like_training_anew_up_to_the_best_epoch(
    folder: Path, tmp_path: Path, epochs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed on the way and started again; the old shares; no trial selects."""
    out, data = tmp_path / "test", folder / "reach.h5"
    argv = ["retrain", str(folder / "best"), f"--data={data}", f"--out={out}"]
    killed: list[bool] = []
    whole = loop.train

    def once(*args: Any, **more: Any) -> list[str]:
        if args[2].name == "01" and not killed:
            killed.append(True)
            raise Killed
        return whole(*args, **more)

    out.mkdir()
    (out / "retrain.json.partial").touch()  # killed while it began
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", once)
        with pytest.raises(Killed):
            main.main(argv)
        assert main.main(argv) == 0
    assert main.main(argv) == 0  # nothing is left to do
    assert "3 models trained again" in capsys.readouterr().out

    found = json.loads((out / "ensemble.json").read_text())
    rows = {(row["source_member"], row["part"]): row["weight"] for row in found["members"]}
    assert rows == {(0, "00"): 0.5, (1, "00"): 0.25, (0, "01"): 0.25}
    first = restore.load(out / "trained" / "00")
    assert first.config.data.validation_fraction == 0
    assert first.members.selection.cobps.epoch.tolist() == [2, 4]

    trained = batches.batch_of(first.data.train, first.arch.dims)
    params = first.members.selection.cobps.params
    for member in (0, 1):
        wanted = batches.statistics(trained, first.arch.dims).mean
        np.testing.assert_allclose(params["input_mean"][member], wanted, rtol=1e-6)

    # The member that trains to the end has the weights of a training without a judge.
    loop.train(first.config, recording.read(first.config), tmp_path / "plain", quiet=True)
    for mine, plain in zip(
        weights(out / "trained" / "00"), weights(tmp_path / "plain"), strict=True
    ):
        np.testing.assert_array_equal(mine[1], plain[1])
    assert main.main(["evaluate", str(out)]) == 0
    assert (out / "submission.h5").exists()


@pytest.mark.long
def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path, epochs: None) -> None:
    best, data = folder / "best", str(folder / "reach.h5")
    other = synthetic.make("reach", trials=16, eval_trials=4, bins=6, heldin=9, heldout=2)
    hdf5.write(other, tmp_path / "other.h5")
    with pytest.raises(UserError, match=r"heldin 9, .* are trained again on .* the same neurons"):
        retrain.retrain(best, str(tmp_path / "other.h5"), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(UserError, match="holds something else"):
        retrain.retrain(best, data, tmp_path / "full")
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "retrain.json").write_text('{"source": "runs/x", "members": []}')
    with pytest.raises(UserError, match="holds models of runs/x"):
        retrain.retrain(best, data, begun)


@pytest.mark.parametrize("missing", ["data", "out"])
def test_what_is_missing_is_named(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--{name}=x" for name in ("data", "out") if name != missing]
    assert main.main(["retrain", "runs/x", *given]) == 2
    assert f"--{missing} is missing" in capsys.readouterr().err
