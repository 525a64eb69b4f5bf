"""The command line: finds the command, turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import keyword
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

from stndt_jax.cli.flags import HelpShown
from stndt_jax.console import progress
from stndt_jax.console.lines import one_line
from stndt_jax.console.tables import table
from stndt_jax.errors import Interrupted, UserError, install

# What the command is for -> command -> the module of stndt_jax.cli with a function of its name (_
# for -, and a _ behind a keyword of Python), and a sentence. The modules are imported when they
# are needed, so that --help is quick.
GROUPS = {
    "Data": {
        "synth": ("data", "write a synthetic recording with known rates"),
        "download": ("data", "download a benchmark data set, or the test targets"),
        "inspect": ("data", "list the contents of an NWB or HDF5 file"),
        "prepare": ("data", "make a recording from NWB files or arrays"),
    },
    "Train": {
        "demo": ("train", "simulate a recording, train on it, score, plot rates"),
        "train": ("train", "train a model, or a population of models, on a recording"),
        "seeds": ("train", "train one configuration with many seeds"),
        "runs": ("train", "list the runs and ensembles below a directory"),
    },
    "Evaluate": {
        "evaluate": ("evaluate", "infer rates, score them, write the submission file"),
        "baseline": ("evaluate", "score smoothing, PSTH, NDT, GPFA or an LDS"),
        "check-submission": ("evaluate", "check a submission file against the recording"),
    },
    "Ensembles": {
        "ensemble": ("ensembles", "select trained models and average their rates"),
        "retrain": ("ensembles", "train selected models again on all trials"),
        "cut": ("ensembles", "write selected members of a run as a run of their own"),
    },
    "Search": {
        "search": ("search", "search for good hyperparameters, a population at a time"),
        "tune": ("search", "refine the setting of --config=auto on the training trials"),
        "reproduce": ("search", "reproduce the published scores of a benchmark data set"),
    },
    "Interpret and report": {
        "interpret": (
            "report",
            "show which neurons and times models attend to",
        ),
        "figures": ("report", "write all figures of a run"),
        "report": ("report", "write one HTML file about a run: scores, rates, figures"),
        "card": ("report", "write a model card of a run, in Markdown"),
        "compare": ("report", "compare runs: scores, settings, training"),
    },
    "Interop": {
        "import": ("interop", "make a run directory from PyTorch checkpoints"),
        "export": ("interop", "write a trained model or inferred rates for other programs"),
        "infer": ("interop", "infer rates from spike counts with an exported model"),
    },
    "Installation": {
        "doctor": ("doctor", "show versions, devices, file locks, and what is missing"),
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, (module, _) in group.items()}

# Errors of a disk that the user can mend.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# A package that not every command needs -> the extra that installs it.
_EXTRAS = {"matplotlib": "plots", "optuna": "search", "ray": "ray", "xarray": "export"}
_SIGNALS = 128  # exit codes above this are those of signals
_LONGEST = 2000  # characters of an error


def usage() -> str:
    """All commands, by what they are for."""
    rows = [
        row
        for group, commands in GROUPS.items()
        for row in [(group, ""), *((f"  {name}", what) for name, (_, what) in commands.items())]
    ]
    return "\n".join(
        [
            "stndt infers firing rates of neural populations from spikes, trial by trial.",
            "",
            "usage: stndt COMMAND [flags]",
            "",
            table(["", ""], rows, left=[""]),
            "",
            "stndt COMMAND --help explains a command. Every command has two more flags:",
            "--no-cache    compile again, instead of keeping programs in STNDT_CACHE",
            "--no-lock     where the file system has no locks; then only one process",
            "              may work in a directory",
            "",
            "example: stndt train --config=mc_maze --config.data.path=mc_maze.h5 \\\n"
            "             --workdir=runs/maze",
        ]
    )


def _shower() -> Callable[..., None]:
    """Shows a warning as one line, and the same one only once."""
    shown: set[str] = set()

    def show(message: Any, *_: Any, **__: Any) -> None:
        line = one_line(str(message), _LONGEST)
        if line not in shown:
            shown.add(line)
            print(f"stndt: warning: {line}", file=sys.stderr)

    return show


def _mistake(sentence: str, exit_code: int = 2) -> int:
    print(f"stndt: error: {one_line(sentence, _LONGEST)}", file=sys.stderr)
    return exit_code


def _run(command: str, argv: list[str]) -> int:
    """Runs a command.

    Raises:
      UserError: there is no such command, or a mistake of the user in running it.
    """
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {command}; {hint}")
    with progress.shown():
        module = importlib.import_module(f"stndt_jax.cli.{COMMANDS[command]}")
        name = command.replace("-", "_")
        return getattr(module, name + "_" * keyword.iskeyword(name))(argv)


def _everywhere(argv: list[str]) -> list[str]:
    """Obeys the flags that every command has; returns the others.

    The modules that they are for, which are imported later, read the environment.
    """
    if "--no-lock" in argv:
        os.environ["STNDT_NO_LOCK"] = "1"
    if "--no-cache" in argv:
        os.environ["STNDT_CACHE"] = "off"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault("STNDT_CACHE", os.path.join(base, "stndt_jax"))
    # A CPU is as many devices as it has cores, so that the members of a population share them.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("STNDT_CORES", str(cores or 1))
    return [word for word in argv if word not in ("--no-lock", "--no-cache")]


def main(argv: list[str]) -> int:
    """Runs a command and returns its exit code.

    0; 2 for a user's mistake; 3 if training diverged; 130 or 143 when interrupted or terminated.
    """
    warnings.showwarning = _shower()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Commands write figures to files: the backend of a notebook may not even be installed here.
    os.environ["MPLBACKEND"] = "agg"
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be valid in the encoding of the terminal.
        sys.stdout.reconfigure(errors="backslashreplace")
    if not argv or argv[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from stndt_jax import __version__
        from stndt_jax.workflows import doctor

        print(doctor.versions(__version__))
        return 0
    try:
        return _run(argv[0], argv[1:])
    except HelpShown:
        return 0
    except UserError as error:
        return _mistake(str(error), error.exit_code)
    except Interrupted as error:
        print(f"stndt: {one_line(str(error), _LONGEST)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        return _mistake(
            f"stndt {argv[0]} needs {package}, which is not installed; {install(_EXTRAS[package])}"
        )
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return _mistake(
            f"{error.filename or 'a file'} cannot be written or read ({error.strerror}); free some "
            f"space or mend the disk, then start the same command again"
        )
    except (MemoryError, RuntimeError) as error:
        # XLA raises a RuntimeError.
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _mistake(
            f"there is not enough memory ({error}); lower config.population, config.train.batch "
            f"or the sizes under config.model, or use a machine with more"
        )
    except _Terminated:
        print("stndt: terminated", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("stndt: interrupted", file=sys.stderr)
        return 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM; no Exception, which scikit-learn would take for a fit that failed."""


def _terminate(*_: Any) -> None:
    raise _Terminated


def entry() -> None:
    """Console script."""
    signal.signal(signal.SIGTERM, _terminate)
    code = main(_everywhere(sys.argv[1:]))
    if code > _SIGNALS:
        # A thread may be compiling, which nothing can interrupt.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
