"""From trained runs to an ensemble: members selected on validation trials, copied together.

The mean of an ensemble is one of rates, not of log-rates.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from stndt_jax import files
from stndt_jax.console import tables
from stndt_jax.console.lines import counted
from stndt_jax.ensembles import candidates, extract, selection
from stndt_jax.ensembles.candidates import Candidate, Candidates
from stndt_jax.ensembles.selection import Pool
from stndt_jax.errors import UserError, check_choice, checked_whole
from stndt_jax.runs import directory, ensemble_directory, records
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.lock import NAME, Lock
from stndt_jax.runs.score_names import label

Rule = Literal["top", "greedy", "all"]
"""How members are selected.

``top``: the best n members, with the n whose mean rate is best. ``greedy``: one by one, with
repetition. ``all``: every member, with equal weights.
"""

RANDOM_SETS = 100


class Selected(NamedTuple):
    """The members of an ensemble before it is written.

    Attributes:
      weights: weight in the mean rate by the number of the candidate.
      size: number of members, counted as often as they were selected.
      cobps: validation co-bps of the mean rate; None if no trial selects.
      each: validation co-bps of every candidate; None as above.
      curve: co-bps by size, as ``ensemble.json`` has it; None as above.
    """

    weights: dict[int, float]
    size: int
    cobps: float | None
    each: list[float] | None
    curve: dict[str, Any] | None


def build(
    folders: Sequence[Path],
    out: Path,
    *,
    select: Rule = "top",
    most: int = 50,
    seed: int = 0,
    data_path: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Selects an ensemble among the members of runs, and writes its directory.

    Args:
      folders: runs, ensembles, or directories of runs.
      out: directory to write.
      select: the rule of selection.
      most: members at most.
      seed: of the random sets that the curve is compared with.
      data_path: the recording, if it has moved.
      say: called with sentences on what is read and left out.

    Returns:
      The content of ``ensemble.json``.

    Raises:
      UserError: an option is wrong, no folder is given, or as :func:`candidates.collect`,
        :func:`choose` and :func:`write`.
    """
    check_choice("select", select, get_args(Rule))
    most = checked_whole("most (--max)", most, 1)
    seed = checked_whole("seed", seed)
    if not folders:
        raise UserError("no runs are given; list runs, ensembles or directories with runs")
    check_free(out)
    pool = candidates.collect(folders, out, data_path=data_path, say=say)
    for sentence in pool.left_out:
        say(f"left out: {sentence}")
    selected = choose(pool, select, most, seed=seed)
    return write(out, pool, selected, select=select, max=most, weights="cobps", seed=seed)


def choose(given: Candidates, select: Rule, most: int, *, seed: int = 0) -> Selected:
    """Selects members by the validation co-bps of their mean rate.

    Args:
      given: the candidates.
      select: the rule of selection.
      most: members at most; without effect for ``all``.
      seed: of the random sets.

    Raises:
      UserError: no trial selects, and the rule is not ``all``.
    """
    numbers = list(range(len(given.found)))
    rates = [candidate.rates for candidate in given.found if candidate.rates is not None]
    if given.spikes is None or not given.spikes.counts.sum():
        if select != "all":
            silent = "no held-out neuron spikes in the validation trials"
            raise UserError(
                f"members cannot be compared: "
                f"{given.selecting if given.spikes is None else silent}; train with "
                f"config.data.validation_fraction above 0, or take all members: select=all"
            )
        return Selected({m: 1 / len(numbers) for m in numbers}, len(numbers), None, None, None)
    pool = Pool.of(given.spikes, rates)
    chosen, curve = selection.top(pool, most)
    path = None
    if select == "greedy":
        chosen, path = selection.greedy(pool, most)
    elif select == "all":
        chosen = numbers
    weights = selection.weights(chosen)
    return Selected(
        weights=weights,
        size=len(chosen),
        cobps=pool.mean(list(weights), list(weights.values())),
        each=pool.each().tolist(),
        curve=_curve(pool, curve, path, most, seed),
    )


def _curve(
    pool: Pool, top: np.ndarray, greedy: np.ndarray | None, most: int, seed: int
) -> dict[str, Any]:
    """Co-bps by size: of the best members, of greedy selection, of random sets."""
    random_Dn = selection.random_sets(pool, most, RANDOM_SETS, seed)
    low, high = np.percentile(random_Dn, [2.5, 97.5], axis=0)
    return {
        "size": list(range(1, len(top) + 1)),
        "top": top.tolist(),
        "greedy": None if greedy is None else greedy.tolist(),
        "random": {
            "draws": RANDOM_SETS,
            "mean": random_Dn.mean(axis=0).tolist(),
            "sd": random_Dn.std(axis=0).tolist(),
            "percentile_2_5": low.tolist(),
            "percentile_97_5": high.tolist(),
        },
    }


def check_free(out: Path, beside: Sequence[str] = ()) -> None:
    """Refuses a directory that holds anything but an unfinished ensemble.

    Args:
      out: the directory.
      beside: names of what else may be in it.

    Raises:
      UserError: it holds an ensemble, or something else.
    """
    if ensemble_directory.is_ensemble(out):
        raise UserError(
            f"{out} holds an ensemble; move it aside with --fresh (fresh=True), or choose another "
            f"directory"
        )
    ours = {"parts", "figures", NAME, *beside}
    there = out.iterdir() if out.is_dir() else ()
    if any(path.name not in ours and not files.is_temporary(path) for path in there):
        raise UserError(f"{out} holds something else; choose another directory")


def write(
    out: Path, given: Candidates, selected: Selected, beside: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Copies the selected members into an ensemble directory, atomically.

    Args:
      out: the directory; new, empty, or left by an interrupted call.
      given: the candidates.
      selected: which of them.
      beside: names of what else may be in the directory.
      more: further values for ``ensemble.json``.

    Returns:
      The content of ``ensemble.json``.

    Raises:
      UserError: the directory holds something else or cannot be written, or a run was trained
        further in the meantime.
    """
    check_free(out, beside)
    with directory.made(out), Lock(out) as lock:
        # Another process may have written it since.
        check_free(out, beside)
        return _write(given, selected, out, more, lock)


def _write(
    given: Candidates, selected: Selected, out: Path, more: dict[str, Any], lock: Lock
) -> dict[str, Any]:
    """Copies the selected members and writes ``ensemble.json``; returns its content."""
    # Without ensemble.json, what is there was left by an interrupted call.
    shutil.rmtree(out / "parts", ignore_errors=True)
    files.remove_temporary(out)
    rows = {}
    with files.filling(out / "parts") as parts:
        for number, (run, members) in enumerate(_by_run(given, selected)):
            part = f"{number:02}"
            extract.cut(run, [given.found[m].member for m in members], parts / part)
            _check_unchanged(parts / part, given.found[members[0]])
            for k, m in enumerate(members):
                row = {"part": part, "member": k, "weight": selected.weights[m]}
                rows[m] = {**row, **_row(given, selected, m)}
    content = {
        "data": given.data,
        "data_fingerprint": given.fingerprint,
        "selecting": given.selecting,
        "validation_co_bps": selected.cobps,
        "size": selected.size,
        "members": [rows[m] for m in selected.weights],
        "curve": selected.curve,
        "candidates": [_row(given, selected, m) for m in range(len(given.found))],
        "left_out": given.left_out,
        **more,
        "versions": directory.versions(),
    }
    lock.check()
    records.write(out / ensemble_directory.FILE, content)
    return content


def _row(given: Candidates, selected: Selected, m: int) -> dict[str, Any]:
    """A candidate in ``ensemble.json``."""
    return {
        "source": str(given.found[m].run),
        "source_member": given.found[m].member,
        "validation_co_bps": None if selected.each is None else selected.each[m],
    }


def _by_run(given: Candidates, selected: Selected) -> Iterator[tuple[Path, list[int]]]:
    """The numbers of the selected candidates of every run, in the order of the runs."""
    for run in dict.fromkeys(candidate.run for candidate in given.found):
        members = [m for m in sorted(selected.weights) if given.found[m].run == run]
        if members:
            yield run, members


def _check_unchanged(part: Path, candidate: Candidate) -> None:
    """Refuses a copy of other weights than those that were compared.

    Raises:
      UserError: the run has a later checkpoint.
    """
    if Checkpoints(part / "checkpoints", repair=False).latest != candidate.step:
        raise UserError(
            f"{candidate.run} was trained further while its members were compared; wait for its "
            f"end, then start the same command again"
        )


def table(content: dict[str, Any]) -> str:
    """The selected members, from the content of ``ensemble.json``, as lines of text."""
    rows = content["members"]
    repeated = f" ({content['size']} with repetitions)" if content["size"] > len(rows) else ""
    lines = [f"{len(rows)} of {counted(len(content['candidates']), 'member')} selected{repeated}"]
    if content["validation_co_bps"] is None:
        return lines[0]
    best = max(row["validation_co_bps"] for row in content["candidates"])
    lines += [
        f"validation co-bps: {content['validation_co_bps']:.4f}, best member {best:.4f}",
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
