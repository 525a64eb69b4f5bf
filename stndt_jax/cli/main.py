"""The command line: a word to its command, and mistakes to one line and exit code 2."""

from __future__ import annotations

import errno
import importlib
import io
import keyword
import os
import sys
import warnings
from typing import Any

from stndt_jax.cli.flags import HelpShown
from stndt_jax.errors import Interrupted, UserError

# Command -> the module of stndt_jax.cli that holds a function of its name (with _ for -, and
# behind a word of Python's own), and what it is for. Modules are imported when they are needed:
# --help is quick.
COMMANDS = {
    "demo": ("train", "make data, train a small population, score and draw it"),
    "synth": ("train", "write a synthetic data set with known rates"),
    "prepare": ("data", "make a recording from NWB files, arrays or the benchmark's data sets"),
    "download": ("data", "bring a benchmark data set from the DANDI archive"),
    "inspect": ("data", "list what an NWB or HDF5 file offers"),
    "train": ("train", "train a model, or a population of models, on a recording"),
    "search": ("search", "search for good hyperparameters, populations of trials at a time"),
    "reproduce": ("reproduce", "from the benchmark's files to a report beside the published table"),
    "evaluate": ("train", "infer rates, score them, write the benchmark's submission file"),
    "ensemble": ("ensembles", "choose among trained models, average their rates"),
    "retrain": ("ensembles", "train chosen models again on all trials, for the test phase"),
    "seeds": ("ensembles", "train one setting with many seeds: mean, spread, intervals"),
    "runs": ("ensembles", "list the runs and ensembles below a folder"),
    "report": ("report", "write one HTML file about a run: scores, rates, figures"),
    "compare": ("report", "set runs side by side: scores, settings, training"),
    "interpret": ("interpret", "which neurons and times models attend to; drop neurons and score"),
    "figures": ("interpret", "draw everything that can be drawn of a run"),
    "import": ("baselines", "make a run directory of PyTorch checkpoints of STNDT or NDT"),
    "baseline": ("baselines", "score smoothing, PSTH, NDT, GPFA or an LDS on a recording"),
    "check-submission": ("data", "check a submission file against the recording"),
    "cut": ("export", "write chosen members of a run as a run of their own"),
    "export": ("export", "write a trained model, or inferred rates, for other places"),
    "infer": ("export", "rates from spike counts with an exported model"),
}


# Faults of a disk that no check foresees: a user can mend them, so they are no bugs.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_LONGEST = 2000


def usage() -> str:
    """What there is."""
    lines = [f"  {name:18} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "stndt infers firing rates from the spikes of a neural population, trial by trial.",
            "",
            "usage: stndt COMMAND [flags]",
            "",
            *lines,
            "",
            "stndt COMMAND --help explains a command.",
            "",
            "example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 "
            "--workdir=runs/maze",
        ]
    )


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"stndt: warning: {_one_line(str(message))}", file=sys.stderr)


def _one_line(text: str) -> str:
    """``text`` without what breaks a line, steers a terminal or is no text; not too long."""
    line = "".join(
        c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text[: 10**6]
    )
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"


def _mistake(sentence: str, exit_code: int = 2) -> int:
    print(f"stndt: error: {_one_line(sentence)}", file=sys.stderr)
    return exit_code


def main(argv: list[str]) -> int:
    """Runs a command and returns its exit code.

    0; 2 for a mistake; 3 if training diverged; 130 or 143 when interrupted or terminated.
    """
    warnings.showwarning = _show_warning
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be text in any encoding; it is printed all the same.
        sys.stdout.reconfigure(errors="backslashreplace")
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from stndt_jax import __version__

        print(__version__)
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise UserError(f"{argv[0]} is no command; choose one of {', '.join(COMMANDS)}")
        module = importlib.import_module(f"stndt_jax.cli.{COMMANDS[argv[0]][0]}")
        name = argv[0].replace("-", "_")
        return getattr(module, name + "_" * keyword.iskeyword(name))(argv[1:])
    except HelpShown:
        return 0
    except UserError as error:
        return _mistake(str(error), error.exit_code)
    except Interrupted as error:
        return error.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return _mistake(
            f"{error.filename or 'a file'} cannot be written or read ({error.strerror}); free some "
            f"space or mend the disk, then start the same command again"
        )
    except (MemoryError, RuntimeError) as error:
        # XLA says so in words.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _mistake(
            f"there is not enough memory ({error}); lower config.population, config.train.batch "
            f"or the sizes under config.model, or take a machine with more"
        )
    except KeyboardInterrupt:
        print("stndt: interrupted", file=sys.stderr)
        return 130


def entry() -> None:
    """Console script."""
    sys.exit(main(sys.argv[1:]))
