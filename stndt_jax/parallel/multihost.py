"""Several processes that train one population: how they connect, and what they agree on.

Every process runs the same command. JAX gives each process its part of every array. This module
adds that only the first process writes (except for the arrays of a checkpoint) and that all
processes decide alike: a process that took one step more than the others, or ended before them,
would leave them waiting forever. With one process, all of this is the identity.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from stndt_jax.errors import UserError

_EXPLICIT = ("STNDT_COORDINATOR", "STNDT_PROCESSES", "STNDT_PROCESS")


def connection(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """How this process finds the others, for ``jax.distributed.initialize``.

    In this order: the three variables STNDT_COORDINATOR (host:port of process 0), STNDT_PROCESSES
    (how many) and STNDT_PROCESS (which, from 0); STNDT_HOSTS=one, which means alone, or auto,
    which leaves it to JAX; a SLURM step of several tasks; a TPU slice of several hosts.

    Returns:
      Keyword arguments, or None if there is one process.

    Raises:
      UserError: the variables are incomplete or not numbers.
    """
    given = {name: environment[name] for name in _EXPLICIT if environment.get(name)}
    if given:
        missing = [name for name in _EXPLICIT if name not in given]
        if missing:
            raise UserError(
                f"{missing[0]} is missing, but {next(iter(given))} is set; set all of "
                f"{', '.join(_EXPLICIT)}, or none"
            )
        address, count, which = given.values()
        if not (count.isdecimal() and which.isdecimal() and int(which) < int(count)):
            raise UserError(
                f"STNDT_PROCESS is {which} and STNDT_PROCESSES is {count}; give a number of "
                f"processes and, counting from 0, the number of this one"
            )
        if not address.rpartition(":")[2].isdecimal() or ":" not in address:
            raise UserError(f"STNDT_COORDINATOR is {address}; give host:port of process 0")
        if int(count) == 1:
            return None
        return {
            "coordinator_address": address,
            "num_processes": int(count),
            "process_id": int(which),
        }
    wish = environment.get("STNDT_HOSTS", "")
    if wish not in ("", "one", "auto"):
        raise UserError(f"STNDT_HOSTS is {wish}; it may be one or auto")
    if wish:
        return {} if wish == "auto" else None
    # Both variables belong to a job step: a batch script without srun is one process.
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
    if "SLURM_STEP_NODELIST" in environment and tasks.isdecimal() and int(tasks) > 1:
        return {"num_processes": int(tasks)}
    slice_ = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    return {} if "," in slice_ else None


def join() -> None:
    """Joins the other processes, if there are any; before JAX has looked for devices.

    Raises:
      UserError: they were not found.
    """
    how = connection(os.environ)
    if how is None or jax.distributed.is_initialized():
        return
    devices = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if os.environ.get("STNDT_CORES", "") == str(devices):
        # Processes are the devices here.
        jax.config.update("jax_num_cpu_devices", 1)
    try:
        jax.distributed.initialize(**how)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the other processes were not found ({reason}); see stndt train --help on several "
            f"hosts, or set STNDT_HOSTS=one to train on this one alone"
        ) from error


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def gathered(numbers: list[int]) -> np.ndarray:
    """Every process's numbers, one row a process."""
    mine = np.asarray(numbers, np.int32)
    if jax.process_count() == 1:
        return mine[None]
    return np.asarray(multihost_utils.process_allgather(mine))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """If the block fails in one process, it fails in all, so that none waits for one that ended.

    Raises:
      UserError: this process's own error, or that another process failed.
    """
    own = None
    try:
        yield
    except UserError as error:
        own = error
    failed = np.flatnonzero(gathered([own is not None]))
    if own is not None:
        raise own
    if failed.size:
        raise UserError(f"process {failed[0]} failed; see the message that it printed")


def placed(tree: Any, sharding: Any) -> Any:
    """Arrays that every process has, placed by a sharding; each process keeps its part."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> Any:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree)


def whole(tree: Any) -> Any:
    """Arrays spread over processes, as numpy arrays on each."""

    def fetch(leaf: Any) -> np.ndarray:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)
