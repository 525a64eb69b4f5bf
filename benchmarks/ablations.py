"""What each part of the model is worth on a recording: one part changed at a time, several seeds.

    python benchmarks/ablations.py --data=val.h5 --targets=val_target.h5 --seeds=5 \
        --config=factors --only=spatial,contrast

trains every variant as a population of seeds and prints one JSON object a line: co-bps of the last
weights of every seed on the evaluated trials (nothing is selected on them), mean, standard
deviation, and the difference to the full setting with its 95% interval over seeds (Welch). Needs
the whole package, unlike the other benchmarks.
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
from scipy import stats

from stndt_jax import api
from stndt_jax.config import loading

# name -> (what changes, keys).
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "full": ("the setting as it is", ()),
    "spatial": ("no attention over factors", ("model.spatial=false",)),
    "contrast": ("contrastive loss added, weight .1", ("contrast.enabled=true",)),
    "span": ("masks of up to 4 bins", ("mask.max_span=4", "mask.grow_full=true")),
    "context": ("every bin attends to all bins", ("model.full_context=true",)),
    "narrow": ("half the factors", ("model.width=/2",)),
    "wide": ("twice the factors", ("model.width=*2",)),
    "paper_width": ("one factor a neuron", ("model.width=N",)),
    "inference": ("counts as they are at inference", ("mask.inference=unmasked",)),
    "token": (
        "masked counts become zero, counts as they are at inference",
        ("mask.token=zero", "mask.token_ratio=1.0", "mask.inference=unmasked"),
    ),
    "random": (
        "masked counts as in the paper, counts as they are at inference",
        ("mask.token=zero", "mask.inference=unmasked"),
    ),
    "standardise": ("counts instead of standardised roots", ("model.input=counts",)),
    "smooth": ("inputs not smoothed", ("model.smooth=0.0",)),
    "rate_start": ("rates begin near 1", ("model.rate_start=zero",)),
    "ratio": ("mask ratio .3", ("mask.ratio=0.3",)),
    "clip": ("gradient norm up to 200", ("optimizer.clip_norm=200.0",)),
    "decay": ("weight decay .01", ("optimizer.weight_decay=0.01",)),
    "layers": ("twice the layers", ("model.layers=*2",)),
    "neuron": ("whole neurons masked", ("mask.mode=neuron",)),
    "timestep": ("whole bins masked", ("mask.mode=timestep",)),
}


def keys(changes: tuple[str, ...], base: Any, neurons: int) -> list[str]:
    """The flags of a variant; ``*2``, ``/2`` and ``N`` refer to the setting and the neurons."""
    words = []
    for change in changes:
        key, value = change.split("=")
        section, name = key.split(".")
        if value in ("*2", "/2"):
            own = getattr(getattr(base, section), name)
            value = str(own * 2 if value == "*2" else own // 2)
        words.append(f"--config.{key}={neurons if value == 'N' else value}")
    return words


def one(settings: list[str], folder: Path) -> dict[str, Any]:
    """Trains a population of seeds; the score of each at its last epoch."""
    began = time.perf_counter()
    run = api.train(loading.read(settings), workdir=folder, quiet=True)
    seconds = time.perf_counter() - began
    cobps = run.history[-1]["valid_cobps"]
    return {
        "cobps": cobps,
        "mean": statistics.mean(cobps),
        "sd": statistics.stdev(cobps),
        "seconds_a_model": seconds / len(cobps),
    }


def difference(full: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The difference of two means with Welch's 95% interval."""
    n, m = len(full["cobps"]), len(other["cobps"])
    a, b = full["sd"] ** 2 / n, other["sd"] ** 2 / m
    noise = math.sqrt(a + b)
    if noise == 0:
        return {"difference": other["mean"] - full["mean"], "interval": None}
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    half = float(stats.t.ppf(0.975, freedom)) * noise
    middle = other["mean"] - full["mean"]
    return {"difference": middle, "interval": [middle - half, middle + half]}


def main() -> None:
    """Reads the flags, prints the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="recording")
    parser.add_argument("--targets", required=True, help="its target file")
    parser.add_argument("--config", default="auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default=",".join(VARIANTS), help="names of variants")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for all variants")
    flags = parser.parse_args()
    settings = [
        f"--config={flags.config}",
        f"--config.data.path={flags.data}",
        f"--config.data.targets={flags.targets}",
        f"--config.population={max(2, flags.seeds)}",
        *(f"--config.{word}" for word in flags.set),
    ]
    base = loading.load(settings)
    neurons = api.load_data(flags.data, flags.targets).heldin
    names = ["full", *(name for name in flags.only.split(",") if name != "full")]
    full: dict[str, Any] = {}
    for name in names:
        what, changes = VARIANTS[name]
        changed = {word.split("=")[0]: word for word in [*settings, *keys(changes, base, neurons)]}
        with tempfile.TemporaryDirectory() as folder:
            found = one(list(changed.values()), Path(folder) / "run")
        full = full or found
        machine.show({"variant": name, "what": what, **found, **difference(full, found)})
    machine.show({"data": Path(flags.data).name, "config": flags.config, **machine.about()})


if __name__ == "__main__":
    main()
