"""A small search around the rules of ``--config=auto``, on the training trials alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax import api, files
from stndt_jax.config import loading, schema
from stndt_jax.config.schema import HYPER_FIELDS, Config
from stndt_jax.console.lines import counted
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import comparison
from stndt_jax.runs import directory
from stndt_jax.search import run as searches

CONFIG = "config.json"
# Seeds of one setting differ by about this much, so that a search finds less by chance alone.
NOISE = 0.003


def tune(
    path: Path,
    out: Path,
    *,
    trials: int,
    seed: int = 0,
    settings: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> Path:
    """Searches for a setting of a recording, or resumes that, and writes it as a configuration.

    A quarter of the training trials is held back to compare settings; the evaluated trials are
    never looked at. The setting that the rules choose competes with what the search finds, and is
    kept unless that is better by more than seeds differ.

    Args:
      path: input file of the recording.
      out: directory for the search and for ``config.json``.
      trials: settings to try.
      seed: of the choice of trials and of the models.
      settings: ``--config.KEY=VALUE`` flags; keys set here are not searched.
      say: called with each line of progress.

    Returns:
      The configuration file.

    Raises:
      UserError: the recording cannot be read or is too small, or as ``search.run.search``.
      Interrupted: by a signal. The same call resumes.
    """
    data = hdf5.read(path)
    part = training_part(data, seed)
    directory.make(out)
    inputs, targets = out / "training.h5", out / "training_target.h5"
    hdf5.write(part, inputs, keep_other=True)
    hdf5.write_targets(part, targets, keep_other=True)
    words = loading.named(
        [
            *settings,
            f"--config.seed={seed}",
            f"--config.data.path={inputs}",
            f"--config.data.targets={targets}",
        ]
    )
    run = api.train(loading.read(words), workdir=out / "rules", quiet=True)
    rules = float(np.max(run.history[-1]["best_cobps"]))
    say(f"co-bps {rules:.4f} with the setting to start from")
    found = searches.search(out / "search", words, trials=trials, say=say, quiet=True)
    value = float(found["best"]["value"])
    better = value > rules + NOISE
    config = _for_all(data, path, settings, found["best"]["params"] if better else {})
    files.write_json(out / CONFIG, schema.to_mapping(config))
    kept = "the best setting of the search" if better else "the setting to start from, kept"
    say(
        f"co-bps {value:.4f} with the best of {counted(trials, 'setting')}, on "
        f"{counted(len(part.eval), 'training trial')} held back: {out / CONFIG} has {kept}"
    )
    if verdict := comparison.below(max(value, rules), comparison.scored(out / "rules")):
        say(verdict)
    return out / CONFIG


def training_part(data: SpikeData, seed: int) -> SpikeData:
    """The training trials alone, a quarter of them to be evaluated.

    Raises:
      UserError: there are fewer than four, or no held-out neurons to score.
    """
    R = len(data.train)
    if data.heldout == 0:
        raise UserError(
            f"{data.name} has no held-out neurons, so that settings cannot be compared by co-bps; "
            f"prepare it with held-out neurons, or train with --config=auto"
        )
    if R < 4:
        raise UserError(
            f"{data.name} has {counted(R, 'training trial')}, too few to hold some back"
        )
    order = np.random.default_rng(seed).permutation(R)
    held, rest = np.sort(order[: R // 4]), np.sort(order[R // 4 :])
    return dataclasses.replace(
        data, train=data.train.subset(rest), eval=data.train.subset(held), source=None
    )


def _for_all(
    data: SpikeData, path: Path, settings: Sequence[str], params: dict[str, Any]
) -> Config:
    """The configuration for all training trials: the rules', the user's, the search's values."""
    words = loading.named([*settings, f"--config.data.path={path.absolute()}"])
    for name, value in params.items():
        key = HYPER_FIELDS[name][0] if name in HYPER_FIELDS else name
        words.append(f"--config.{key}={value}")
    return loading.load(words)
