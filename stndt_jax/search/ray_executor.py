"""Workers on a Ray cluster, one for each GPU, or on CPUs. Only this module imports Ray.

This is how a search uses more than one machine. The search directory and the recording must have
the same path on all of them. The driver, which is the process of ``stndt search``, samples trials
and writes the study; actors train run directories.

* An actor that dies, alone or with its node, is replaced; its population is resumed from its last
  checkpoint by the next free actor.
* If the driver dies, Ray ends its actors. The same command continues the search. Should an actor
  survive (a broken network), it holds the lock of its run directory, so that no other actor trains
  there until it has ended.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from stndt_jax.console.lines import counted, one_line
from stndt_jax.errors import UserError
from stndt_jax.search import executor
from stndt_jax.search.worker import Plan

# By default Ray hides GPUs from the driver and from CPU actors; the default is about to change,
# of which it warns.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

# Bytes that the name of the directory for temporary files may have.
_LONGEST = 37


class _Trainer:
    """A Ray actor: a process on some node of the cluster."""

    def train(self, run: str, plan: Plan) -> str | None:
        return executor.train(Path(run), plan)

    def process(self) -> int:
        return os.getpid()


class RayPool:
    """Ray actors that train; see :class:`stndt_jax.search.executor.Pool`.

    An actor that dies, or whose node is gone, is replaced by a new one. That counts as free only
    once it has answered: without a node for it, Ray starts it as soon as there is one.
    """

    def __init__(self, workers: int, gpus: float) -> None:
        """Starts the actors.

        Args:
          workers: how many.
          gpus: of each.
        """
        self._new = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Trainer).remote
        self._free: list[Any] = []
        # The reference to an actor's answer -> that actor, and the run directory that it trains.
        self._starting: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[Any, Path]] = {}
        self._failures = 0
        for _ in range(workers):
            self._start_actor()

    def free(self) -> int:
        if self._starting:
            ready, _ = ray.wait(list(self._starting), num_returns=len(self._starting), timeout=0)
            for reference in ready:
                self._started(reference, self._starting.pop(reference))
        return len(self._free)

    def start(self, run: Path, plan: Plan) -> None:
        actor = self._free.pop(0)
        self._busy[actor.train.remote(str(run), plan)] = (actor, run)

    def ended(self, seconds: float) -> list[tuple[Path, str | None]]:
        ready, _ = ray.wait(list(self._busy), timeout=seconds)
        found = []
        for reference in ready:
            actor, run = self._busy.pop(reference)
            try:
                found.append((run, ray.get(reference)))
                self._free.append(actor)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError:
                found.append((run, executor.LOST))
                self._replace(actor)
        return found

    def processes(self) -> list[int]:
        """Process ids of the idle actors."""
        return ray.get([actor.process.remote() for actor in self._free])

    def _start_actor(self) -> None:
        actor = self._new()
        self._starting[actor.process.remote()] = actor

    def _replace(self, actor: Any) -> None:
        # If only the connection was lost, it must not train beside its successor.
        ray.kill(actor, no_restart=True)
        self._start_actor()

    def _started(self, reference: Any, actor: Any) -> None:
        """Makes an actor free that has answered, and replaces one that died before.

        Raises:
          UserError: several in a row died.
        """
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            self._failures += 1
            if self._failures >= executor.MOST_DEATHS:
                raise UserError(
                    f"{self._failures} workers of the Ray cluster died before they could train "
                    f"({_last_line(error)}); stndt_jax and its packages must be installed in the "
                    f"same versions on all of its machines"
                ) from error
            self._replace(actor)
        else:
            self._failures = 0
            self._free.append(actor)


def _last_line(error: Exception) -> str:
    """The line of Ray's error that gives the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1], 200) if lines else type(error).__name__


def _connect(address: str) -> None:
    """Raises an OSError unless a server is at an address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _temporary() -> str:
    """A directory for Ray's sockets, whose names may have 107 bytes; empty if Ray's own will do."""
    own = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or ""
    # Ray appends up to 70 bytes: /ray/session_2026-01-31_12-00-00_123456_1234567/sockets/...
    return "/tmp/ray" if len(os.fsencode(own)) > _LONGEST else ""


@contextmanager
def pool(address: str, workers: int) -> Iterator[RayPool]:
    """Workers on a running cluster, or on one started on this machine and shut down at the end.

    Args:
      address: of a running cluster, or auto for the one this machine belongs to; empty to start
        one.
      workers: how many; 0 for one per GPU, or one if there is no GPU.

    Raises:
      UserError: the cluster cannot be reached, or has fewer GPUs (without GPUs, processors) than
        workers.
    """
    local: dict[str, Any] = {} if address else {"num_cpus": max(workers, os.cpu_count() or 1)}
    if not address and (folder := _temporary()):
        local["_temp_dir"] = folder
    try:
        _connect(address)
        ray.init(address=address or "local", log_to_driver=False, **local)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or one_line(str(error).splitlines()[0], 200)
        if not address:
            raise UserError(
                f"no Ray cluster can be started on this machine ({reason}); set RAY_TMPDIR to a "
                f"directory with a short name, such as /tmp, or give --ray-address"
            ) from error
        raise UserError(
            f"--ray-address={address} cannot be used ({reason}); start a cluster with ray start "
            f"--head, or leave the flag out to start one on this machine"
        ) from error
    try:
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        workers = workers or gpus or 1
        if workers > (gpus or cpus):
            raise UserError(
                f"--workers={workers}, but the cluster has {counted(gpus, 'GPU')} and "
                f"{counted(cpus, 'processor')}; give fewer"
            )
        yield RayPool(workers, 1.0 if gpus else 0.0)
    finally:
        ray.shutdown()
