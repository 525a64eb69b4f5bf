"""The command line: flags to calls, and mistakes to one line and exit code 2."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from stndt_jax.errors import UserError

USAGE = """\
stndt infers firing rates from the spikes of a neural population, one trial at a time.

usage: stndt COMMAND [flags]

  demo       make data, train a small population, score and draw it
  synth      write a synthetic data set with known rates
  train      train a model, or a population of models, on a recording
  evaluate   infer rates, score them, write the benchmark's submission file

stndt COMMAND --help explains a command.

example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 --workdir=runs/maze
"""


def _demo(argv: list[str]) -> int:
    """Makes a reach data set, trains a small population and shows what it inferred.

    usage: stndt demo [--out=DIR] [--seed=0] [--config.KEY=VALUE ...]

    example: stndt demo --out=demo
    """
    fv = _flags()
    flags.DEFINE_string("out", "demo", "folder for data, run and figures", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the data and of the models", flag_values=fv)
    from stndt_jax import configfile

    rest, settings = configfile.split(argv)
    flag, _ = _parse(fv, rest, _demo, 0)
    from stndt_jax import demo

    demo.demo(Path(flag["out"]), seed=flag["seed"], settings=settings)
    return 0


def _synth(argv: list[str]) -> int:
    """Writes a synthetic data set and, beside it, its target file with the true rates.

    usage: stndt synth lorenz|rnn|reach --out=FILE [--seed=0]

    example: stndt synth reach --out=reach.h5     (and reach_target.h5)
    """
    fv = _flags()
    flags.DEFINE_string("out", None, "HDF5 file to write", flag_values=fv)
    flags.DEFINE_integer("seed", 0, "of the draw", flag_values=fv)
    flag, (kind,) = _parse(fv, argv, _synth, 1)
    if not flag["out"]:
        raise UserError("--out is missing; name the file to write, for example --out=reach.h5")
    from stndt_jax.data import spikes, synthetic

    out = Path(flag["out"])
    targets = out.with_name(f"{out.stem}_target{out.suffix}")
    data = synthetic.make(kind, seed=flag["seed"])
    spikes.write(data, out)
    spikes.write_targets(data, targets)
    print(
        f"{out} and {targets}: {len(data.train)} training and {len(data.eval)} evaluated trials, "
        f"{data.bins_observed} + {data.bins_forward} bins of {data.bin_ms:g} ms, "
        f"{data.heldin} + {data.heldout} neurons"
    )
    return 0


def _train(argv: list[str]) -> int:
    r"""Trains a population of models (one, by default) and leaves a run directory.

    usage: stndt train --config=NAME|FILE --workdir=DIR [--config.KEY=VALUE ...]

    The same command on the same directory goes on where it was.

    example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 --workdir=runs/maze \
                 --config.optimizer.learning_rate=3e-3 --config.population=4
    """
    from stndt_jax import config, configfile

    fv = _flags()
    flags.DEFINE_string("workdir", None, "run directory", flag_values=fv)
    flags.DEFINE_string("config", None, "shipped name or path of a file", flag_values=fv)
    if _wants_help(argv):
        _print_help(fv, _train)
        print(f"\nshipped configurations: {', '.join(configfile.shipped())}\n\nkeys of --config:")
        for name, kind, meaning in config.documentation():
            print(f"  {name:34} {kind:6} {meaning}")
        return 0
    rest, settings = configfile.split(argv)
    flag, _ = _parse(fv, rest, _train, 0)
    if not flag["workdir"]:
        raise UserError("--workdir is missing; name a run directory, for example --workdir=runs/a")
    loaded = configfile.load(settings)
    from stndt_jax import evaluate, train

    data = evaluate.read_data(loaded)
    train.train(loaded, data, Path(flag["workdir"]))
    print(f"next: stndt evaluate {fv['workdir'].value}")
    return 0


def _evaluate(argv: list[str]) -> int:
    """Infers rates of all trials, scores them, writes scores.json and submission.h5.

    usage: stndt evaluate DIR [--targets=FILE] [--data=FILE] [--select=cobps|loss|last]

    Scores need nlb_tools, and targets unless the recording itself holds them.

    example: stndt evaluate runs/maze --targets=mc_maze_target.h5
    """
    fv = _flags()
    flags.DEFINE_string("targets", "", "target file to score against", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_enum(
        "select", "cobps", ["cobps", "loss", "last"], "weights of each member", flag_values=fv
    )
    flag, (path,) = _parse(fv, argv, _evaluate, 1)
    from stndt_jax import evaluate

    result = evaluate.evaluate(
        Path(path),
        data_path=flag["data"],
        targets_path=flag["targets"],
        select=flag["select"],
    )
    print(evaluate.table(result.scores))
    print(f"wrote {Path(path) / 'scores.json'} and {Path(path) / 'submission.h5'}")
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": _demo,
    "synth": _synth,
    "train": _train,
    "evaluate": _evaluate,
}


class _HelpShown(Exception):  # noqa: N818
    """The user asked for help and got it."""


def _flags() -> flags.FlagValues:
    return flags.FlagValues()


def _wants_help(argv: list[str]) -> bool:
    return any(arg in ("--help", "-help", "-h", "--helpfull", "help") for arg in argv)


def _print_help(fv: flags.FlagValues, command: Callable) -> None:
    lines = (command.__doc__ or "").splitlines()
    print("\n".join(line.removeprefix("    ") for line in lines).rstrip() + "\n")
    for name in fv:
        print(f"  --{name:14} {fv[name].help} (default: {fv[name].value or 'none'})")


def _parse(
    fv: flags.FlagValues, argv: list[str], command: Callable, positional: int
) -> tuple[dict[str, Any], list[str]]:
    """The values of the flags, and the positional arguments."""
    if _wants_help(argv):
        _print_help(fv, command)
        raise _HelpShown
    try:
        fv.set_gnu_getopt(True)
        rest = fv(["stndt", *argv])[1:]
    except flags.Error as error:
        raise UserError(f"{str(error).rstrip('.')}; --help lists the flags") from error
    if len(rest) != positional:
        usage = next(line for line in (command.__doc__ or "").splitlines() if "usage:" in line)
        got = " ".join(rest) or "nothing"
        raise UserError(f"{positional} argument(s) expected but got {got}; {usage.strip()}")
    return {name: fv[name].value for name in fv}, list(rest)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"stndt: warning: {message}", file=sys.stderr)


def main(argv: list[str]) -> int:
    """Runs a command and returns its exit code: 0, 2 for a mistake, 130 when interrupted."""
    warnings.showwarning = _show_warning
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(USAGE)
        return 0
    if argv[0] == "--version":
        from stndt_jax import __version__

        print(__version__)
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise UserError(f"{argv[0]} is no command; choose one of {', '.join(COMMANDS)}")
        return COMMANDS[argv[0]](argv[1:])
    except _HelpShown:
        return 0
    except UserError as error:
        print(f"stndt: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stndt: interrupted", file=sys.stderr)
        return 130


def entry() -> None:
    """Console script."""
    sys.exit(main(sys.argv[1:]))
