"""Runs as arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers.report_runs import T_FWD, T_OBS, N, interpretation, recording, run

import stndt_jax
from stndt_jax.errors import UserError
from stndt_jax.interpret import files


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("split", ["eval", "train"])
def test_rates_are_those_of_the_file(path: Path, split: str) -> None:
    loaded = stndt_jax.load_run(str(path))
    rates_RTN = loaded.rates(split)  # type: ignore[arg-type]
    with h5py.File(path / "submission.h5") as file:
        group = file["small_20"]
        for name, place in {
            "heldin": np.s_[:, :T_OBS, :6],
            "heldout": np.s_[:, :T_OBS, 6:],
            "heldin_forward": np.s_[:, T_OBS:, :6],
            "heldout_forward": np.s_[:, T_OBS:, 6:],
        }.items():
            np.testing.assert_array_equal(rates_RTN[place], group[f"{split}_rates_{name}"])
    assert rates_RTN.shape[1:] == (T_OBS + T_FWD, N)
    np.testing.assert_allclose(loaded.rates_hz(split), rates_RTN * 50)  # type: ignore[arg-type]


def test_counts_and_truth_are_those_of_the_recording(path: Path) -> None:
    loaded, made = stndt_jax.load_run(path), recording()
    np.testing.assert_array_equal(loaded.counts("eval"), made.eval.counts(T_FWD, 3))
    truth = loaded.true_rates("eval")
    assert truth is not None and made.eval.rates is not None
    np.testing.assert_allclose(truth, made.eval.rates, rtol=1e-6)
    assert loaded.time_ms[0] == 10 and loaded.time_ms[-1] == (T_OBS + T_FWD - 0.5) * 20
    assert loaded.scores["ensemble"]["co_bps"] == 0.2345
    assert loaded.config.population == 3 and loaded.history[1]["epoch"] == 2
    assert loaded.methods["ensemble"]["vel_r2"] == 0.81


def test_counts_that_are_not_known_are_nan(tmp_path: Path) -> None:
    loaded = stndt_jax.load_run(run(tmp_path, scored=False))
    counts = loaded.counts("eval")
    assert np.isnan(counts[:, :, 6:]).all() and np.isnan(counts[:, T_OBS:]).all()
    assert not np.isnan(counts[:, :T_OBS, :6]).any()
    assert loaded.true_rates("eval") is None


def test_named_axes(path: Path) -> None:
    pytest.importorskip("xarray")
    found = stndt_jax.load_run(path).dataset("eval")
    np.testing.assert_array_equal(found["rates"].values, stndt_jax.load_run(path).rates())
    assert found.sizes == {"trial": 4, "time": T_OBS + T_FWD, "neuron": N}
    assert found["held_out"].values.tolist() == [False] * 6 + [True] * 3
    # Neurons keep their place in the recording as their name: 2, 5 and 8 are held out.
    assert found["neuron"].values.tolist() == [0, 1, 3, 4, 6, 7, 2, 5, 8]
    assert found["condition"].values.tolist() == [1, 0, 2, 3]


def test_attention_as_it_was_interpreted(path: Path) -> None:
    found = interpretation()
    files.write(found, path / "interpret")
    loaded = stndt_jax.load_run(path)
    assert loaded.was_interpreted
    assert found.importance is not None and found.spatial is not None
    np.testing.assert_allclose(loaded.importance(), found.importance)
    np.testing.assert_allclose(loaded.attention(), found.spatial)
    assert loaded.attention(by_layer=True).shape == (2, 1, N, N)
    T = T_OBS + T_FWD
    np.testing.assert_allclose(loaded.attention("temporal"), np.full((T, T), 1 / T))
    assert loaded.attention("temporal", by_layer=True).shape == (2, 1, T, T)
    with pytest.raises(UserError, match="stndt interpret"):
        loaded.importance("gradients")


def test_mistakes_are_sentences(path: Path, tmp_path: Path) -> None:
    loaded = stndt_jax.load_run(path)
    with pytest.raises(UserError, match="no run directory"):
        stndt_jax.load_run(tmp_path)
    for call in (
        lambda: loaded.rates("test"),  # type: ignore[arg-type]
        lambda: loaded.attention("both"),  # type: ignore[arg-type]
        lambda: loaded.importance("rank"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Exception, match=r"choose|Type-check"):
            call()
    bare = run(tmp_path, "bare")
    (bare / "submission.h5").unlink()
    with pytest.raises(UserError, match="stndt evaluate"):
        stndt_jax.load_run(bare).rates()


def test_it_is_imported_when_it_is_asked_for() -> None:
    code = "import stndt_jax, sys; print('jax' in sys.modules); stndt_jax.load_run; print('jax' in sys.modules)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
