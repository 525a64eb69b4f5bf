"""The training loop.

A run takes its weights from the first of these that there is:

1. the newest whole checkpoint of its own run directory, if the configuration and the data are
   the same;
2. the weights of another run, where ``finetune`` names one;
3. a new initialisation.

However often a run is stopped, killed and started again, its weights, metrics and selection equal
those of an uninterrupted run bit for bit: a step is a function of its number, and chunks of steps
may be cut anywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stndt_jax.config.schema import Config
from stndt_jax.console import progress
from stndt_jax.console.lines import counted
from stndt_jax.data import benchmark_targets
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import Diverged, Interrupted, UserError
from stndt_jax.parallel import lifts, multihost
from stndt_jax.runs import directory, recording
from stndt_jax.runs.checkpoint import Checkpoints
from stndt_jax.runs.lock import Lock, LockLost
from stndt_jax.runs.log import RunLog, Silent, append
from stndt_jax.runs.signals import Stop, in_thread
from stndt_jax.training import compaction, memory, population, setup
from stndt_jax.training.population import Initialisation, Member
from stndt_jax.training.setup import Setup

# A chunk of training should take about this long: a signal waits for it, so does the progress.
CHUNK_S = 1.0

# The compiled chunk: ``(members, first step, steps, report) -> (members, metrics)``.
Chunk = Callable[[Member, int, int, bool], Any]

# After a validation, which members continue: ``(epoch, best co-bps of each member) -> bool of
# each``. It must answer the same when it is asked again of the same run.
Pruner = Callable[[int, np.ndarray], np.ndarray]


def train(
    config: Config,
    data: SpikeData,
    path: Path,
    *,
    quiet: bool = False,
    extend: bool = False,
    initialisation: Initialisation | None = None,
    pruner: Pruner | None = None,
    notes: Sequence[str] = (),
) -> list[str]:
    """Trains a population and leaves a run directory.

    Args:
      config: what to train.
      data: what to train it on.
      path: the run directory, new or one to continue.
      quiet: print nothing.
      extend: continue a run that had fewer epochs.
      initialisation: weights to begin with and parts to freeze; None initialises all and freezes
        nothing.
      pruner: says after each validation which members continue; None lets all.
      notes: sentences for the log, about the configuration.

    Returns:
      How each member ended: ``finished``, ``stopped`` or ``diverged``.

    Raises:
      UserError: the configuration does not fit the data, the directory holds another run, is
        in use or cannot be written.
      Diverged: every member diverged, or one did and ``train.on_divergence`` is ``stop``.
      Interrupted: a signal asked to stop; the run is saved.
    """
    setup.check(config, data.dims)
    benchmark_targets.check_selects_nothing(config.data.targets)
    verify: Callable[[], None] = _unverified
    with contextlib.ExitStack() as held:
        held.enter_context(progress.shown(quiet or not multihost.first()))
        with multihost.together():
            if multihost.first():
                directory.check_free(path)
                directory.make(path)
                verify = held.enter_context(Lock(path)).check
        stop = held.enter_context(Stop())
        with multihost.together():
            if multihost.first():
                directory.open_run(path, config, data, extend=extend)
        ending, watch = "failed", recording.Watch(config, data)
        try:
            run = _Run(setup.prepare(config, data), data.name, path, stop, verify, initialisation)
            endings = run.train(quiet, pruner, notes)
            ending = "finished"
            return endings
        except Interrupted as error:
            ending = f"interrupted: {error}"
            raise
        except LockLost:
            # The directory is somebody else's now.
            ending = ""
            raise
        except (Diverged, UserError) as error:
            ending = str(error)
            raise
        finally:
            if multihost.first() and ending:
                _say_if_changed(watch, path)
                directory.note_end(path, ending)


def _say_if_changed(watch: recording.Watch, path: Path) -> None:
    """Says on the screen and in the log if the recording changed while it was trained on."""
    if sentence := watch.changed():
        warnings.warn(sentence, stacklevel=2)
        # A full disk, which may have ended the training, is reported by its own error.
        with contextlib.suppress(UserError):
            append(path, sentence)


def _unverified() -> None:
    """Verifies nothing; for processes that hold no lock because the first one does."""


class _Run:
    """One process's work on a run directory: initialise or restore, compile, train."""

    def __init__(
        self,
        made: Setup,
        name: str,
        path: Path,
        stop: Stop,
        verify: Callable[[], None],
        initialisation: Initialisation | None,
    ) -> None:
        self.setup, self.name, self.path, self.stop = made, name, path, stop
        self.config, self.initialisation = made.config, initialisation
        self.grid = _grid(made)
        self.hyper = multihost.placed(made.hyper, lifts.of_members(self.grid))
        self.trials = multihost.placed((made.train, made.valid), lifts.of_all(self.grid))
        self.checkpoints, self.verify = Checkpoints(path / "checkpoints", verify=verify), verify

    def train(self, quiet: bool, pruner: Pruner | None, notes: Sequence[str]) -> list[str]:
        """Trains to the end and says how each member ended."""
        with progress.task("initialising"):
            at, shapes, members = self._start()
        began = at / self.setup.arch.steps_per_epoch
        epochs = self.config.train.epochs
        with multihost.together():
            log = RunLog(self.path, epochs, began, quiet) if multihost.first() else Silent()
        try:
            for note in notes:
                log.say(note)
            self._describe(log, at)
            with progress.task("compiling"):
                chunk = self._compile(shapes, at, log)
                begun = members()
            loop = _Loop(self.setup, self.checkpoints, log, self.stop, self.verify, pruner)
            at, trained = loop.run(chunk, begun, at)
            try:
                return _endings(trained, log)
            finally:
                # After the scores are said, which may be all that is left on a full disk.
                self.checkpoints.save(at, trained)
        except Interrupted as error:
            log.note(str(error))
            raise
        finally:
            log.close()

    def _start(self) -> tuple[int, Member, Callable[[], Member]]:
        """The step the members are at, their shapes, and what waits for the members themselves.

        They are those of the checkpoint, or new: a thread compiles and runs the initialisation
        while the chunk is compiled.
        """
        placed = lifts.of_members(self.grid)
        init = population.make_init(self.setup.arch, self.grid)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
            jax.eval_shape(init, self.hyper),
        )
        statistics = self.setup.statistics
        if self.checkpoints.latest is not None:
            at, members = self.checkpoints.load(shapes, placed)
            return at, shapes, lambda: members
        if self.initialisation is None:
            if statistics is not None:
                statistics = multihost.placed(statistics, lifts.of_all(self.grid))
            return 0, shapes, in_thread(lambda: init(self.hyper, statistics)).result
        # Weights are put into one member after another, which needs them all on one device.
        fresh = population.make_init(self.setup.arch)(jax.device_put(self.setup.hyper), statistics)
        begun = multihost.placed(self.initialisation.apply(fresh), placed)
        return 0, shapes, lambda: begun

    def _describe(self, log: RunLog | Silent, at: int) -> None:
        """What is trained, on what, and from where."""
        config, dims, grid = self.config, self.setup.dims, self.grid
        factors = f" read in to {config.model.width} factors" if config.model.width else ""
        for sentence in self.checkpoints.found:
            log.say(sentence)
        log.say(
            f"{config.population} x {'STNDT' if config.model.spatial else 'NDT'} on {self.name}: "
            f"{counted(self.setup.train.counts.shape[0], 'training trial')} in batches of "
            f"{self.setup.batch}, "
            f"{dims.bins_observed} + {dims.bins_forward} bins, {dims.heldin} + {dims.heldout} "
            f"neurons{factors}; {self.setup.selection}"
        )
        if grid is not None:
            log.say(
                f"on {grid.size} devices, {grid.shape['member']} for members x "
                f"{grid.shape['data']} for the trials of a batch"
                + f", of {jax.process_count()} processes" * (jax.process_count() > 1)
                + ", under pmap" * (config.parallel.engine == "pmap")
            )
        if at:
            epoch = at / self.setup.arch.steps_per_epoch
            log.say(f"continuing from the checkpoint at epoch {epoch:g} of {config.train.epochs}")
        else:
            new = self.initialisation
            log.say(new.sentence if new else "training from newly initialised weights")

    def _compile(self, shapes: Member, at: int, log: RunLog | Silent) -> Chunk:
        """The compiled chunk of training, for the whole population and what is left of it."""
        config, made = self.config, self.setup
        frozen = self.initialisation.frozen if self.initialisation else None

        def lowered(size: int, *given: Any) -> Any:
            some = dataclasses.replace(config, population=size)
            chunk = population.make_chunk(
                some, made.arch, made.batch, made.valid is not None, self.grid, frozen
            )
            return chunk.lower(*given)

        def smaller(size: int, *given: Any) -> Any:
            those = (
                "continues in a program of its" if size == 1 else "continue in a program of their"
            )
            log.say(f"{size} of {config.population} members {those} own")
            with progress.task("compiling"):
                return lowered(size, *given).compile()

        scalars = (np.int32(0), np.int32(0), np.bool_(False))
        whole = lowered(config.population, shapes, self.hyper, *self.trials, *scalars)
        run = self.stop.while_waiting(whole.compile, self._not_begun(at))
        if compaction.helps(config, self.grid, made.valid is not None):
            again = config.train.restarts if config.train.on_divergence == "restart" else 0
            run = compaction.Compacted(run, smaller, self.grid, again)

        def chunk(members: Member, at: int, steps: int, report: bool) -> Any:
            numbers = (np.int32(at), np.int32(steps), np.bool_(report))
            return run(members, self.hyper, *self.trials, *numbers)

        return chunk

    def _not_begun(self, at: int) -> str:
        """What a signal during compilation leaves, from step number ``at``."""
        if not at:
            return (
                "stopped while compiling: nothing was trained yet, so there was nothing to save; "
                "the same command starts again"
            )
        epoch = at / self.setup.arch.steps_per_epoch
        return (
            f"stopped while compiling: nothing new was trained; the checkpoint at epoch {epoch:g} "
            f"of {self.config.train.epochs} is kept, and the same command continues from there"
        )


def _grid(made: Setup) -> Any:
    """The devices this run is spread over.

    Raises:
      UserError: there are not so many, or they cannot share a batch.
    """
    config, batch = made.config, made.batch
    data, members = config.parallel.data, config.population
    if batch % data:
        raise UserError(
            f"config.parallel.data is {data}, which does not divide the "
            f"{counted(batch, 'trial')} of a batch; choose a divisor, or change config.train.batch"
        )
    try:
        if config.parallel.engine == "pmap" and data > 1:
            # Every device has all members then.
            grid = lifts.mesh(1, data, data)
        else:
            devices = config.parallel.devices or memory.cpu_devices(config, made.dims, batch)
            grid = lifts.mesh(members, data, devices)
    except ValueError as error:
        raise UserError(
            f"{error}; lower config.parallel.devices or config.parallel.data"
        ) from error
    if jax.process_count() > 1 and config.parallel.engine == "pmap":
        raise UserError(
            "config.parallel.engine is pmap, which is for the devices of one process; take mesh "
            "on several, or one process for all devices of a machine"
        )
    used = grid.size if grid is not None else 1
    if jax.process_count() > 1 and used != jax.device_count():
        raise UserError(
            f"{members} members x config.parallel.data={data} take {used} of the "
            f"{jax.device_count()} devices of {jax.process_count()} processes, which must all be "
            f"used; choose a config.population that {jax.device_count()} / config.parallel.data "
            f"divides, or fewer processes"
        )
    return grid


class _Loop:
    """Portions until the last epoch, or until no member is active."""

    def __init__(
        self,
        made: Setup,
        checkpoints: Checkpoints,
        log: RunLog | Silent,
        stop: Stop,
        verify: Callable[[], None],
        pruner: Pruner | None,
    ) -> None:
        self.config, self.arch, self.batch = made.config, made.arch, made.batch
        self.verify = verify
        self.checkpoints, self.log, self.stop, self.pruner = checkpoints, log, stop, pruner
        self.announced: set[tuple[int, int]] = set()

    def run(self, chunk: Callable, members: Member, at: int) -> tuple[int, Member]:
        """Trains on from step number ``at``; the last step's number and the members, not saved."""
        per_epoch = self.arch.steps_per_epoch
        last = self.config.train.epochs * per_epoch
        every = self.config.train.validate_every * per_epoch
        self.stop.saves = True
        self.log.progress(at / per_epoch)
        size, since, trials = 1, time.monotonic(), 0
        saved = time.monotonic()
        active = multihost.whole(members.state.active)
        # Members end or begin again at validations only, so that is where the run may end.
        while at < last and (at % every or active.any()):
            end = min((at // every + 1) * every, last)
            steps = min(size, end - at)
            report = at + steps == end
            began = time.monotonic()
            trials += int(active.sum()) * steps * self.batch
            members, metrics = chunk(members, at, steps, report)
            values = {name: np.asarray(value) for name, value in metrics.items()}
            active, now = values["active"], time.monotonic()
            due = now - saved >= self.config.train.save_every_s
            size, due = self._agreed(_next_size(size, steps, now - began), due)
            at += steps
            if report:
                row = {name: [float(v) for v in value] for name, value in values.items()}
                speed = trials / (now - since)
                self.verify()
                self.log.metrics({"epoch": at // per_epoch, **row}, _words(values, speed))
                since, trials = now, 0
                self._say_who_stopped(values, at // per_epoch)
                if self.pruner is not None:
                    keep = self._pruned(at // per_epoch, values)
                    members, active = population.only(members, keep), active & keep
            else:
                self.log.progress(at / per_epoch)
            if self.stop.signal is not None or due:
                self.checkpoints.save(at, members)
                saved = time.monotonic()
            diverged = np.flatnonzero(~values["healthy"])
            if self.config.train.on_divergence == "stop" and diverged.size:
                self.checkpoints.save(at, members)
                raise Diverged(_advice(f"member {diverged[0]} diverged"))
            self.stop.check(
                f"stopped at epoch {at / per_epoch:g} of {self.config.train.epochs} and saved; the "
                f"same command continues from there"
            )
        return at, members

    def _pruned(self, epoch: int, metrics: dict[str, np.ndarray]) -> np.ndarray:
        """Which members the pruner lets continue; logs the others."""
        assert self.pruner is not None
        keep = self.pruner(epoch, metrics["best_cobps"])
        out = [int(k) for k in np.flatnonzero(~keep & metrics["active"].astype(bool))]
        if out:
            self.announced |= {(k, -1) for k in out}
            who = (
                f"member {out[0]} ends"
                if len(out) == 1
                else f"members {', '.join(map(str, out))} end"
            )
            self.log.say(f"{who} after epoch {epoch}: pruned")
        return keep

    def _agreed(self, size: int, due: bool) -> tuple[int, bool]:
        """The next chunk and whether to save, as process 0 has it; anybody's signal is all's."""
        everyone = multihost.gathered([self.stop.signal or 0, size, due])
        self.stop.signal = int(everyone[:, 0].max()) or None
        return int(everyone[0, 1]), bool(everyone[0, 2])

    def _say_who_stopped(self, metrics: dict[str, np.ndarray], epoch: int) -> None:
        for k, restarts in enumerate(metrics["restarts"]):
            if restarts and (k, int(restarts)) not in self.announced:
                self.announced.add((k, int(restarts)))
                self.log.say(
                    f"member {k} diverged by epoch {epoch}; it begins again from its best weights "
                    f"at {0.5**restarts:g} of its learning rate"
                )
        for k in map(int, np.flatnonzero(~metrics["active"])):
            if (k, -1) not in self.announced:
                self.announced.add((k, -1))
                why = "stopped improving" if self.pruner is None else "has stopped"
                why = why if metrics["healthy"][k] else "diverged and is frozen"
                self.log.say(f"member {k} {why} by epoch {epoch}; the others continue")


def _next_size(size: int, steps: int, seconds: float) -> int:
    """Steps of the next chunk, towards ``CHUNK_S``, at most doubling."""
    if steps < size and seconds < CHUNK_S:
        return size
    return max(1, min(2 * steps, round(steps * CHUNK_S / max(seconds, 1e-6))))


def _words(metrics: dict[str, np.ndarray], trials_per_s: float) -> str:
    """One validation in words: over members, the mean losses and the range of co-bps."""

    def mean(name: str) -> str:
        values = metrics[name][np.isfinite(metrics[name])]
        return f"{values.mean():.4f}" if values.size else "-"

    words = f"loss {mean('train_masked_loss')}"
    if "valid_cobps" in metrics:
        words += f"  valid {mean('valid_masked_loss')}  co-bps {mean('valid_cobps')}"
        words += f"  best {np.max(metrics['best_cobps']):.4f}"
    return f"{words}  {trials_per_s:.0f} trials/s"


def _endings(members: Member, log: RunLog | Silent) -> list[str]:
    healthy, active = multihost.whole((members.state.healthy, members.state.active))
    chosen = members.selection.cobps
    best, epochs = multihost.whole((chosen.value, chosen.epoch))
    endings = [
        "diverged" if not h else "finished" if a else "stopped"
        for h, a in zip(healthy, active, strict=True)
    ]
    if not healthy.any():
        raise Diverged(_advice("every member diverged"))
    for k, ending in enumerate(endings):
        where = f"best co-bps {best[k]:.4f} after epoch {int(epochs[k])}"
        log.say(f"member {k} {ending}" + (f", {where}" if np.isfinite(best[k]) else ""))
    return endings


def _advice(what: str) -> str:
    return (
        f"{what}: the loss, its gradient or a weight was not finite; lower "
        f"config.optimizer.learning_rate, lengthen config.optimizer.warmup_epochs, or set "
        f"config.train.on_divergence=restart, in another directory"
    )
