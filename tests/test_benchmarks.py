"""The benchmark runs, and counts operations as a person would."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "train_step.py"
    spec = importlib.util.spec_from_file_location("train_step", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_needed_operations_by_hand(benchmark: ModuleType) -> None:
    """One layer, one trial: every product of the specification written out."""
    config, dims = benchmark.setting("tiny", 1, "float32")
    T, N, F = 8, 6, 8
    products = [
        (T, N, N), (N, T, T),  # embedders
        (2 * T, N, N), (2 * N, T, T),  # of the two views
        (T, N, 3 * N), (T, N, T), (T, T, N), (T, N, N),  # attention over time
        (T, N, F), (T, F, N),
        (N, T, 2 * T), (N, T, N), (N, N, T),  # attention over neurons
        (T, N, F), (T, F, N),
        (T, N, N),  # decoder
    ]  # fmt: skip
    forward = sum(2 * a * b * c for a, b, c in products)
    inputs = sum(2 * a * b * c for a, b, c in products[:4])
    # Both kinds of features: 2 rows with 2 rows; and back, the slope of a symmetric matrix.
    similarities = 2 * 2 * (2 * 2 * T * N * 2)
    wanted = 3 * forward - inputs + similarities
    assert benchmark.needed_gflop(config, dims, 1) * 1e9 == pytest.approx(wanted)


@pytest.mark.slow
def test_a_step_is_timed(benchmark: ModuleType) -> None:
    found = benchmark.measure("tiny", 2, 2, "float32")
    assert found["population"] == 2
    assert found["ratio"] == pytest.approx(found["gflops"] / found["matmul_gflops"])
    assert found["trials_per_s"] == pytest.approx(2 * 4 / found["ms_per_step"] * 1e3)
