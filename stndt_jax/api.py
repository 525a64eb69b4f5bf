"""The functions of ``import stndt_jax``: the whole path from spike counts to rates and scores.

The commands of ``stndt`` call these functions too. What is a mistake of the caller raises
``UserError``, one sentence that says what is wrong and what to do.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from stndt_jax.config import automatic, loading, schema
from stndt_jax.config.schema import Config, Hyper
from stndt_jax.console import progress
from stndt_jax.data import hdf5, synthetic
from stndt_jax.data.given_arrays import check_bin_ms
from stndt_jax.data.trials import Source, SpikeData
from stndt_jax.ensembles import build
from stndt_jax.errors import UserError, checked_path
from stndt_jax.evaluation import baselines, comparison, scoring, submission
from stndt_jax.parallel import multihost
from stndt_jax.report import page
from stndt_jax.run import Run, load_run
from stndt_jax.runs import directory, ensemble_directory, log, recording
from stndt_jax.runs.lock import Lock
from stndt_jax.runs.signals import Stop
from stndt_jax.training import finetune, loop, memory, setup
from stndt_jax.training.functional import Fit, Predict
from stndt_jax.types import Dims, Float, NDArray

if TYPE_CHECKING:
    from stndt_jax.config.loading import ConfigDict

_BASELINES: dict[str, Callable[[SpikeData], dict[str, NDArray]]] = {
    "smoothing": baselines.smoothing,
    "psth": baselines.psth,
    "truth": baselines.truth,
}


def load_data(
    path: str | Path,
    targets: str | Path | None = None,
    *,
    name: str | None = None,
    bin_ms: float | None = None,
) -> SpikeData:
    """Reads a recording from HDF5 files, as ``stndt prepare`` and the benchmark write them.

    Args:
      path: input file.
      targets: target file: what the evaluated trials are scored against.
      name: name of the recording; by default what the files say, else the name of the file.
      bin_ms: bin width, ms; by default what the files say, else 5.

    Returns:
      The recording. Under another name than the files', it counts as made in memory: a run keeps
      its own copy.

    Raises:
      UserError: a file is missing, damaged, or does not hold spike counts.
    """
    checked_path("path", path)
    if targets is not None:
        checked_path("targets", targets)
    if bin_ms is not None:
        check_bin_ms(bin_ms)
    data = hdf5.read(path, targets, name=name, bin_ms=bin_ms)
    if data.name != hdf5.stated_name(path, targets, name):
        return data  # a configuration cannot say that the files call it something else
    source = Source(
        path=str(Path(path).absolute()),
        targets="" if targets is None else str(Path(targets).absolute()),
        name=name or "",
        bin_ms=bin_ms or 0.0,
        fingerprint=data.fingerprint(),
    )
    return dataclasses.replace(data, source=source)


def simulate(
    kind: Literal["lorenz", "rnn", "reach"] = "reach", *, seed: int = 0, **sizes: Any
) -> SpikeData:
    """Simulates a recording whose true rates are known.

    Args:
      kind: ``lorenz``, a chaotic attractor; ``rnn``, a recurrent network; ``reach``, reaches of a
        hand in eight directions, with its velocity.
      seed: the same seed and sizes give the same recording, bit for bit.
      **sizes: ``trials``, ``eval_trials``, ``bins``, ``bins_forward``, ``heldin``, ``heldout``,
        ``bin_ms`` and others; see ``stndt_jax.data.synthetic``.

    Raises:
      UserError: an unknown kind or option, or a size that makes no recording.
    """
    return synthetic.make(kind, seed=seed, **sizes)


def get_config(name: str | Path = "auto", data: SpikeData | None = None) -> ConfigDict:
    """A configuration to edit: ``config.model.layers = 2``.

    Args:
      name: ``auto``, whose values are chosen from the recording; another shipped configuration
        (``factors``, ``reach``, ``mc_maze_large``, ``mc_maze:paper``, ...), or the path of a Python
        file with ``get_config()`` or of a run's ``config.json``.
      data: the recording that chooses what ``auto`` leaves open. Without it these values are None,
        and :func:`train` chooses them.

    Raises:
      UserError: there is no such configuration, or the file cannot be used.
    """
    config = loading.get_config(str(name))
    if data is not None:
        _check_data(data)
        config.update(automatic.filled(config.to_dict(), data)[0])
    return config


@progress.displayed
def train(
    config: ConfigDict | Config | Mapping[str, Any],
    data: SpikeData | None = None,
    *,
    workdir: str | Path,
    init: str | Path | Run = "",
    neurons: Literal["", "same", "other"] = "",
    freeze: str | Sequence[str] = (),
    population: int | Literal["auto"] | None = None,
    extend: bool = False,
    fresh: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains a model, or a population of models, and leaves a run directory.

    The same call on the same directory continues a run that was interrupted, bit for bit as if it
    had not been. The weights of a run come from, in this order: its own newest checkpoint; the run
    that ``init`` names; a new initialisation.

    Args:
      config: what to train, as :func:`get_config` gives it.
      data: what to train on; None reads the files that ``config.data`` names,
        or if it names none the copy that the run directory has of its own. Data that were not
        read with :func:`load_data` are written into the run directory, so that it is complete.
      workdir: the run directory, new or to be continued.
      init: a run whose best weights the members begin with.
      neurons: whether the run of ``init`` is of the ``same`` neurons, or of ``other`` ones, so that
        whatever belongs to single neurons is initialised anew; empty: the same if as many.
      freeze: parts of the model that keep the weights of ``init``, by name, such as ``layers_0``.
      population: how many members to train together, in place of ``config.population``; ``auto``
        for as many as fit into the memory of the devices.
      extend: continue a finished run that had fewer epochs.
      fresh: set an old run in this directory aside, and begin anew.
      quiet: print nothing.

    Returns:
      The run.

    Raises:
      UserError: the configuration does not fit the data, or the directory holds another run, is in
        use by another process, or cannot be written.
      Diverged: no member can be trained further; a ``UserError``.
      Interrupted: a signal asked to stop; the run is saved.
    """
    multihost.join()
    if not multihost.first():
        progress.off()
    path, say = checked_path("workdir", workdir), _say(quiet)
    parts = (freeze,) if isinstance(freeze, str) else tuple(freeze or ())
    with multihost.together():
        _check_data(data)
        checked, found, notes = _chosen(config, population, data, path)
        setup.check(checked, found.dims)
        if fresh and multihost.first():
            _set_aside(path, say)
    # A run that is set aside takes its copy of the recording with it.
    if data is not None or (fresh and recording.is_own(checked, path)):
        checked, found = recording.of_data(checked, found, path)
    if population == "auto":
        checked = memory.filled(checked, found, path)
    initialisation = finetune.initialisation(
        path, checked, found.dims, init=_path(init), neurons=neurons, parts=parts
    )
    loop.train(
        checked,
        found,
        path,
        quiet=quiet,
        extend=extend,
        initialisation=initialisation,
        notes=notes,
    )
    run = Run(path)
    if multihost.first() and run.history:

        def note(text: str) -> None:
            say(text)
            log.append(path, text)

        with Stop() as stop:
            stop.while_waiting(
                lambda: comparison.of_training(path, checked, found, run.history[-1], note),
                f"stopped while the baselines were scored: the run is trained and saved; next: "
                f"stndt evaluate {path}",
            )
    return run


@progress.displayed
def build_ensemble(
    runs: Sequence[str | Path | Run] | str | Path | Run,
    out: str | Path,
    *,
    select: Literal["top", "greedy", "all"] = "top",
    most: int = 50,
    seed: int = 0,
    data: str | Path = "",
    fresh: bool = False,
    quiet: bool = False,
) -> Run:
    """Chooses members of runs by the validation co-bps of their mean rate.

    Args:
      runs: runs, ensembles, or directories with runs below them.
      out: directory to write; it holds copies of the chosen members.
      select: ``top``, the best n members with the n whose mean rate is best; ``greedy``, one by one
        with repetition, never below ``top`` on the validation trials; ``all``.
      most: members at most; without effect for ``all``.
      seed: of the random sets that the choice is compared with.
      data: the recording, if it has moved.
      fresh: set an old ensemble in ``out`` aside.
      quiet: print nothing.

    Returns:
      The ensemble, a run like any other.

    Raises:
      UserError: runs do not fit together, none can be used, or ``out`` holds something else.
    """
    if not isinstance(runs, str | Path | Run | Sequence):
        raise UserError(f"runs is {runs!r}; give runs, ensembles or directories with runs")
    several = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    folder, say = checked_path("out", out), _say(quiet)
    if fresh and ensemble_directory.is_ensemble(folder):
        _set_aside(folder, say, what="ensemble")
    build.build(
        [Path(_path(run)) for run in several],
        folder,
        select=select,
        most=most,
        seed=seed,
        data_path=str(data),
        say=say,
    )
    return Run(folder)


def score(
    data: SpikeData,
    rates: Float[NDArray, "R T N"],
    train_rates: Float[NDArray, "S T N"] | None = None,
) -> dict[str, float]:
    """The benchmark's scores of the rates of any method.

    Args:
      data: the recording, with the held-out counts of its evaluated trials.
      rates: of the evaluated trials, expected counts per bin, 0 or more: neurons held-in then
        held-out, bins observed then, perhaps, forward.
      train_rates: of the training trials, to which the decoder of behaviour is fitted; without
        them behaviour is not scored.

    Returns:
      Scores by name, such as ``co_bps`` (bits per spike of held-out neurons).

    Raises:
      UserError: the rates do not fit the recording, are negative or not finite, or nothing is known
        to score against.

    Warns:
      UserWarning: the mean rate is more than 20 times the mean count, as of rates in spikes/s.
    """
    _check_data(data, needed=True)
    targets = hdf5.targets_of(data)
    arrays = {"eval": _array("eval", rates)}
    if train_rates is not None:
        arrays["train"] = _array("train", train_rates)
    _warn_hz(arrays["eval"], data)
    kind = "none" if train_rates is None else scoring.kind_of(targets)
    return scoring.score(submission.of_arrays(arrays, data), targets, kind=kind)


def baseline(
    data: SpikeData, kind: Literal["smoothing", "psth", "truth"] = "smoothing"
) -> dict[str, float]:
    """Scores of a method that needs no network.

    Args:
      data: the recording, with the held-out counts of its evaluated trials.
      kind: ``smoothing``, smoothed spikes and a Poisson regression to the held-out neurons;
        ``psth``, the mean of every condition; ``truth``, the true rates of a simulation, which no
        method can beat.

    Raises:
      UserError: an unknown kind, or the recording lacks what it needs.
    """
    _check_data(data, needed=True)
    if not isinstance(kind, str) or kind not in _BASELINES:
        raise UserError(f"{kind!r} is no baseline; choose one of {', '.join(_BASELINES)}")
    targets = hdf5.targets_of(data)
    return scoring.score(_BASELINES[kind](data), targets, kind=scoring.kind_of(targets))


def write_report(run: str | Path | Run, out: str | Path, *, figures: bool = True) -> Path:
    """Writes one HTML file about a run: scores, rates, training, figures.

    Args:
      run: the run.
      out: the file to write.
      figures: whether to draw figures, which takes most of the time.

    Raises:
      UserError: it is no run, or the file cannot be written.
    """
    opened = run if isinstance(run, Run) else load_run(run)
    return page.write(
        opened.path,
        checked_path("out", out),
        data_path=opened.data_path,
        targets_path=opened.targets_path,
        figures=figures,
    )


def make_train(config: ConfigDict | Config | Mapping[str, Any], data: SpikeData) -> Fit:
    """Training as a pure function of one model's hyperparameters, for JAX's transformations.

    Args:
      config: what to train; its ``population`` has no effect.
      data: what to train on.

    Returns:
      ``fit(hyper) -> Trained``; see :class:`stndt_jax.training.functional.Fit`.

    Raises:
      UserError: the configuration does not fit the data.

    Example:
      >>> fit = stndt_jax.make_train(config, data)
      >>> states = jax.vmap(fit)(stndt_jax.hypers(config))
    """
    _check_data(data, needed=True)
    return Fit(setup.prepare(_config(config, data=data), data))


def make_predict(config: ConfigDict | Config | Mapping[str, Any], data: SpikeData) -> Predict:
    """Inference as a pure function, for JAX's transformations.

    The counts that the function takes are not checked, except for their shape: negative ones,
    fractions and NaN give meaningless rates. :meth:`Run.predict` checks them.

    Args:
      config: of the model.
      data: the recording that it was trained on, which says the sizes.

    Returns:
      ``predict(params, hyper, counts) -> rates``, of one model; see
      :class:`stndt_jax.training.functional.Predict`.

    Raises:
      UserError: the configuration does not fit the data.
    """
    _check_data(data, needed=True)
    return Predict(setup.prepare(_config(config, data=data), data))


def hypers(config: ConfigDict | Config | Mapping[str, Any], population: int | None = None) -> Hyper:
    """The hyperparameters of all members: leaves of shape (K,), to be given to ``jax.vmap(fit)``.

    Members differ in their seed, and in what ``config.members`` lists.

    Args:
      config: of the population.
      population: K, in place of ``config.population``.

    Raises:
      UserError: a key or value of the configuration is wrong.
    """
    return jax.tree.map(jnp.asarray, schema.hyper(_config(config, population)))


def _chosen(
    config: Any, population: int | str | None, data: SpikeData | None, path: Path
) -> tuple[Config, SpikeData, list[str]]:
    """The checked configuration, the recording, and what this chose of the configuration.

    Raises:
      UserError: a key or value is wrong, or the recording cannot be read.
    """
    notes: list[str] = []
    if not isinstance(config, Config):
        config = schema.as_mapping(config)
        if automatic.open_keys(config):
            data = automatic.recording(config) if data is None else data
            config, notes = automatic.filled(config, data)
    checked = _config(config, population)
    if data is None:
        checked = recording.or_own(checked, path)
        data = recording.read(checked)
    return checked, data, notes


def _config(
    config: Any, population: int | str | None = None, data: SpikeData | None = None
) -> Config:
    """The checked configuration, with another number of members if one is given.

    Args:
      config: as the user gave it.
      population: members.
      data: the recording that chooses what is open.

    Raises:
      UserError: a key or value is wrong.
    """
    if data is not None and not isinstance(config, Config):
        config, _ = automatic.filled(schema.as_mapping(config), data)
    checked = schema.as_config(config)
    if population is None or population == "auto":
        return checked
    values = schema.to_mapping(checked) | {"population": population}
    return schema.from_mapping(values)


def _check_data(data: Any, *, needed: bool = False) -> None:
    """Refuses what is no recording.

    Raises:
      UserError: it is not.
    """
    if not isinstance(data, SpikeData) and (needed or data is not None):
        raise UserError(
            f"data is a {type(data).__name__}; give a recording, as "
            f"SpikeData.from_arrays(counts, bin_ms=5) or load_data(path) returns it"
        )


def _array(split: str, rates: Any) -> NDArray:
    """Rates as an array of real numbers."""
    try:
        found = np.asarray(rates)
    except ValueError:
        raise UserError(
            f"the {split} rates are lists of unequal length; give one array (trials, bins, neurons)"
        ) from None
    if found.dtype.kind not in "buif":
        raise UserError(f"the {split} rates have type {found.dtype}; give real numbers")
    return found


def _warn_hz(rates: NDArray, data: SpikeData) -> None:
    """Warns of rates that look like spikes/s: their mean is over 20 times that of the counts."""
    counts = float(data.train.heldin.mean())
    if counts and rates.size and float(rates.mean()) > 20 * counts:
        warnings.warn(
            f"the rates are {rates.mean() / counts:.0f} times the counts; rates are expected "
            f"counts per bin: if these are in spikes/s (Hz), multiply by {data.bin_ms / 1000:g}",
            UserWarning,
            stacklevel=3,
        )


def _set_aside(path: Path, say: Callable[[str], None], what: str = "run") -> None:
    """Moves an old run to a free name beside it, unless a process is at work in it."""
    directory.check_free(path)
    directory.make(path)
    with Lock(path):
        pass
    if old := directory.set_aside(path):
        say(f"moved the old {what} to {old}")


def _path(run: str | Path | Run) -> str:
    if isinstance(run, str):
        return run
    return str(run.path if isinstance(run, Run) else checked_path("run", run))


def _say(quiet: bool) -> Callable[[str], None]:
    return (lambda _: None) if quiet else print


__all__ = [
    "Config",
    "Dims",
    "Fit",
    "Hyper",
    "Predict",
    "Run",
    "SpikeData",
    "UserError",
    "baseline",
    "build_ensemble",
    "get_config",
    "hypers",
    "load_data",
    "load_run",
    "make_predict",
    "make_train",
    "score",
    "simulate",
    "train",
    "write_report",
]
