"""Fine-tuning from an imported model against starting from scratch, on a second session.

    python tests/helpers/finetuning.py

Two synthetic sessions of reaches: the first with 240 training trials, the second with 48. A model
is trained on the first, written as a PyTorch checkpoint, imported, and fine-tuned on the second,
which holds the same neurons or, drawn with another seed, other ones. Prints co-bps on the second
session's evaluated trials, epoch by epoch, beside training from scratch with the same settings;
exits with 1 unless fine-tuning on the same neurons is ahead at the end and at its best.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# Run as a script, this file sees its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import torch_files
from stndt_jax.cli import main as cli
from stndt_jax.data import hdf5, synthetic
from stndt_jax.data.trials import SpikeData
from stndt_jax.interop import torch_params
from stndt_jax.training import restore

FIRST, SECOND = 240, 48


def sessions(folder: Path) -> None:
    """Writes ``first.h5``, ``same.h5`` and ``other.h5``, each with its targets."""
    drawn = {"trials": FIRST + SECOND, "eval_trials": 60, "bins": 40, "bins_forward": 8}
    data = synthetic.make("reach", seed=0, **drawn)
    other = synthetic.make("reach", seed=1, **drawn)
    parts = {
        "first": _some(data, slice(0, FIRST)),
        "same": _some(data, slice(FIRST, None)),
        "other": _some(other, slice(FIRST, None)),
    }
    for name, part in parts.items():
        hdf5.write(part, folder / f"{name}.h5")
        hdf5.write_targets(part, folder / f"{name}_target.h5")


def _some(data: SpikeData, rows: slice) -> SpikeData:
    """The recording with some of its training trials."""
    train = data.train.subset(np.arange(len(data.train))[rows])
    return dataclasses.replace(data, train=train)


def as_checkpoint(run: Path, out: Path) -> None:
    """Writes a run's best weights the way PyTorch would have."""
    trained = restore.load(run)
    model, contrast = trained.config.model, trained.config.contrast
    params = trained.params(0, "cobps")
    state: dict[str, np.ndarray] = {}
    for path, (there, kind) in torch_params.published_modules(model, contrast).items():
        node = params
        for name in path:
            node = node[name]
        if kind == "linear":
            state[f"{there}.weight"] = np.asarray(node["kernel"]).T
            state[f"{there}.bias"] = np.asarray(node["bias"])
        elif kind == "layer_norm":
            state[f"{there}.weight"] = np.asarray(node["scale"])
            state[f"{there}.bias"] = np.asarray(node["bias"])
        else:
            weight, bias = np.asarray(node["kernel"]).T, np.asarray(node["bias"])
            # The published spatial attention carries values too, which it does not use.
            width = weight.shape[1]
            idle = 3 * width - len(weight)
            state[f"{there}.in_proj_weight"] = np.concatenate([weight, np.zeros((idle, width))])
            state[f"{there}.in_proj_bias"] = np.concatenate([bias, np.zeros(idle)])
    options: dict[str, Any] = {
        "NUM_LAYERS": model.layers,
        "NUM_HEADS": model.heads,
        "HIDDEN_SIZE": model.feedforward,
        "POSITION_OFFSET": model.position_offset,
        "USE_CONTRAST_PROJECTOR": contrast.projector != "none",
        "LINEAR_PROJECTOR": contrast.projector == "linear",
        "CONTRAST_LAYER": contrast.layer,
        "CONTEXT_FORWARD": int(trained.hyper.context_forward[0]),
        "CONTEXT_BACKWARD": int(trained.hyper.context_backward[0]),
    }
    state = {name: np.ascontiguousarray(x, np.float32) for name, x in state.items()}
    torch_files.save(out, torch_files.checkpoint(state, **options))


def train(folder: Path, name: str, session: str, epochs: int, *more: str) -> dict[int, float]:
    """Trains one model and returns its validation co-bps by epoch."""
    words = [
        *("train", "--config=reach", "--config.population=1"),
        f"--config.data.path={folder / session}.h5",
        f"--config.data.targets={folder / session}_target.h5",
        f"--config.train.epochs={epochs}",
        f"--workdir={folder / name}",
        *more,
    ]
    if code := cli.main(words):
        sys.exit(code)
    rows = (folder / name / "metrics.jsonl").read_text().splitlines()
    return {row["epoch"]: row["valid_cobps"][0] for row in map(json.loads, rows)}


def main() -> int:
    """Runs the experiment; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=60, help="on the second session")
    parser.add_argument("--first", type=int, default=80, help="epochs on the first session")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions(folder)
        train(folder, "first", "first", flags.first)
        as_checkpoint(folder / "first", folder / "first.pth")
        data = [f"--data={folder / 'first.h5'}", f"--targets={folder / 'first_target.h5'}"]
        out = f"--out={folder / 'imported'}"
        if code := cli.main(["import", str(folder / "first.pth"), *data, out]):
            return code
        init = f"--init={folder / 'imported'}"
        curves = {
            "same neurons, fine-tuned": train(folder, "a", "same", flags.epochs, init),
            "same neurons, scratch": train(folder, "b", "same", flags.epochs),
            "other neurons, fine-tuned": train(
                folder, "c", "other", flags.epochs, init, "--neurons=other"
            ),
            "other neurons, scratch": train(folder, "d", "other", flags.epochs),
        }
    epochs = next(iter(curves.values()))
    print("co-bps on the second session, by epoch")
    print(f"{'':27}" + "".join(f"{epoch:8}" for epoch in epochs))
    for what, curve in curves.items():
        print(f"{what:27}" + "".join(f"{value:8.3f}" for value in curve.values()))
    tuned, scratch = (
        list(curves[f"same neurons, {how}"].values()) for how in ("fine-tuned", "scratch")
    )
    return 0 if tuned[-1] > scratch[-1] and max(tuned) > max(scratch) else 1


if __name__ == "__main__":
    sys.exit(main())
