"""From trained runs to an ensemble: members ranked, chosen on validation, copied together.

Only the trials that selected the members' own weights are looked at (``batches.split``), and of
these only what co-bps asks for, the held-out neurons in observed bins. Models that were selected
on different trials cannot be compared and are refused. The mean is one of rates.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.data.trials import SpikeData
from stndt_jax.ensembles import extract, selection
from stndt_jax.ensembles.selection import Spikes, Vote, Votes
from stndt_jax.errors import UserError
from stndt_jax.evaluation import inference
from stndt_jax.runs import directory, ensemble_directory, records
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.score_names import label
from stndt_jax.training import batches, restore
from stndt_jax.training.restore import TrainedModel, TrainedRun
from stndt_jax.training.step import Batch

Select = Literal["top", "greedy", "all"]

DRAWS = 100
_ASIDE = re.compile(r"\.old[0-9]+$")


class Candidate(NamedTuple):
    """A trained member: where it is, and what it says of the selecting trials, if there are any."""

    run: Path
    member: int
    checkpoint: int
    vote: Vote | None


class Candidates(NamedTuple):
    """All that may be chosen, and the trials on which they are compared.

    Attributes:
      found: the candidates.
      spikes: held-out counts of the selecting trials; None if no trial selects.
      how: a sentence about these trials.
      data: name of the recording.
      fingerprint: of the recording.
      left_out: sentences about runs and members that cannot be chosen.
    """

    found: list[Candidate]
    spikes: Spikes | None
    how: str
    data: str
    fingerprint: str
    left_out: list[str]


def sources(folders: Sequence[Path], out: Path) -> list[tuple[Path, list[int] | None, bool]]:
    """The runs that folders stand for: (run, members or all, whether it was named itself).

    Of a folder, these are the runs below it; not those that ``--fresh`` has set aside, and no
    ensembles, whose members are copies.

    Raises:
      UserError: a folder holds no run.
    """
    found: dict[Path, tuple[Path, list[int] | None, bool]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder; name runs of stndt train, or a folder of them")
        inside = [path for path in ensemble_directory.find(folder) if not _within(path, out)]
        new: list[tuple[Path, list[int] | None, bool]]
        if ensemble_directory.is_ensemble(folder):
            shares = ensemble_directory.members(folder)
            new = [
                (part, [s.member for s in shares if s.part == part], True)
                for part in sorted({s.part for s in shares})
            ]
        else:
            new = [
                (path, None, path == folder)
                for path in inside
                if path == folder
                or not (ensemble_directory.is_ensemble(path) or _ASIDE.search(path.name))
            ]
        if not new:
            raise UserError(f"no run of stndt train is at or below {folder}; name another folder")
        for run, members, named in new:
            if named or run.resolve() not in found:
                found[run.resolve()] = (run, members, named)
    return list(found.values())


def candidates(
    folders: Sequence[Path],
    out: Path,
    *,
    data_path: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Candidates:
    """Reads all runs, one after another, and lets their members vote.

    Of a member, its rates where held-out neurons spiked are kept, in memory: a few hundredths of
    all its rates.

    Args:
      folders: runs, ensembles, or folders of runs.
      out: where the ensemble will be, which is no source of its own.
      data_path: the recording, where it has moved.
      say: is told of every run.

    Raises:
      UserError: a run that was named is unusable, runs do not fit together, or none is left.
    """
    kept: list[Candidate] = []
    left_out: list[str] = []
    first: _Common | None = None
    seen: dict[str, str] = {}
    for run, members, named in sources(folders, out):
        try:
            mark = directory.read_run(run)["data_fingerprint"]
            other = first is not None and mark != first.fingerprint
            trained = None if other else restore.load(run, data_path, data=first and first.data)
        except UserError as error:
            # A search may have runs that never came to a checkpoint, or that were damaged.
            if named:
                raise
            left_out.append(f"{run}: {error}")
            continue
        if first is not None and trained is None:
            raise UserError(
                f"{run} was trained on other data than {first.run} (fingerprints {mark[:12]} and "
                f"{first.fingerprint[:12]}); give runs on the same recording and targets"
            )
        assert trained is not None
        first = first or _Common.of(run, trained, mark)
        first.check(run, trained)
        for k in trained.usable if members is None else members:
            if k not in trained.usable:
                raise UserError(f"member {k} of {run} was never validated; train it further")
            vote = first.vote(TrainedModel(trained, k, 1.0))
            if vote is not None:
                name, digest = f"member {k} of {run}", files.sha256(vote.rates.tobytes())
                if not np.isfinite(vote.total) or not np.isfinite(vote.rates).all():
                    left_out.append(f"{name} infers rates that are not finite")
                    continue
                if digest in seen:
                    left_out.append(f"{name} is a copy of {seen[digest]}")
                    continue
                seen[digest] = name
            step = round(trained.epoch * trained.arch.steps_per_epoch)
            kept.append(Candidate(run, k, step, vote))
        never = sorted(set(range(trained.config.population)) - set(trained.usable))
        if members is None and never:
            left_out.append(f"{run}: members {never} were never validated")
        say(f"{run}: {len(trained.usable)} members, {len(kept)} so far")
    if first is None or not kept:
        why = f": {left_out[0]}" if left_out else ""
        raise UserError(f"no member can be chosen from {', '.join(map(str, folders))}{why}")
    return Candidates(kept, first.spikes, first.how, first.data.name, first.fingerprint, left_out)


def _within(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.resolve(), *path.resolve().parents)


class _Common(NamedTuple):
    """What all runs must share, as the first of them has it."""

    run: Path
    data: SpikeData
    fingerprint: str
    drawn: tuple[int, float] | None
    batch: Batch | None
    spikes: Spikes | None
    how: str

    @classmethod
    def of(cls, run: Path, trained: TrainedRun, fingerprint: str) -> _Common:
        data, dims = trained.data, trained.arch.dims
        if data.fingerprint() != fingerprint:
            raise UserError(
                f"the recording of {run} is not the one that it was trained on; members are "
                f"chosen on the trials that selected their weights, so give that recording with "
                f"--data, and targets only if it was trained with them"
            )
        _, batch, how = batches.split(trained.config, data)
        spikes = None
        if batch is not None:
            block = np.s_[:, : dims.bins_observed, dims.heldin :]
            spikes = Spikes.of(np.asarray(batch.counts)[block], np.asarray(batch.has_count)[block])
        return cls(run, data, fingerprint, _drawn(trained), batch, spikes, how)

    def check(self, run: Path, trained: TrainedRun) -> None:
        """Compares with another run on the same data.

        Raises:
          UserError: other trials selected its weights.
        """
        if _drawn(trained) != self.drawn:
            raise UserError(
                f"other trials selected the weights of {run} than those of {self.run} "
                f"(config.seed and config.data.validation_fraction {_drawn(trained)} and "
                f"{self.drawn}); members are compared on one set: give runs that agree in both"
            )

    def vote(self, model: TrainedModel) -> Vote | None:
        """A model's rates on the trials that select."""
        if self.batch is None or self.spikes is None:
            return None
        dims = model.trained.arch.dims
        rates_RTN = inference.rates(model, self.batch)
        block_RTN = rates_RTN[:, : dims.bins_observed, dims.heldin :]
        return self.spikes.vote(np.ascontiguousarray(block_RTN))


def _drawn(trained: TrainedRun) -> tuple[int, float] | None:
    """What the draw of the selecting trials depends on; None where they are the evaluated ones."""
    if trained.data.eval.heldout is not None:
        return None
    return trained.config.seed, trained.config.data.validation_fraction


class Chosen(NamedTuple):
    """An ensemble that is still nowhere: weights by candidate, and how they came about.

    Attributes:
      weights: share of each chosen candidate.
      size: members, each as often as it was chosen.
      cobps: validation co-bps of the mean rate; None if no trial selects.
      each: validation co-bps of every candidate; None as above.
      curve: what ``ensemble.json`` says of size and score; None as above.
    """

    weights: dict[int, float]
    size: int
    cobps: float | None
    each: list[float] | None
    curve: dict[str, Any] | None


def choose(pool: Candidates, select: Select, most: int, *, seed: int = 0) -> Chosen:
    """Chooses among candidates by their votes, and by nothing else.

    Args:
      pool: the candidates.
      select: ``top``, the best n with the n that is best; ``greedy``, one by one with
        repetition; ``all``, every one with the same weight.
      most: members at most; plays no part for ``all``.
      seed: of the random sets beside the curve.

    Raises:
      UserError: no trial selects, but the members are to be chosen.
    """
    names = range(len(pool.found))
    cast = [candidate.vote for candidate in pool.found if candidate.vote is not None]
    if pool.spikes is None or not pool.spikes.counts.sum():
        if select != "all":
            why = pool.how if pool.spikes is None else "no held-out neuron spikes in the trials"
            raise UserError(
                f"members cannot be compared: {why}; train with config.data.validation_fraction "
                f"above 0, or take all members with --select=all"
            )
        return Chosen({m: 1 / len(names) for m in names}, len(names), None, None, None)
    votes = Votes.of(pool.spikes, cast)
    best_n, top = selection.top(votes, most)
    path = None
    if select == "top":
        chosen = best_n
    elif select == "greedy":
        chosen, path = selection.greedy(votes, most)
    else:
        chosen = list(names)
    weights = selection.weights(chosen)
    random_Dn = selection.spread(votes, most, DRAWS, seed)
    low, high = np.percentile(random_Dn, [2.5, 97.5], axis=0)
    curve = {
        "size": list(range(1, len(top) + 1)),
        "top": top.tolist(),
        "greedy": None if path is None else path.tolist(),
        "random": {
            "draws": DRAWS,
            "mean": random_Dn.mean(axis=0).tolist(),
            "sd": random_Dn.std(axis=0).tolist(),
            "percentile_2_5": low.tolist(),
            "percentile_97_5": high.tolist(),
        },
    }
    score = votes.mean(list(weights), list(weights.values()))
    return Chosen(weights, len(chosen), score, votes.each().tolist(), curve)


def write(
    out: Path, pool: Candidates, chosen: Chosen, beside: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Copies the chosen members into an ensemble directory, whole or not at all.

    Args:
      out: the directory; new, empty, or left by a call that was interrupted.
      pool: the candidates.
      chosen: which of them.
      beside: names of what else may be in the directory.
      more: what else ``ensemble.json`` shall say.

    Returns:
      What it says.

    Raises:
      UserError: the directory holds something else or cannot be written, or a run went on
        training meanwhile.
    """
    check_free(out, beside)
    directory.make(out)
    # Without ensemble.json, what is there was left by an interrupted call.
    shutil.rmtree(out / "parts", ignore_errors=True)
    files.remove_temporary(out)
    rows = []
    with files.staging(out / "parts") as parts:
        for number, (run, members) in enumerate(_by_run(pool, chosen)):
            part = f"{number:02}"
            extract.cut(run, [pool.found[m].member for m in members], parts / part)
            _check_unchanged(parts / part, pool.found[members[0]])
            for k, m in enumerate(members):
                row = {"part": part, "member": k, "weight": chosen.weights[m]}
                rows.append({**row, **_of(pool, chosen, m)})
    order = {m: n for n, m in enumerate(chosen.weights)}
    rows.sort(key=lambda row: order[row.pop("candidate")])
    found = {
        "data": pool.data,
        "data_fingerprint": pool.fingerprint,
        "selecting": pool.how,
        "validation_co_bps": chosen.cobps,
        "size": chosen.size,
        "members": rows,
        "curve": chosen.curve,
        "candidates": [_of(pool, chosen, m) for m in range(len(pool.found))],
        "left_out": pool.left_out,
        **more,
        "versions": directory.versions(),
    }
    for row in found["candidates"]:
        del row["candidate"]
    records.write(out / ensemble_directory.FILE, found)
    return found


def _of(pool: Candidates, chosen: Chosen, m: int) -> dict[str, Any]:
    """A candidate in ``ensemble.json``."""
    found = pool.found[m]
    return {
        "candidate": m,
        "source": str(found.run),
        "source_member": found.member,
        "validation_co_bps": None if chosen.each is None else chosen.each[m],
    }


def _by_run(pool: Candidates, chosen: Chosen) -> Iterator[tuple[Path, list[int]]]:
    """The chosen candidates of every run, in the order of the runs."""
    for run in dict.fromkeys(candidate.run for candidate in pool.found):
        members = [m for m in sorted(chosen.weights) if pool.found[m].run == run]
        if members:
            yield run, members


def _check_unchanged(part: Path, candidate: Candidate) -> None:
    """Refuses a copy of other weights than those that were ranked.

    Raises:
      UserError: the run has a later checkpoint by now.
    """
    if Checkpoints(part / "checkpoints", repair=False).latest != candidate.checkpoint:
        raise UserError(
            f"{candidate.run} went on training while its members were compared; wait for its end, "
            f"then choose again"
        )


def check_free(out: Path, beside: Sequence[str] = ()) -> None:
    """Refuses a directory that holds anything but an unfinished ensemble and what is ``beside``.

    Raises:
      UserError: it does.
    """
    if ensemble_directory.is_ensemble(out):
        raise UserError(
            f"{out} holds an ensemble; give --fresh to set it aside, or choose another --out"
        )
    ours = {"parts", "figures", *beside}
    there = out.iterdir() if out.is_dir() else ()
    if any(path.name not in ours and not files.is_temporary(path) for path in there):
        raise UserError(f"--out {out} holds something else; choose another folder")


def build(
    folders: Sequence[Path],
    out: Path,
    *,
    select: Select = "top",
    most: int = 50,
    seed: int = 0,
    data_path: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Chooses an ensemble among the members of runs, and writes its directory.

    Args:
      folders: runs, ensembles, or folders of runs.
      out: directory to write.
      select: how, as for :func:`choose`.
      most: members at most.
      seed: of the random sets beside the curve.
      data_path: the recording, where it has moved.
      say: is told what comes of it, and of what is left out.

    Returns:
      What ``ensemble.json`` says.

    Raises:
      UserError: as :func:`candidates`, :func:`choose` and :func:`write`.
    """
    check_free(out)
    pool = candidates(folders, out, data_path=data_path, say=say)
    for sentence in pool.left_out:
        say(f"left out: {sentence}")
    chosen = choose(pool, select, most, seed=seed)
    return write(out, pool, chosen, select=select, max=most, weights="cobps", seed=seed)


def table(found: dict[str, Any]) -> str:
    """What was chosen, from ``ensemble.json``, in lines of text."""
    rows = found["members"]
    repeated = f" ({found['size']} with repetitions)" if found["size"] > len(rows) else ""
    lines = [f"{len(rows)} of {len(found['candidates'])} members chosen{repeated}"]
    if found["validation_co_bps"] is None:
        return lines[0]
    best = max(row["validation_co_bps"] for row in found["candidates"])
    lines += [
        f"validation co-bps: {found['validation_co_bps']:.4f}, best member {best:.4f}",
        tables.table(
            ["run", "member", "weight", label("co_bps")],
            [
                [
                    row["source"],
                    str(row["source_member"]),
                    tables.number(row["weight"]),
                    tables.number(row["validation_co_bps"]),
                ]
                for row in rows
            ],
        ),
    ]
    return "\n".join(lines)
