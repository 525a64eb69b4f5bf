"""One setting with many seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from helpers.recordings import small_reach

from stndt_jax.cli import main
from stndt_jax.config import loading
from stndt_jax.config import schema as config
from stndt_jax.ensembles import build, candidates
from stndt_jax.errors import UserError
from stndt_jax.training import loop, restore
from stndt_jax.workflows import seeds

SETTINGS = ["--config=tiny", "--config.model.layers=1", "--config.contrast.enabled=false"]


def test_summary_is_arithmetic() -> None:
    scores = [0.1, None, 0.4, 0.2, float("nan")]
    found = seeds.summary([5, 6, 7, 8, 9], scores)
    values = [0.1, 0.4, 0.2]
    said = found["validation_co_bps"]
    assert (said["n"], said["without_score"]) == (3, 2)
    assert said["mean"] == pytest.approx(statistics.mean(values))
    assert said["sd"] == pytest.approx(statistics.stdev(values))
    assert (said["lowest"], said["median"], said["highest"]) == (0.1, 0.2, 0.4)
    assert found["seeds"] == {"5": 0.1, "6": None, "7": 0.4, "8": 0.2, "9": None}
    reach = 4.302652729911275 * statistics.stdev(values) / 3**0.5  # t at 97.5%, 2 degrees
    assert said["t_interval"] == pytest.approx([said["mean"] - reach, said["mean"] + reach])
    assert "2 more have no score" in seeds.table(found)
    assert "mean" not in seeds.table(seeds.summary([1], [None]))
    assert "t_interval" not in seeds.summary([1], [0.5])["validation_co_bps"]


def test_seeds_are_members_and_nothing_else_differs(tmp_path: Path) -> None:
    loaded = loading.load([*SETTINGS, "--config.seed=3"])
    many = seeds.setting(loaded, 4)
    hyper = config.hyper(many)
    assert hyper.seed.tolist() == [3, 4, 5, 6]
    assert all(len(np.unique(x)) == 1 for name, x in hyper._asdict().items() if name != "seed")
    words = ["--config.population=2", "--config.members.dropout=(0.1, 0.2)"]
    with pytest.raises(UserError, match=r"config.members.dropout is given"):
        seeds.setting(loading.load([*SETTINGS, *words]), 4)
    with pytest.raises(UserError, match="too large for 4 seeds"):
        seeds.setting(loading.load([*SETTINGS, f"--config.seed={2**31 - 3}"]), 4)


def test_it_says_what_training_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a training that leaves known metrics, in two sessions."""
    folder = small_reach(tmp_path)
    rows = [{"epoch": 2, "best_cobps": [0.1, None, -0.2]}]

    def trained(config: object, data: object, path: Path, **_: object) -> list[str]:
        path.mkdir(exist_ok=True)
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return []

    monkeypatch.setattr(loop, "train", trained)
    data = [f"--config.data.path={folder / 'reach.h5'}"]
    argv = ["seeds", *SETTINGS, *data, "--n=3", f"--workdir={tmp_path / 'run'}"]
    assert main.main(argv) == 0
    rows.append({"epoch": 4, "best_cobps": [0.3, 0.2, -0.2]})
    assert main.main(argv) == 0
    found = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert found["seeds"] == {"0": 0.3, "1": 0.2, "2": -0.2}
    assert found["validation_co_bps"]["mean"] == pytest.approx(0.1)
    assert "0.1000" in capsys.readouterr().out
    none = ["--config.data.validation_fraction=0"]
    assert main.main([*argv, *none]) == 2
    assert "there are no trials to score the seeds on" in capsys.readouterr().err


@pytest.mark.long
def test_with_true_training(tmp_path: Path) -> None:
    """The members' own best scores, of a run like any other."""
    folder = small_reach(tmp_path)
    files = [
        f"--config.data.path={folder / 'reach.h5'}",
        f"--config.data.targets={folder / 'reach_target.h5'}",
    ]
    run = tmp_path / "run"
    argv = ["seeds", *SETTINGS, *files, "--config.train.epochs=6", "--n=2", f"--workdir={run}"]
    assert main.main(argv) == 0
    best = restore.load(run).members.selection.cobps.value
    found = json.loads((run / "seeds.json").read_text())
    np.testing.assert_allclose(list(found["seeds"].values()), best, rtol=1e-6)
    # An ensemble of them ranks them by the same scores.
    pool = candidates.collect([run], tmp_path / "out")
    each = build.choose(pool, "top", 2).each
    np.testing.assert_allclose(np.array(each), best, atol=1e-5)
