"""What a configuration and a recording make together, before the first step."""

from __future__ import annotations

from typing import NamedTuple

from stndt_jax import models
from stndt_jax.config import schema
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.data.trials import SpikeData
from stndt_jax.models.stndt import Statistics
from stndt_jax.training import batches, step
from stndt_jax.training.step import Batch
from stndt_jax.types import Dims


class Setup(NamedTuple):
    """All that training and evaluation need to know of a run.

    Attributes:
      config: of the run.
      dims: sizes of a trial.
      arch: what is compiled into its programs.
      batch: trials in a batch.
      train: the trials to train on.
      valid: the trials that select the best weights; None if no trial does.
      selection: one sentence about ``valid``.
      statistics: of the training trials, where the model starts from them.
    """

    config: Config
    dims: Dims
    arch: step.Arch
    batch: int
    train: Batch
    valid: Batch | None
    selection: str
    statistics: Statistics | None

    @property
    def hyper(self) -> Hyper:
        """The hyperparameters of all members; leaves of shape (K,)."""
        return schema.hyper(self.config)


def prepare(config: Config, data: SpikeData) -> Setup:
    """Splits the trials and works out what is static.

    Raises:
      UserError: the configuration does not fit the recording.
    """
    dims = data.dims
    check(config, dims)
    train, valid, sentence = batches.split(config, data)
    trials = train.counts.shape[0]
    batch = batches.batch_size(config, trials)
    return Setup(
        config=config,
        dims=dims,
        arch=step.arch(config, dims, trials // batch),
        batch=batch,
        train=train,
        valid=valid,
        selection=sentence,
        statistics=batches.statistics(train, dims) if starts_from_data(config) else None,
    )


def starts_from_data(config: Config) -> bool:
    """Whether new weights depend on the training trials."""
    return config.model.input == "standardised" or config.model.rate_start == "mean"


def check(config: Config, dims: Dims) -> None:
    """Checks a configuration against the sizes of a recording, before its trials are read.

    Raises:
      UserError: the heads do not divide the sizes, or a class of the model is not registered.
    """
    schema.check_dims(config, dims)
    arch = step.arch(config, dims, 1)
    models.check_network(config.model.network, arch.network, dims)
