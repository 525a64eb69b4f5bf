"""A run directory: its scores, rates and attention as arrays, and inference with its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.console import progress
from stndt_jax.data import export
from stndt_jax.data.hdf5 import group_name
from stndt_jax.data.trials import SpikeData, Trials
from stndt_jax.errors import UserError, check_choice, checked_path, install
from stndt_jax.evaluation import (
    comparison,
    evaluate,
    inference,
    method_scores,
    new_counts,
    submission,
)
from stndt_jax.interpret import files as interpretation_files
from stndt_jax.interpret import rankings, summary
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.runs import directory, ensemble_directory, log, recording, records
from stndt_jax.training import restore
from stndt_jax.training.restore import SelectedBy, TrainedModel
from stndt_jax.types import Bool, Float, NDArray, Shaped

Split = Literal["eval", "train"]


@dataclass(frozen=True)
class Run:
    """A run directory or an ensemble directory. Files are read when they are first needed.

    Attributes:
      path: the directory.
      data_path: the recording, if it has moved.
      targets_path: the target file, if the configuration names none.
    """

    path: Path
    data_path: str = ""
    targets_path: str = ""

    @cached_property
    def config(self) -> Config:
        """The checked configuration; of an ensemble, that of its first member."""
        return ensemble_directory.read_config(self.path)

    @property
    def is_ensemble(self) -> bool:
        """Whether this is an ensemble of members of several runs."""
        return ensemble_directory.is_ensemble(self.path)

    @cached_property
    def ensemble(self) -> dict[str, Any]:
        """``ensemble.json``: members, weights, and how they were chosen.

        Raises:
          UserError: it is a run, or the file is damaged.
        """
        return ensemble_directory.read(self.path)

    @cached_property
    def record(self) -> dict[str, Any]:
        """``run.json``: data fingerprint, sizes, and all sessions; empty for an ensemble."""
        return {} if self.is_ensemble else directory.read_run(self.path)

    @cached_property
    def data(self) -> SpikeData:
        """The recording: counts, conditions, behaviour, and true rates of a simulation."""
        return recording.read(self.config, self.data_path, self.targets_path)

    @cached_property
    def models(self) -> list[TrainedModel]:
        """The trained models, with their weights in the mean rate, which sum to 1."""
        return restore.models(self.path, self.data_path, self.targets_path)

    @progress.displayed
    def evaluate(
        self, *, select: SelectedBy = "cobps", out: str | Path = "", quiet: bool = False
    ) -> dict[str, Any]:
        """Infers the rates of all trials and scores them; writes both, as ``stndt evaluate`` does.

        The baselines are scored on the same trials; see :meth:`table` and :attr:`verdict`.

        Args:
          select: which weights of each member: best by validation co-bps, best by validation loss,
            or the last.
          out: another directory to write to, for scores on other data than those of the run, which
            do not replace its own.
          quiet: show no progress.

        Returns:
          The scores: ``["ensemble"]["co_bps"]`` and so on; ``["members"]`` has one row per member.

        Raises:
          UserError: nlb_tools is missing, or the recording or the weights cannot be read, or a file
            cannot be written; in the last case the scores are its attribute ``scores``.
        """
        check_choice("select", select, get_args(SelectedBy))
        where = checked_path("out", out or self.path)
        found = evaluate.evaluate(
            self.path,
            data_path=self.data_path,
            targets_path=self.targets_path,
            select=select,
            out=where if out else None,
        )
        for name in ("scores", "submission"):
            self.__dict__.pop(name, None)
        if "ensemble" in found.scores:
            try:
                comparison.beside(where, self.data, found.targets)
            except UserError as error:
                raise evaluate.NotWritten(error, found.scores) from error
        return found.scores

    @property
    def verdict(self) -> str:
        """A sentence if the run is below a baseline; empty otherwise.

        Of the last evaluation, or of training, if it was not evaluated yet.
        """
        return comparison.verdict(self.path, self.scores)

    def predict(
        self,
        counts: Any,
        *,
        units: Sequence[int] | NDArray | None = None,
        select: SelectedBy = "cobps",
    ) -> Float[NDArray, "R T N"]:
        """Infers the rates of new trials: the mean over models, by their weights.

        Args:
          counts: spike counts (trials, bins, neurons), of the same neurons and bin width as the
            recording. Only held-in neurons in observed bins are read: give these, or all neurons
            and all bins. If the recording has trials of unequal length, new ones may be shorter
            than it, and NaN marks what was not recorded.
          units: identifier of each neuron of ``counts``, if they are in another order than
            ``data.units``: held-in neurons, then held-out ones.
          select: which weights of each member.

        Returns:
          Expected counts per bin of all neurons, held-in then held-out, in observed then forward
          bins. Divide by ``data.bin_ms / 1000`` for spikes/s.

        Raises:
          UserError: the counts do not fit the recording.
        """
        check_choice("select", select, get_args(SelectedBy))
        trials = new_counts.checked(counts, self.data, units)
        if not len(trials.batch.counts):
            return np.zeros(trials.batch.counts.shape, np.float32)[:, trials.bins]
        return inference.mean_rates(self.models, trials.batch, select)[:, trials.bins]

    @cached_property
    def scores(self) -> dict[str, Any]:
        """The scores of the last evaluation, as :meth:`evaluate` returns them; empty before."""
        path = self.path / "scores.json"
        return records.read(path, f"run: stndt evaluate {self.path}") if path.exists() else {}

    @property
    def methods(self) -> dict[str, method_scores.Scores]:
        """The run's own scores, and those of other methods that were scored for it, by method."""
        return method_scores.beside(self.path)

    def add_method(self, name: str, scores: Mapping[str, float]) -> None:
        """Keeps the scores of another method beside the run's own; see :meth:`table`.

        Args:
          name: of the method; earlier scores of the same name are replaced.
          scores: as ``stndt_jax.baseline`` or ``stndt_jax.score`` returns them.

        Raises:
          UserError: the name is empty or one of the run's own, a score is unknown or no finite
            number, or the file cannot be written.
        """
        method_scores.add(self.path, name, method_scores.checked(name, scores))

    def table(self) -> str:
        """The scores of the last evaluation and of other methods, one line per method."""
        return method_scores.table(self.methods)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl``, one per validation: ``epoch`` and values by name.

        A value is a number, or a list with one number per member; None where it is unknown. Empty
        if nothing was trained here.
        """
        path = self.path / "metrics.jsonl"
        return log.read_metrics(path) if path.exists() else []

    @cached_property
    def submission(self) -> dict[str, NDArray]:
        """The mean rates of the last evaluation, under the benchmark's keys.

        Raises:
          UserError: the run has not been evaluated, or its file is damaged.
        """
        path = self.path / "submission.h5"
        if not path.exists():
            raise UserError(
                f"{path} does not exist; evaluate the run first: run.evaluate(), or stndt evaluate "
                f"{self.path}"
            )
        group = group_name(self.data.name, self.data.bin_ms)
        # Earlier versions may have named it as the configuration does.
        return submission.read(path, group, strict=False)

    def trials(self, split: Split = "eval") -> Trials:
        """The trials of a split."""
        if split not in ("eval", "train"):
            raise UserError(f"split is {split!r}; choose 'eval' or 'train'")
        return self.data.eval if split == "eval" else self.data.train

    def rates(self, split: Split = "eval") -> Float[NDArray, "R T N"]:
        """The mean rates of the last evaluation: expected counts per bin.

        Neurons are held-in then held-out, bins observed then forward. Divide by
        ``data.bin_ms / 1000`` for spikes/s.
        """
        self.trials(split)
        return submission.joined(self.submission, split)

    def rates_hz(self, split: Split = "eval") -> Float[NDArray, "R T N"]:
        """The mean rates of the last evaluation, in spikes/s."""
        return self.rates(split) * (1000.0 / self.data.bin_ms)

    def counts(self, split: Split = "eval") -> Shaped[NDArray, "R T N"]:
        """Spike counts in the shape of `rates`, as float; NaN where `has_count` is False."""
        counts = self.trials(split).counts(self.data.bins_forward, self.data.heldout)
        return np.where(self.has_count(split), counts, np.float32(np.nan))

    def has_count(self, split: Split = "eval") -> Bool[NDArray, "R T N"]:
        """Where counts are available: recorded, and not withheld."""
        return self.trials(split).has_count(self.data.bins_forward, self.data.heldout)

    def true_rates(self, split: Split = "eval") -> Float[NDArray, "R T N"] | None:
        """True rates of a simulation, counts per bin; None of a real recording."""
        return self.trials(split).rates

    @property
    def was_interpreted(self) -> bool:
        """Whether ``stndt interpret`` has written its files here."""
        return (self.path / "interpret" / interpretation_files.SUMMARY).exists()

    @cached_property
    def interpretation(self) -> Interpretation:
        """Attention and importance, in every detail.

        Read from the files of ``stndt interpret``; without them computed now, except for integrated
        gradients, which takes about as long as an evaluation.
        """
        if self.was_interpreted:
            return interpretation_files.read(self.path / "interpret")
        return summary.of_models(self.models, with_gradients=False)

    def attention(
        self, kind: Literal["spatial", "temporal"] = "spatial", *, by_layer: bool = False
    ) -> Float[NDArray, "..."]:
        """Attention, mean over heads and trials; a row attends to the columns and adds up to 1.

        Args:
          kind: "spatial" among neurons (held-in then held-out) or, in models with factors
            (``config.model.width`` above 0), among factors; "temporal" among bins.
          by_layer: of every member and layer, instead of the mean over members by their weights
            and over layers.

        Returns:
          (T, T), or (K, L, T, T) by layer. Among neurons (N, N), or (K, L, N, N). Among factors
          (D, D) of one member, ``interpretation.shown_member``, because factor d of one member is
          not factor d of another; or (K, L, D, D), NaN beyond a member's own factors.

        Raises:
          UserError: the models are NDT and have no spatial attention.
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
        return np.einsum("k,kts->ts", found.weights, rankings.mean_known(layers, axis=1))

    def importance(
        self, measure: Literal["attention", "gradients"] = "attention"
    ) -> Float[NDArray, " N"]:
        """The importance of every neuron to the models.

        Args:
          measure: "attention", which the neuron receives and which sums to 1 over neurons; in
            models with factors, the attention that these receive, brought to the neurons by the
            weights of the read-in, 0 for held-out neurons, which are not read in. Or "gradients",
            the authority of the two: the change of held-out log-rates that integrated gradients
            attribute to its spikes, nats, NaN for held-out neurons.

        Raises:
          UserError: this measure is not available.
        """
        if measure not in ("attention", "gradients"):
            raise UserError(f"measure is {measure!r}; choose 'attention' or 'gradients'")
        found = self.interpretation
        values = found.importance if measure == "attention" else found.gradient_importance
        if values is None and measure == "attention":
            raise UserError(summary.NO_SPATIAL)
        if values is None:
            raise UserError(f"gradients were not computed; run: stndt interpret {self.path}")
        return values

    @property
    def time_ms(self) -> Float[NDArray, " T"]:
        """The middle of every bin, ms after the beginning of the first one."""
        return (np.arange(self.data.bins) + 0.5) * self.data.bin_ms

    def dataset(self, split: Split = "eval") -> Any:
        """Rates, counts and true rates as an ``xarray.Dataset`` with named axes.

        Dimensions are ``trial``, ``time`` (ms) and ``neuron``. Trials have the coordinates
        ``trial``, which is ``source_trial``, ``start_s``, ``condition`` and the columns of the
        trial table, neurons ``neuron``, the identifier, ``held_out``, ``area`` and the columns of
        the unit table: those that the recording has.

        Raises:
          UserError: xarray is not installed.
        """
        try:
            import xarray
        except ModuleNotFoundError:
            raise UserError(f"xarray is missing; {install('export')}") from None
        data, trials = self.data, self.trials(split)
        axes = ("trial", "time", "neuron")
        variables = {"rates": (axes, self.rates(split), {"units": "expected counts per bin"})}
        variables["counts"] = (axes, self.counts(split), {"units": "spikes per bin"})
        if trials.rates is not None:
            variables["true_rates"] = (axes, trials.rates, {"units": "expected counts per bin"})
        coordinates = export.coordinates(
            self.time_ms, data.trial_table(split), data.unit_table(), neuron="neuron"
        )
        return xarray.Dataset(variables, coordinates, {"bin_ms": data.bin_ms, "name": data.name})


def load_run(path: str | Path, *, data: str | Path = "", targets: str | Path = "") -> Run:
    """Opens a run directory.

    Args:
      path: a directory of ``stndt train``, ``stndt import`` or ``stndt ensemble``.
      data: the recording, if it has moved.
      targets: the target file, if the configuration names none.

    Raises:
      UserError: it is no run directory.

    Example:
      >>> run = stndt_jax.load_run("runs/maze")
      >>> run.scores["ensemble"]["co_bps"]
      >>> run.rates("eval").shape  # (trials, bins, neurons), expected counts per bin
    """
    run = Run(
        checked_path("path", path),
        str(checked_path("data", data) if data != "" else ""),
        str(checked_path("targets", targets) if targets != "" else ""),
    )
    if not run.is_ensemble:
        # Reads both files, so that a directory without a run is refused here.
        assert isinstance(run.config, Config) and isinstance(run.record, Mapping)
    return run
