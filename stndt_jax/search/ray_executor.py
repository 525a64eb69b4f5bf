"""Workers on a Ray cluster, one for each GPU, or on CPUs. Only this module imports Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from stndt_jax.console.lines import counted
from stndt_jax.errors import UserError
from stndt_jax.search import executor
from stndt_jax.search.worker import Plan

# By default Ray hides GPUs from the driver and from CPU actors; the default is about to change,
# of which it warns.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class _Trainer:
    """A Ray actor: a process on some node of the cluster."""

    def train(self, run: str, plan: Plan) -> str | None:
        return executor.train(Path(run), plan)

    def process(self) -> int:
        return os.getpid()


class RayPool:
    """Ray actors that train; see :class:`stndt_jax.search.executor.Pool`."""

    def __init__(self, workers: int, gpus: float) -> None:
        self._new = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Trainer).remote
        self._free: list[Any] = [self._new() for _ in range(workers)]
        self._busy: dict[Any, tuple[Any, Path]] = {}

    def free(self) -> int:
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
            except ray.exceptions.RayActorError:
                found.append((run, executor.LOST))
                actor = self._new()
            self._free.append(actor)
        return found

    def processes(self) -> list[int]:
        """Process ids of the idle actors."""
        return ray.get([actor.process.remote() for actor in self._free])


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
    try:
        ray.init(address=address or "local", log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--ray-address={address} cannot be used ({str(error).splitlines()[0]}); start a "
            f"cluster with ray start --head, or leave the flag out to start one on this machine"
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
