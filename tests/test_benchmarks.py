"""The benchmarks run, on a bare machine too, and count operations as a person would."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import attention_ways
import bfloat16
import compilations
import gpu
import growth
import jax
import jax.numpy as jnp
import numpy as np
import plain_step
import population_vs_serial
import pytest
import search_night
import sizes
import train_step

from stndt_jax.training import step

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if "def main" in path.read_text())


@pytest.mark.parametrize(("name", "D"), [("tiny", 6), ("tiny_factors", 10)])
def test_needed_operations_by_hand(name: str, D: int) -> None:
    """One layer, one trial: every product of the specification written out."""
    config, dims = sizes.setting(name, 1, "float32")
    T, N, F = 8, 6, 8
    embedders = [(T, N, D), (D, T, T)]
    views = [(2 * T, N, D), (2 * D, T, T)]
    layer = [
        (T, D, 3 * D), (T, D, T), (T, T, D), (T, D, D),  # attention over time
        (T, D, F), (T, F, D),
        (D, T, 2 * T), (D, T, D), (D, D, T),  # attention over neurons or factors
        (T, D, F), (T, F, D),
        (T, D, N),  # decoder
    ]  # fmt: skip

    def operations(products: list[tuple[int, int, int]]) -> int:
        return sum(2 * a * b * c for a, b, c in products)

    if name == "tiny_factors":
        wanted = 3 * operations(embedders + layer)
    else:
        # Both kinds of features: 2 rows with 2 rows; and back, the slope of a symmetric matrix.
        similarities = 2 * 2 * (2 * 2 * T * N * 2)
        wanted = 3 * operations(embedders + views + layer) - operations(embedders + views)
        wanted += similarities
    assert sizes.needed_gflop(config, dims, 1) * 1e9 == pytest.approx(wanted)


@pytest.mark.long
def test_a_step_is_timed_beside_the_plain_one() -> None:
    found = train_step.measure("tiny", 1, 2, "float32", plain=True)
    assert found["ratio"] == pytest.approx(found["gflops"] / found["matmul_gflops"])
    assert found["trials_per_s"] == pytest.approx(4 / found["ms_per_step"] * 1e3)
    assert found["plain_loss_difference"] <= plain_step.TOLERANCE
    wanted = found["ms_per_step"] / found["plain_ms_per_step"]
    assert found["ratio_to_plain"] == pytest.approx(wanted)


def test_a_search_on_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_night, "memory_gb", lambda name, dtype: (2.0, 1.5))
    monkeypatch.setattr(train_step, "measure", lambda *given, **how: {"ms_per_step": 36.0})
    found = search_night.estimate("tiny", 10, 42, 5, tflops=2.0, gb=9.0, dtype="float32")
    # 42 trials are 10 batches of four.
    assert found["steps_of_a_trial"] == 50
    assert found["hours_here"] == pytest.approx(10 * 50 * 0.036 / 3600)
    config, dims = sizes.setting("tiny", 1, "float32")
    seconds = 10 * 50 * sizes.needed_gflop(config, dims, 4) / 2000.0 / 0.1
    assert found["hours_at_share"]["0.1"] == pytest.approx(seconds / 3600)
    # 2, 3.5, 5, 6.5, 8 GB.
    assert (found["members_at_once"], found["populations"]) == (5, 2)
    assert search_night.estimate("tiny", 10, 42, 5, 2.0, 1.9, "float32")["members_at_once"] == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ways_of_attention_agree(dtype: str) -> None:
    ways = attention_ways.measure("tiny_factors", dtype, 2, 1)["ways"]
    assert ways["heads"]["difference"] == 0 and ways["xla"]["ms"] > 0
    assert set(ways["cudnn"]) == {"refused"}


@pytest.mark.long
def test_a_row_of_the_table_of_an_accelerator() -> None:
    assert max(gpu.differences("tiny_factors").values()) <= gpu.TOLERANCE
    row = gpu.measure("tiny_factors", "bf16", 2, 2, rate=10.0)
    config, dims = sizes.setting("tiny_factors", 2, "bfloat16")
    gflop = 2 * sizes.needed_gflop(config, dims, config.train.batch)
    assert row["share"] == pytest.approx(gflop / row["ms_per_step"] * 1e3 / 10.0)
    assert row["trials_per_s"] == pytest.approx(2 * 4 / row["ms_per_step"] * 1e3)
    assert row["fusions"] > 0 and "tiny_factors" in gpu.line(row)
    assert gpu.line(row | {"left_out": "out of memory"}).endswith("out of memory")


@pytest.mark.long
def test_the_plain_step_is_the_same_step() -> None:
    """Loss and slopes without dropout; with it, other draws and so another loss."""
    arch, hyper, batch, params = plain_step.one_model("tiny")
    still = hyper._replace(
        **dict.fromkeys(("dropout", "dropout_rates", "dropout_embedding"), jnp.float32(0.0))
    )
    noise = step.key(hyper.seed, "train", 3)
    plain = jax.jit(jax.value_and_grad(functools.partial(plain_step.loss, arch)))
    ours = jax.jit(jax.value_and_grad(functools.partial(step.loss, arch), has_aux=True))
    found, slopes = plain(params, still, batch, noise)
    (wanted, _), wanted_slopes = ours(params, still, batch, noise, jnp.float32(0.0))
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    for slope, leaf in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted_slopes), strict=True):
        assert np.abs(slope - leaf).max() <= 1e-5 * max(np.abs(leaf).max(), 1e-3)
    assert float(plain(params, hyper, batch, noise)[0]) != pytest.approx(float(wanted), rel=1e-3)


@pytest.mark.slow
def test_another_loss_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_step, "info_nce", lambda rows, temperature: jnp.float32(0.0))
    with pytest.raises(SystemExit, match="the losses differ"):
        plain_step.difference("tiny")


@pytest.mark.long
def test_a_run_compiles_its_portion_once(tmp_path: Path) -> None:
    found = compilations.measure(3, 30, tmp_path / "run")
    assert found["chunk_compilations"] == 1
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 6
    values = json.loads((tmp_path / "run" / "config.json").read_text())["members"]
    assert all(len(set(given)) == 3 for name, given in values.items() if values[name][0] != 0)


def test_growth_is_read_off_the_ends() -> None:
    rows = [
        {"axis": axis, "factor": factor, "ms_per_step": 3.0 * factor**power + (factor == 2)}
        for axis, power in (("T", 2), ("N", 1), ("B", 0))
        for factor in (1, 2, 4)
    ]
    assert growth.exponents(rows) == pytest.approx({"T": 2, "N": 1, "B": 0})
    config, dims = sizes.setting("tiny", 1, "float32")
    assert growth.grown(config, dims, "T", 3)[1].bins == 3 * dims.bins
    assert growth.grown(config, dims, "N", 3)[1].neurons == 3 * dims.neurons
    assert growth.grown(config, dims, "B", 3)[0].train.batch == 3 * config.train.batch


def test_a_difference_is_set_against_the_noise() -> None:
    """Seeds of standard deviation .01 each: three of them know a mean to .01 / sqrt(3)."""
    wide, narrow = {"mean": 0.2, "sd": 0.01, "cobps": [0] * 3}, {"mean": 0.21, "sd": 0.01}
    found = bfloat16.compared(wide, narrow)
    assert found["difference"] == pytest.approx(0.01)
    assert found["in_standard_errors"] == pytest.approx(0.01 / (0.01 * (2 / 3) ** 0.5))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_says_what_it_does(script: Path) -> None:
    """Where only jax, flax, optax, orbax, numpy, h5py and what those need are.

    But for those that train a run: these need the whole package.
    """
    trains = "import loading" in script.read_text() or script.stem == "prepare_nwb"
    absent = "beartype,jaxtyping,pandas,tensorboardX"
    absent += "" if trains else ",ml_collections,nlb_tools,matplotlib"
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))\n"
        "sys.argv = [sys.argv[2], '--help']\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, absent, str(script)],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{script.name}" in done.stdout


@pytest.mark.long
def test_trials_together_and_one_after_another_are_the_same_trials() -> None:
    found = population_vs_serial.measure(2, 2, 1, 16, "tiny")
    assert found["largest_difference_of_cobps"] < 1e-4
    ratio = found["serial_train_s"] / found["population_train_s"]
    assert found["train_ratio"] == pytest.approx(ratio)
