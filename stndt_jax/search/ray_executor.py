"""Workers on a Ray cluster: one actor a GPU, or some on CPUs; the only importer of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from stndt_jax.errors import UserError
from stndt_jax.search import executor
from stndt_jax.search.worker import Plan

# Ray would hide the GPUs from drivers and CPU actors, and warns that it will not for much longer.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


class _Trainer:
    """An actor: a process of its own on some node."""

    def train(self, run: str, plan: Plan) -> str | None:
        return executor.train(Path(run), plan)

    def process(self) -> int:
        return os.getpid()


class RayPool:
    """Actors that train, replaced as they die."""

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
        """Process numbers of the free actors."""
        return ray.get([actor.process.remote() for actor in self._free])


@contextmanager
def pool(address: str, workers: int) -> Iterator[RayPool]:
    """Workers on a cluster that is there, or on one that is started here and ends with this.

    Args:
      address: of a running cluster, or auto for the one that this machine is part of; empty to
        start one.
      workers: how many; 0 for one a GPU, or one where there is none.

    Raises:
      UserError: the cluster cannot be reached, or has fewer GPUs or processors than that.
    """
    here: dict[str, Any] = {} if address else {"num_cpus": max(workers, os.cpu_count() or 1)}
    try:
        ray.init(address=address or "local", log_to_driver=False, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--ray-address={address} cannot be used ({str(error).splitlines()[0]}); start a "
            f"cluster with ray start --head, or leave the flag out to start one here"
        ) from error
    try:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        workers = workers or gpus or 1
        if workers > (gpus or there.get("CPU", 0)):
            raise UserError(
                f"--workers={workers}, but the cluster has {gpus} GPUs and "
                f"{there.get('CPU', 0):.0f} processors; give fewer"
            )
        yield RayPool(workers, 1.0 if gpus else 0.0)
    finally:
        ray.shutdown()
