"""Rates of the baselines: simple methods to compare a model with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stndt_jax.config import loading
from stndt_jax.console import progress
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.evaluation import baselines, evaluate, latent_baselines
from stndt_jax.runs import recording as recordings
from stndt_jax.training import loop
from stndt_jax.types import NDArray

KINDS = ("smoothing", "psth", "ndt", "gpfa", "lds")
# Configuration keys that the ndt baseline sets itself.
NDT_KEYS = ("data.path", "data.targets", "model.spatial", "contrast.enabled")


def check_kind(kind: str) -> None:
    """Refuses an unknown baseline.

    Raises:
      UserError: it is unknown.
    """
    if kind not in KINDS:
        raise UserError(f"{kind} is no baseline; choose one of {', '.join(KINDS)}")


def infer(
    kind: str, data: SpikeData, *, latents: int = 12, say: Callable[[str], None] = print
) -> dict[str, NDArray]:
    """Rates of a baseline other than ndt.

    Args:
      kind: smoothing, psth, gpfa or lds.
      data: the recording.
      latents: dimensions of the latent state of gpfa and lds.
      say: called with what was chosen.

    Returns:
      Expected counts per bin under the benchmark's keys.

    Raises:
      UserError: as the method's own function.
    """
    with progress.task(f"baseline: {kind}"):
        return _infer(kind, data, latents, say)


def _infer(
    kind: str, data: SpikeData, latents: int, say: Callable[[str], None]
) -> dict[str, NDArray]:
    if kind == "smoothing":
        sd_ms, alpha = baselines.choose_kernel(data)
        say(f"Gaussian kernel of {sd_ms:g} ms, chosen on training trials")
        return baselines.smoothing(data, sd_ms=sd_ms, alpha=alpha)
    if kind == "psth":
        return baselines.psth(data)
    if kind == "gpfa":
        return latent_baselines.gpfa(data, latents=latents)
    return latent_baselines.lds(data, latents=latents)


def train_ndt(
    out: Path, files: tuple[str, str], settings: Sequence[str] = ()
) -> dict[str, NDArray]:
    """Rates of NDT: trains the model without attention over neurons, or resumes that.

    Args:
      out: run directory.
      files: paths of the recording and of the target file, which may be empty.
      settings: ``--config=NAME`` and ``--config.KEY=VALUE``; by default of mc_maze_large:paper.

    Returns:
      Expected counts per bin under the benchmark's keys.

    Raises:
      UserError, Interrupted: as :func:`stndt_jax.training.loop.train`.
    """
    settings = list(settings)
    if not settings or not settings[0].startswith("--config="):
        settings = ["--config=mc_maze_large:paper", *settings]
    data = [f"--config.data.path={files[0]}", f"--config.data.targets={files[1]}"]
    ndt = ["--config.model.spatial=false", "--config.contrast.enabled=false"]
    config = loading.load([*settings, *data, *ndt])
    loop.train(config, recordings.read(config), out)
    return evaluate.evaluate(out).rates
