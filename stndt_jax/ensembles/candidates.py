"""The members that an ensemble may be made of, compared on the trials that selected their weights.

Only these trials are read (``batches.split``), and of these only the counts of held-out neurons in
observed bins, which co-bps scores. Runs whose weights were selected on different trials cannot be
compared and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stndt_jax import files
from stndt_jax.console.lines import counted
from stndt_jax.data.trials import SpikeData
from stndt_jax.ensembles.selection import RatesAtSpikes, Spikes
from stndt_jax.errors import UserError
from stndt_jax.evaluation import inference
from stndt_jax.runs import directory, ensemble_directory
from stndt_jax.training import batches, restore
from stndt_jax.training.restore import TrainedModel, TrainedRun
from stndt_jax.training.step import Batch

_ASIDE = re.compile(r"\.old[0-9]+$")


class Source(NamedTuple):
    """A run whose members are candidates.

    Attributes:
      run: its directory.
      members: their numbers; None for all.
      named: the run was named itself, and not found below a directory.
    """

    run: Path
    members: list[int] | None
    named: bool


class Candidate(NamedTuple):
    """A trained member.

    Attributes:
      run: its run directory.
      member: its number there.
      step: of the checkpoint that was read.
      rates: on the validation trials; None if no trial selects.
    """

    run: Path
    member: int
    step: int
    rates: RatesAtSpikes | None


class Candidates(NamedTuple):
    """All candidates, and the trials on which they are compared.

    Attributes:
      found: the candidates.
      spikes: held-out counts of the validation trials; None if no trial selects.
      selecting: one sentence about these trials.
      data: name of the recording.
      fingerprint: of the recording.
      left_out: sentences about runs and members that are no candidates.
    """

    found: list[Candidate]
    spikes: Spikes | None
    selecting: str
    data: str
    fingerprint: str
    left_out: list[str]


def sources(folders: Sequence[Path], out: Path) -> list[Source]:
    """The runs at and below directories, each once.

    Below a directory, ensembles are skipped, because their members are copies, and so are runs that
    ``--fresh`` has moved aside.

    Args:
      folders: runs, ensembles, or directories of runs.
      out: where the ensemble will be, which is no source.

    Raises:
      UserError: there is no run at or below one of them.
    """
    found: dict[Path, Source] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder} is no directory; name runs of stndt train, or a directory of them"
            )
        new = _parts(folder) if ensemble_directory.is_ensemble(folder) else _below(folder, out)
        if not new:
            raise UserError(
                f"no run of stndt train is at or below {folder}; name another directory"
            )
        for source in new:
            if source.named or source.run.resolve() not in found:
                found[source.run.resolve()] = source
    return list(found.values())


def _parts(ensemble: Path) -> list[Source]:
    """The parts of an ensemble."""
    members = ensemble_directory.members(ensemble)
    return [
        Source(part, [one.member for one in members if one.part == part], True)
        for part in sorted({one.part for one in members})
    ]


def _below(folder: Path, out: Path) -> list[Source]:
    """The runs at and below a directory."""
    return [
        Source(path, None, path == folder)
        for path in ensemble_directory.find(folder)
        if out.resolve() not in (path.resolve(), *path.resolve().parents)
        and (
            path == folder or not (ensemble_directory.is_ensemble(path) or _ASIDE.search(path.name))
        )
    ]


def collect(
    folders: Sequence[Path],
    out: Path,
    *,
    data_path: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Candidates:
    """Reads all runs, one after another, and infers the rates of their members.

    Of the rates, those where held-out neurons spiked are kept in memory: a few hundredths.

    Args:
      folders: runs, ensembles, or directories of runs.
      out: where the ensemble will be, which is no source.
      data_path: the recording, if it has moved.
      say: called with a sentence about every run.

    Raises:
      UserError: a run that was named cannot be used, runs do not fit together, or no candidate is
        left.
    """
    collector = _Collector(data_path, say)
    for source in sources(folders, out):
        collector.add(source)
    common, found, left_out = collector.common, collector.found, collector.left_out
    if common is None or not found:
        why = f": {left_out[0]}" if left_out else ""
        raise UserError(f"no member can be selected from {', '.join(map(str, folders))}{why}")
    return Candidates(
        found=found,
        spikes=common.spikes,
        selecting=common.selecting,
        data=common.data.name,
        fingerprint=common.fingerprint,
        left_out=left_out,
    )


class _Collector:
    """Collects candidates from one run after another.

    Attributes:
      common: what the runs have in common; None before the first one.
      found: the candidates so far.
      left_out: sentences about what is no candidate.
    """

    def __init__(self, data_path: str, say: Callable[[str], None]) -> None:
        self.common: _Common | None = None
        self.found: list[Candidate] = []
        self.left_out: list[str] = []
        self._data_path, self._say = data_path, say
        self._seen: dict[str, str] = {}  # digest of rates -> name of the member

    def add(self, source: Source) -> None:
        """Adds the members of a run.

        Raises:
          UserError: it was named and cannot be used, or does not fit the runs before it.
        """
        try:
            fingerprint = directory.read_run(source.run)["data_fingerprint"]
            name = directory.read_config(source.run).data.name
            is_same = (
                self.common is None
                or self.common.fingerprint == fingerprint
                or self.common.data.matches(fingerprint, name)
            )
            if is_same:
                known = None if self.common is None else self.common.data
                trained = restore.load(source.run, self._data_path, data=known)
        except UserError as error:
            # A search may have runs without a checkpoint, or damaged ones.
            if source.named:
                raise
            self.left_out.append(f"{source.run}: {error}")
            return
        if self.common is not None and not is_same:
            raise UserError(
                f"{source.run} was trained on other data than {self.common.run} (fingerprints "
                f"{fingerprint[:12]} and {self.common.fingerprint[:12]}); give runs on the same "
                f"recording and targets"
            )
        self.common = self.common or _Common.of(trained, fingerprint)
        self.common.check(trained)
        for member in trained.usable if source.members is None else source.members:
            self._add_member(trained, member)
        never = sorted(set(range(trained.config.population)) - set(trained.usable))
        if source.members is None and never:
            self.left_out.append(f"{source.run}: members {never} were never validated")
        self._say(
            f"{source.run}: {counted(len(trained.usable), 'member')}, {len(self.found)} so far"
        )

    def _add_member(self, trained: TrainedRun, member: int) -> None:
        """Adds a member, unless its rates are not finite or those of an earlier one."""
        assert self.common is not None
        if member not in trained.usable:
            raise UserError(
                f"member {member} of {trained.path} was never validated; train it further"
            )
        rates = self.common.rates(TrainedModel(trained, member, 1.0))
        if rates is not None:
            name, digest = f"member {member} of {trained.path}", files.sha256(rates.at.tobytes())
            if not np.isfinite(rates.total) or not np.isfinite(rates.at).all():
                self.left_out.append(f"{name} infers rates that are not finite")
                return
            if digest in self._seen:
                self.left_out.append(f"{name} is a copy of {self._seen[digest]}")
                return
            self._seen[digest] = name
        step = round(trained.epoch * trained.arch.steps_per_epoch)
        self.found.append(Candidate(trained.path, member, step, rates))


class _Common(NamedTuple):
    """What all runs must have in common, as the first of them has it.

    Attributes:
      run: the first run.
      data: its recording.
      fingerprint: of the recording.
      split: what the choice of the validation trials depends on.
      validation: the validation trials; None if no trial selects.
      spikes: their held-out counts; None as above.
      selecting: one sentence about them.
    """

    run: Path
    data: SpikeData
    fingerprint: str
    split: tuple[int, float] | None
    validation: Batch | None
    spikes: Spikes | None
    selecting: str

    @classmethod
    def of(cls, trained: TrainedRun, fingerprint: str) -> _Common:
        """Of the first run.

        Raises:
          UserError: the recording is not the one that it was trained on.
        """
        data, dims = trained.data, trained.arch.dims
        if not data.matches(fingerprint, trained.config.data.name):
            raise UserError(
                f"the recording of {trained.path} is not the one that it was trained on; members "
                f"are compared on the trials that selected their weights, so give that recording "
                f"as data (--data), and targets only if it was trained with them"
            )
        _, validation, selecting = batches.split(trained.config, data)
        spikes = None
        if validation is not None:
            block = np.s_[:, : dims.bins_observed, dims.heldin :]
            counts, has_count = (np.asarray(leaf)[block] for leaf in validation)
            spikes = Spikes.of(counts, has_count)
        return cls(
            run=trained.path,
            data=data,
            fingerprint=fingerprint,
            split=_split(trained),
            validation=validation,
            spikes=spikes,
            selecting=selecting,
        )

    def check(self, trained: TrainedRun) -> None:
        """Compares another run on the same data with the first.

        Raises:
          UserError: its weights were selected on other trials.
        """
        if _split(trained) != self.split:
            raise UserError(
                f"other trials selected the weights of {trained.path} than those of {self.run} "
                f"(config.seed and config.data.validation_fraction {_split(trained)} and "
                f"{self.split}); members are compared on one set: give runs that agree in both"
            )

    def rates(self, model: TrainedModel) -> RatesAtSpikes | None:
        """What is kept of a model's rates on the validation trials."""
        if self.validation is None or self.spikes is None:
            return None
        dims = model.trained.arch.dims
        rates_RTN = inference.rates(model, self.validation)
        block_RTN = rates_RTN[:, : dims.bins_observed, dims.heldin :]
        return self.spikes.of_rates(np.ascontiguousarray(block_RTN))


def _split(trained: TrainedRun) -> tuple[int, float] | None:
    """What the choice of the validation trials depends on; None if they are the evaluated ones."""
    if trained.data.eval.heldout is not None:
        return None
    return trained.config.seed, trained.config.data.validation_fraction
