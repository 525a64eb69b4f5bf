"""bfloat16 against float32 on a recording, three seeds each, trained as a population.

    python benchmarks/bfloat16.py --data=val.h5 --targets=val_target.h5 --config=mc_maze_large

trains both and prints one JSON object: co-bps of every member on the evaluated trials, means and
standard deviations over seeds, their difference, and that difference in units of the noise between
seeds (Welch's t). Needs the whole package with its scores, unlike the other benchmarks.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

from stndt_jax.config import loading
from stndt_jax.evaluation import evaluate
from stndt_jax.runs import recording
from stndt_jax.training import loop


def one(dtype: str, settings: list[str], folder: Path) -> dict[str, Any]:
    """Trains a population in one type and scores its members."""
    config = loading.load([*settings, f"--config.model.dtype={dtype}"])
    began = time.perf_counter()
    loop.train(config, recording.read(config), folder)
    seconds = time.perf_counter() - began
    members = evaluate.evaluate(folder).scores["members"]
    cobps = [member["co_bps"] for member in members]
    return {
        "cobps": cobps,
        "mean": statistics.mean(cobps),
        "sd": statistics.stdev(cobps),
        "train_s": seconds,
    }


def compared(wide: dict[str, Any], narrow: dict[str, Any]) -> dict[str, float]:
    """The difference of the means, and in units of its standard error."""
    n = len(wide["cobps"])
    noise = math.sqrt((wide["sd"] ** 2 + narrow["sd"] ** 2) / n)
    difference = narrow["mean"] - wide["mean"]
    return {"difference": difference, "in_standard_errors": difference / max(noise, 1e-12)}


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="recording")
    parser.add_argument("--targets", required=True, help="its target file")
    parser.add_argument("--config", default="mc_maze_large")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="instead of the configuration's")
    flags = parser.parse_args()
    settings = [
        f"--config={flags.config}",
        f"--config.data.path={flags.data}",
        f"--config.data.targets={flags.targets}",
        f"--config.population={max(2, flags.seeds)}",
    ]
    if flags.epochs:
        settings.append(f"--config.train.epochs={flags.epochs}")
    found: dict[str, Any] = {"config": flags.config, "data": Path(flags.data).name}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "bfloat16"):
            found[dtype] = one(dtype, settings, Path(folder) / dtype)
    found |= compared(found["float32"], found["bfloat16"])
    machine.show(found | machine.about())


if __name__ == "__main__":
    main()
