"""From a run directory to rates, scores and the benchmark's submission file."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax import batches, parallel, population, scoring, step, workdir
from stndt_jax import config as configs
from stndt_jax.checkpoint import Checkpoints
from stndt_jax.config import Config, Hyper
from stndt_jax.data import spikes
from stndt_jax.data.spikes import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.types import Dims, Float, NDArray, Params

Select = Literal["cobps", "loss", "last"]


class Trained(NamedTuple):
    """A run directory, read."""

    path: Path
    config: Config
    data: SpikeData
    arch: step.Arch
    hyper: Hyper
    members: population.Member
    epoch: float

    @property
    def usable(self) -> list[int]:
        """Members whose weights were ever found good."""
        reached = np.asarray(self.members.selection.cobps.epoch) > 0
        return [int(k) for k in np.flatnonzero(reached)]

    def params(self, member: int, select: Select) -> Params:
        """One member's weights: best by co-bps, best by loss, or the last."""
        kept = {
            "cobps": self.members.selection.cobps.params,
            "loss": self.members.selection.loss.params,
            "last": self.members.state.params,
        }
        return jax.tree.map(lambda leaf: leaf[member], kept[select])


class Model(NamedTuple):
    """One member of a trained population, and its share of the mean rate."""

    trained: Trained
    member: int
    weight: float


def read_data(config: Config, path: str = "", targets: str = "") -> SpikeData:
    """The recording a configuration names, or the one given instead.

    Raises:
      UserError: no path is given at all, or the file is not as it should be.
    """
    path = path or config.data.path
    if not path:
        raise UserError(
            "config.data.path is empty; name the recording's HDF5 file, for example "
            "--config.data.path=mc_maze.h5"
        )
    return spikes.read(
        path,
        targets or config.data.targets or None,
        name=config.data.name or None,
        bin_ms=config.data.bin_ms or None,
    )


def load(path: Path, data_path: str = "", targets: str = "") -> Trained:
    """Reads a run directory and its data.

    Args:
      path: the run directory.
      data_path: the recording, where it has moved since.
      targets: a target file, where the configuration names none.

    Raises:
      UserError: it is no run directory, or its data are gone or have changed.
    """
    config = workdir.read_config(path)
    sizes = workdir.read_run(path)["sizes"]
    data = read_data(config, data_path, targets)
    dims = batches.dims_of(data)
    for name in ("bins_observed", "bins_forward", "heldin", "heldout"):
        if sizes[name] != getattr(dims, name):
            raise UserError(
                f"{data_path or config.data.path} has {name} {getattr(dims, name)}, but {path} "
                f"was trained with {sizes[name]}; give the same recording with --data"
            )
    configs.check_dims(config, dims)
    trainable = batches.split(config, data)[0].counts.shape[0]
    arch = step.arch(config, dims, trainable // batches.batch_size(config, trainable))
    hyper = jax.tree.map(jnp.asarray, configs.hyper(config))
    checkpoints = Checkpoints(path / "checkpoints", repair=False)
    for sentence in checkpoints.found:
        warnings.warn(f"{sentence}, so an older one is used", stacklevel=2)
    at, members = checkpoints.load(jax.eval_shape(population.make_init(arch), hyper))
    return Trained(path, config, data, arch, hyper, members, at / arch.steps_per_epoch)


def models(path: Path, data_path: str = "", targets: str = "") -> list[Model]:
    """The models that a directory's mean rate is made of, weights adding up to one.

    Args:
      path: a run directory.
      data_path: the recording, where it has moved since.
      targets: a target file, where the configuration names none.

    Raises:
      UserError: as :func:`load`, or no member was ever validated.
    """
    trained = load(path, data_path, targets)
    if not trained.usable:
        raise UserError(f"no member of {path} has been validated yet; train it further")
    return [Model(trained, k, 1 / len(trained.usable)) for k in trained.usable]


def rates_of(trained: Trained, trials: Trials, members: list[int], select: Select) -> Iterator:
    """Rates of some trials, one member after another, so that memory stays bounded.

    Yields:
      Float32 arrays (R, T, N): expected counts per bin, held-in then held-out neurons,
      observed then forward bins.
    """
    dims = trained.arch.dims
    run = parallel.compiled(functools.partial(step.rates, trained.arch))
    counts_RTN = trials.counts(dims.bins_forward, dims.heldout)
    # Which counts are known, where the model has to know it.
    known = (trials.known(dims.bins_forward, dims.heldout),) if dims.gaps else ()
    R, size = len(counts_RTN), min(trained.config.train.batch, len(counts_RTN))
    for k in members:
        params = trained.params(k, select)
        hyper = jax.tree.map(lambda leaf, k=k: leaf[k], trained.hyper)
        rates_RTN = np.empty(counts_RTN.shape, np.float32)
        for first in range(0, R, size):
            # The last batch starts early enough to be a whole one: one shape, one program.
            batch = slice(min(first, R - size), min(first, R - size) + size)
            rates_RTN[batch] = run(
                params, hyper, *(jnp.asarray(x[batch]) for x in (counts_RTN, *known))
            )
        yield rates_RTN


def submission(rates: Mapping[str, Float[NDArray, "R T N"]], dims: Dims) -> dict[str, NDArray]:
    """Rates of the ``train`` and ``eval`` trials under the benchmark's keys."""
    T, N = dims.bins_observed, dims.heldin
    found = {}
    for split, rates_RTN in rates.items():
        found[f"{split}_rates_heldin"] = rates_RTN[:, :T, :N]
        found[f"{split}_rates_heldout"] = rates_RTN[:, :T, N:]
        if dims.bins_forward:
            found[f"{split}_rates_heldin_forward"] = rates_RTN[:, T:, :N]
            found[f"{split}_rates_heldout_forward"] = rates_RTN[:, T:, N:]
    return found


def targets_for(trained: Trained, path: str = "") -> dict[str, NDArray] | None:
    """The targets that a run can be scored against, if any."""
    path = path or trained.config.data.targets
    if path:
        return spikes.read_targets(path, trained.config.data.name or None)
    return spikes.targets_of(trained.data) if trained.data.eval.heldout is not None else None


class Evaluation(NamedTuple):
    """Scores, and the ensemble's rates as a submission."""

    scores: dict[str, Any]
    rates: dict[str, NDArray]


def evaluate(
    path: Path, *, data_path: str = "", targets_path: str = "", select: Select = "cobps"
) -> Evaluation:
    """Infers all rates, scores them and writes ``scores.json`` and ``submission.h5``.

    Scores are of the ensemble (mean rate over members), of the member best on validation,
    and, in brief, of every member.

    Args:
      path: the run directory.
      data_path: the recording, where it has moved.
      targets_path: the target file, where the configuration names none.
      select: which weights of each member.

    Raises:
      UserError: something is missing or does not fit; the sentence says what.
    """
    trained = load(path, data_path, targets_path)
    if not trained.usable:
        raise UserError(f"no member of {path} has been validated yet; train it further")
    targets, dims = targets_for(trained, targets_path), trained.arch.dims
    valid = [float(v) for v in np.asarray(trained.members.selection.cobps.value)]
    ranked = sorted(trained.usable, key=lambda k: np.nan_to_num(-valid[k]))
    best, mean, rows = None, None, []
    both = (
        rates_of(trained, trials, ranked, select)
        for trials in (trained.data.train, trained.data.eval)
    )
    for k, of_train, of_eval in zip(ranked, *both, strict=True):
        rates = {"train": of_train, "eval": of_eval}
        if mean is None:
            best, mean = rates, {split: np.zeros_like(r) for split, r in rates.items()}
        for split, r in rates.items():
            mean[split] += r / len(ranked)
        brief = {} if targets is None else _brief(submission(rates, dims), targets)
        rows.append({"member": k, "validation co-bps": valid[k], **brief})
    assert best is not None and mean is not None
    ensemble = submission(mean, dims)
    scoring.check_submission(ensemble, trained.data)
    scores: dict[str, Any] = {
        "data": trained.data.name,
        "weights": select,
        "members": sorted(rows, key=lambda row: row["member"]),
        "left out": sorted(set(range(trained.config.population)) - set(ranked)),
    }
    if targets is not None:
        kind = scoring.kind_of(targets)
        one = scoring.score(submission(best, dims), targets, kind=kind)
        scores["best member"] = {"member": ranked[0], **one}
        scores["ensemble"] = (
            one if len(ranked) == 1 else scoring.score(ensemble, targets, kind=kind)
        )
    workdir.write_json(path / "scores.json", scores)
    scoring.write_submission(
        path / "submission.h5", trained.data.name, ensemble, bin_ms=trained.data.bin_ms
    )
    return Evaluation(scores, ensemble)


def _brief(rates: Mapping[str, NDArray], targets: Mapping[str, NDArray]) -> dict[str, float]:
    """The scores that need no fit: co-bps and fp-bps."""
    keys = [key for key in targets if key.startswith("eval_spikes")]
    return scoring.score(rates, {key: targets[key] for key in keys}, kind="none")


def table(scores: Mapping[str, Any]) -> str:
    """Scores as lines of text, one score a line, ensemble beside best member."""
    if "ensemble" not in scores:
        return "no targets are known for these trials: nothing was scored"
    ensemble, best = scores["ensemble"], scores["best member"]
    many = len(scores["members"]) > 1
    lines = [f"{'':18}{'ensemble' if many else '':>10}{'best member' if many else '':>14}".rstrip()]
    for name, value in ensemble.items():
        lines.append(f"{name:18}{value:10.4f}" + (f"{best[name]:14.4f}" if many else ""))
    if scores["left out"]:
        lines.append(f"left out, never validated: members {scores['left out']}")
    return "\n".join(line for line in lines if line)
