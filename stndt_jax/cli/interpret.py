"""Looking at what was learned: ``interpret`` and ``figures``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from stndt_jax.cli.flags import new_flags, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stndt_jax.interpret.summary import Interpretation
    from stndt_jax.training.restore import TrainedModel


def interpret(argv: list[str]) -> int:
    """Shows which neurons and which times a run's models attend to, and whether it matters.

    usage: stndt interpret DIR [--out=DIR] [--data=FILE] [--targets=FILE] [--split=eval|train]
                           [--nodrop] [--nodecode] [--against=DIR] [--repeats=5] [--nogradients]

    Importance of a neuron is the attention it receives; integrated gradients are a second opinion.
    Held-in neurons are then silenced, the most important first, at random, the least important
    first, and the rates scored; --against silences the same neurons for a second run, such as one
    of NDT. Dropping takes minutes and needs the held-out counts; --nodrop leaves it out, --nodecode
    leaves out the scores of behaviour, which cost most of the time.

    Writes attention.h5, neurons.csv, interpret.json, dropping.json and figures.

    example: stndt interpret runs/maze --targets=mc_maze_target.h5 --against=runs/ndt
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "folder to write; DIR/interpret if empty", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_string("targets", "", "target file to score against", flag_values=fv)
    flags.DEFINE_enum("split", "eval", ["eval", "train"], "trials to look at", flag_values=fv)
    flags.DEFINE_enum(
        "select", "cobps", ["cobps", "loss", "last"], "weights of each member", flag_values=fv
    )
    flags.DEFINE_bool("gradients", True, "compute integrated gradients", flag_values=fv)
    flags.DEFINE_bool("drop", True, "silence neurons and score", flag_values=fv)
    flags.DEFINE_bool("decode", True, "score behaviour too, while dropping", flag_values=fv)
    flags.DEFINE_string("against", "", "run directory to drop the same neurons of", flag_values=fv)
    flags.DEFINE_integer("repeats", 5, "random orders", lower_bound=1, flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the random orders", lower_bound=0, flag_values=fv)
    flag, (path,) = parse(fv, argv, interpret, 1)
    from stndt_jax.interpret import files
    from stndt_jax.interpret import summary as room
    from stndt_jax.plotting import run_figures as figures
    from stndt_jax.training import restore

    out = Path(flag["out"] or Path(path) / "interpret")
    models = restore.models(Path(path), flag["data"], flag["targets"])
    found = room.of_models(
        models, split=flag["split"], select=flag["select"], with_gradients=flag["gradients"]
    )
    written = files.write(found, out)
    print(files.text(found))
    dropped = None
    if flag["drop"]:
        dropped, file = _drop(Path(path), models, found, flag, out)
        written.append(file)
    drawn = figures.draw_interpretation(found, out, dropped)
    print("\nwrote " + "\n      ".join(str(file) for file in [*written, *(x.file for x in drawn)]))
    return 0


def _drop(
    path: Path,
    models: list[TrainedModel],
    found: Interpretation,
    flag: Mapping[str, Any],
    out: Path,
) -> tuple[dict[str, Any], Path]:
    from stndt_jax.interpret import ablation
    from stndt_jax.interpret import summary as room
    from stndt_jax.training import restore

    order, measure = room.ranking(found)
    second = found.gradient_importance if measure == "attention" else None
    against, names = [], (path.name, "")
    if flag["against"]:
        other = Path(flag["against"])
        against = restore.models(other, flag["data"], flag["targets"])
        names = (path.name, other.name if other.name != path.name else str(other))
    print(f"\nsilencing held-in neurons in the order of {measure}", flush=True)
    dropped = ablation.drop(
        models,
        order,
        targets_path=flag["targets"],
        against=against,
        names=names,
        gradient_importance=None if second is None else second[: found.heldin],
        fractions=ablation.FRACTIONS,
        repeats=flag["repeats"],
        decode=flag["decode"],
        seed=flag["seed"],
        select=flag["select"],
        progress=_foretold(),
    )
    file = ablation.write({"measure": measure, **dropped}, out)
    print(ablation.text(dropped))
    return dropped, file


def _foretold() -> Callable[[int, int], None]:
    """Says how long it takes, once that can be told: after the third of many evaluations."""
    times: list[float] = []

    def note(done: int, total: int) -> None:
        times.append(time.monotonic())
        # The first compiles; what the second and third take is what a costly one takes.
        if done == 3 and total > 10:
            minutes = (times[2] - times[0]) / 2 * (total - done) / 60
            print(f"{total} evaluations, at most {max(1, round(minutes))} minutes", flush=True)

    return note


def figures(argv: list[str]) -> int:
    """Draws everything that can be drawn of a run, as PNG and SVG.

    usage: stndt figures DIR [--out=DIR] [--data=FILE] [--targets=FILE]

    Rates in single trials, PSTHs, behaviour, latent paths, correlations, calibration, attention and
    training; dropped neurons where stndt interpret has dropped some.

    example: stndt figures runs/maze --targets=mc_maze_target.h5
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "folder to write; DIR/figures if empty", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_string("targets", "", "its target file", flag_values=fv)
    flag, (path,) = parse(fv, argv, figures, 1)
    from stndt_jax.plotting import run_figures as room

    out = Path(flag["out"] or Path(path) / "figures")
    drawn = room.draw_all(Path(path), out, data_path=flag["data"], targets_path=flag["targets"])
    for figure in drawn:
        print(f"{figure.file}\n    {figure.caption}")
    return 0
