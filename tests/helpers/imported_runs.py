"""Small recordings, checkpoints and imported runs: what tests of trained models start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from helpers import torch_files
from helpers.published import make_options, random_state
from stndt_jax.cli import main

# bins, forward bins, held-in, held-out neurons of the small recording
SIZES = (5, 2, 4, 2)
OPTIONS = {"NUM_HEADS": 1, "POSITION_OFFSET": True}


def record(
    path: Path,
    sizes: tuple[int, int, int, int],
    seen_RTN: np.ndarray | None = None,
    trials: int = 8,
) -> Path:
    """A recording of random counts, and its targets; ``seen_RTN`` are the evaluated counts.

    It has so many training trials.
    """
    T, F, N, M = sizes
    rng = np.random.default_rng(5)
    if seen_RTN is None:
        seen_RTN = rng.poisson(1.0, (6, T + F, N + M))

    def blocks(split: str, x_RTN: np.ndarray) -> dict[str, np.ndarray]:
        parts: dict[str, Any] = {"heldin": np.s_[:, :T, :N], "heldout": np.s_[:, :T, N:]}
        if F:
            parts |= {"heldin_forward": np.s_[:, T:, :N], "heldout_forward": np.s_[:, T:, N:]}
        return {f"{split}_spikes_{name}": x_RTN[place] for name, place in parts.items()}

    targets = blocks("eval", seen_RTN)
    with h5py.File(path, "w") as file:
        for key, x in blocks("train", 1 + rng.poisson(1.0, (trials, T + F, N + M))).items():
            file[key] = x.astype("u1")
        file["eval_spikes_heldin"] = targets.pop("eval_spikes_heldin").astype("u1")
    with h5py.File(path.with_name("target.h5"), "w") as file:
        for key, x in targets.items():
            file[f"small/{key}"] = x.astype("u1")
    return path


def state_of(seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    options = make_options(**{**OPTIONS, **changes})
    state = random_state(np.random.default_rng(seed), options, sum(SIZES[:2]), sum(SIZES[2:]))
    return {name: np.asarray(x, np.float32) for name, x in state.items()}


def one(path: Path, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint file of a random model that fits the small recording."""
    names = {k: v for k, v in changes.items() if k.isupper() and "." not in k}
    state = state_of(seed, **names)
    return torch_files.save(path, torch_files.checkpoint(state, **{**OPTIONS, **changes}))


def imported(tmp_path: Path, file: Path, *more: str) -> Path:
    data = record(tmp_path / "small.h5", SIZES)
    out = tmp_path / "run"
    argv = ["import", str(file), f"--data={data}", f"--out={out}", *more]
    assert main.main(argv) == 0
    return out
