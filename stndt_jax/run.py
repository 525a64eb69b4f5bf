"""A run directory as arrays, for notebooks and for the report: ``stndt_jax.load_run(DIR)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stndt_jax.config import recording
from stndt_jax.config.schema import Config
from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError
from stndt_jax.evaluation import method_scores, submission
from stndt_jax.interpret import files as interpretation_files
from stndt_jax.interpret import summary
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.runs import directory, log, records
from stndt_jax.training import restore
from stndt_jax.types import Bool, Float, NDArray, Shaped

Split = Literal["eval", "train"]


@dataclass(frozen=True)
class Run:
    """A trained and evaluated run; what is read, is read when it is first asked for.

    Attributes:
      path: the run directory, or a directory that ``stndt ensemble`` made.
      data_path: the recording, where it has moved since.
      targets_path: the target file, where the configuration names none.
    """

    path: Path
    data_path: str = ""
    targets_path: str = ""

    @cached_property
    def config(self) -> Config:
        """The checked configuration; of an ensemble of runs, that of its best run."""
        if (self.path / "config.json").exists() or not self.is_ensemble:
            return directory.read_config(self.path)
        models = restore.models(self.path, self.data_path, self.targets_path)
        return models[0].trained.config

    @property
    def is_ensemble(self) -> bool:
        """Whether ``stndt ensemble`` made this directory, of members of other runs."""
        return (self.path / "ensemble.json").exists()

    @cached_property
    def record(self) -> dict[str, Any]:
        """``run.json``: data fingerprint, sizes, and who worked on the run; empty without it."""
        return {} if self.is_ensemble else directory.read_run(self.path)

    @cached_property
    def data(self) -> SpikeData:
        """The recording: counts, conditions, behaviour, true rates where they are known."""
        return recording.read(self.config, self.data_path, self.targets_path)

    @cached_property
    def scores(self) -> dict[str, Any]:
        """What ``stndt evaluate`` wrote into ``scores.json``; empty before.

        ``scores["ensemble"]["co_bps"]`` and so on; ``scores["members"]`` has a row a member.
        """
        path = self.path / "scores.json"
        return records.read(path, f"run: stndt evaluate {self.path}") if path.exists() else {}

    @property
    def methods(self) -> dict[str, method_scores.Scores]:
        """The run's own scores and those of other methods beside them, by method."""
        return method_scores.beside(self.path)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, one a validation: ``epoch`` and values by name.

        A value is a number or one for every member, None where it is not known. Empty where
        nothing was trained here.
        """
        path = self.path / "metrics.jsonl"
        return log.read_metrics(path) if path.exists() else []

    @cached_property
    def submission(self) -> dict[str, NDArray]:
        """The ensemble's rates as ``stndt evaluate`` wrote them, under the benchmark's keys.

        Raises:
          UserError: the run has not been evaluated, or its file is damaged.
        """
        path = self.path / "submission.h5"
        if not path.exists():
            raise UserError(f"{path} does not exist; run: stndt evaluate {self.path}")
        return submission.read(path, group_name(self.data.name, self.data.bin_ms))

    def trials(self, split: Split = "eval") -> Trials:
        """The trials of a split."""
        if split not in ("eval", "train"):
            raise UserError(f"split is {split!r}; choose 'eval' or 'train'")
        return self.data.eval if split == "eval" else self.data.train

    def rates(self, split: Split = "eval") -> Float[NDArray, "R T N"]:
        """The ensemble's rates: expected counts per bin.

        Neurons are held-in then held-out, bins observed then forward. Divide by
        ``data.bin_ms / 1000`` for spikes/s.
        """
        self.trials(split)
        return submission.joined(self.submission, split)

    def rates_hz(self, split: Split = "eval") -> Float[NDArray, "R T N"]:
        """The ensemble's rates in spikes/s."""
        return self.rates(split) * (1000.0 / self.data.bin_ms)

    def counts(self, split: Split = "eval") -> Shaped[NDArray, "R T N"]:
        """Spike counts beside `rates`, as float; NaN where they are not known."""
        counts = self.trials(split).counts(self.data.bins_forward, self.data.heldout)
        return np.where(self.has_count(split), counts, np.float32(np.nan))

    def has_count(self, split: Split = "eval") -> Bool[NDArray, "R T N"]:
        """Where counts are known."""
        return self.trials(split).has_count(self.data.bins_forward, self.data.heldout)

    def true_rates(self, split: Split = "eval") -> Float[NDArray, "R T N"] | None:
        """True rates of simulated spikes, counts per bin; None of a recording."""
        return self.trials(split).rates

    @property
    def was_interpreted(self) -> bool:
        """Whether ``stndt interpret`` has left its files here."""
        return (self.path / "interpret" / interpretation_files.SUMMARY).exists()

    @cached_property
    def interpretation(self) -> Interpretation:
        """What the models attend to, in every detail.

        As ``stndt interpret`` wrote it, or else computed now, which takes about as long as an
        evaluation; then without integrated gradients.
        """
        if self.was_interpreted:
            return interpretation_files.read(self.path / "interpret")
        models = restore.models(self.path, self.data_path, self.targets_path)
        return summary.of_models(models, with_gradients=False)

    def attention(
        self, kind: Literal["spatial", "temporal"] = "spatial", *, by_layer: bool = False
    ) -> Float[NDArray, "..."]:
        """Attention, mean over heads and trials; a row attends to the columns and adds up to 1.

        Args:
          kind: "spatial" among neurons (held-in then held-out), "temporal" among bins.
          by_layer: of every member and layer (K, L, N, N) or (K, L, T, T), instead of the mean
            over members by their weights and over layers: (N, N) or (T, T).

        Raises:
          UserError: the models are NDT and have no attention over neurons.
        """
        found = self.interpretation
        layers = found.temporal_by_layer if kind == "temporal" else found.spatial_by_layer
        if kind not in ("spatial", "temporal"):
            raise UserError(f"kind is {kind!r}; choose 'spatial' or 'temporal'")
        if layers is None:
            raise UserError(f"{summary.NO_SPATIAL}; kind='temporal' has the attention over time")
        if by_layer:
            return layers
        if kind == "spatial":
            assert found.spatial is not None
            return found.spatial
        return np.einsum("k,kts->ts", found.weights, np.nanmean(layers, axis=1))

    def importance(
        self, measure: Literal["attention", "gradients"] = "attention"
    ) -> Float[NDArray, " N"]:
        """How much every neuron matters to the models.

        Args:
          measure: "attention" that it receives, which adds up to 1 over neurons; "gradients",
            change of held-out log-rates that is attributed to its spikes (nats), NaN for held-out
            neurons.

        Raises:
          UserError: that measure is not known of these models.
        """
        if measure not in ("attention", "gradients"):
            raise UserError(f"measure is {measure!r}; choose 'attention' or 'gradients'")
        found = self.interpretation
        values = found.importance if measure == "attention" else found.gradient_importance
        if values is None and measure == "attention":
            raise UserError(summary.NO_SPATIAL)
        if values is None:
            raise UserError(f"gradients are not known; run: stndt interpret {self.path}")
        return values

    @property
    def time_ms(self) -> Float[NDArray, " T"]:
        """The middle of every bin, ms after the first bin's beginning."""
        return (np.arange(self.data.bins) + 0.5) * self.data.bin_ms

    def dataset(self, split: Split = "eval") -> Any:
        """Rates, counts and true rates as an ``xarray.Dataset`` with named axes.

        Axes are ``trial``, ``time`` (ms) and ``neuron``; neurons know whether they were held out,
        trials their condition.

        Raises:
          UserError: xarray is not installed.
        """
        try:
            import xarray
        except ModuleNotFoundError:
            raise UserError("xarray is missing; run: pip install 'stndt_jax[export]'") from None
        data, trials = self.data, self.trials(split)
        axes = ("trial", "time", "neuron")
        variables = {"rates": (axes, self.rates(split), {"units": "expected counts per bin"})}
        variables["counts"] = (axes, self.counts(split), {"units": "spikes per bin"})
        if trials.rates is not None:
            variables["true_rates"] = (axes, trials.rates, {"units": "expected counts per bin"})
        coordinates: dict[str, Any] = {
            "time": ("time", self.time_ms, {"units": "ms"}),
            "neuron": np.arange(data.neurons) if data.units is None else data.units,
            "heldout": ("neuron", np.arange(data.neurons) >= data.heldin),
        }
        if trials.conditions is not None:
            coordinates["condition"] = ("trial", trials.conditions)
        return xarray.Dataset(variables, coordinates, {"bin_ms": data.bin_ms, "name": data.name})


def load_run(path: str | Path, *, data: str | Path = "", targets: str | Path = "") -> Run:
    """Opens a run directory.

    Args:
      path: a directory of ``stndt train``, ``stndt import`` or ``stndt ensemble``.
      data: the recording, where it has moved since.
      targets: the target file, where the configuration names none.

    Raises:
      UserError: there is no run in it.

    Example:
      >>> run = stndt_jax.load_run("runs/maze")
      >>> run.scores["ensemble"]["co_bps"]
      >>> run.rates("eval").shape  # (trials, bins, neurons), expected counts per bin
    """
    run = Run(Path(path), str(data), str(targets))
    if not run.is_ensemble:
        # Both files, so that what is no run is told of here and not at some later line.
        assert isinstance(run.config, Config) and isinstance(run.record, Mapping)
    return run
