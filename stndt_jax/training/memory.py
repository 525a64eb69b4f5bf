"""How many members fit into a device's memory, measured on the compiled program itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stndt_jax.config import schema
from stndt_jax.config.schema import Config
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError
from stndt_jax.parallel import multihost
from stndt_jax.runs import directory
from stndt_jax.training import batches, population, step
from stndt_jax.training.step import Batch
from stndt_jax.types import Dims

# The fraction of free memory that members may use; the rest is for checkpoints being written,
# fragmentation and other programs.
USED = 0.8
MOST = 2**16


def members(
    config: Config, dims: Dims, train: Batch, valid: Batch | None, free: int | None = None
) -> int:
    """The largest population whose training fits into the memory of the devices.

    The memory of a population's program is a constant (the recording and, where members train one
    after another, the working memory of one) plus a multiple of the number of members; programs of
    two and of three members give both numbers. A program of one member is smaller than the line.

    Args:
      config: of the run; its ``population`` is ignored.
      dims: sizes of a trial.
      train: trials to train on.
      valid: trials that select.
      free: bytes that may be used on a device; by default, four fifths of what is free now.

    Raises:
      UserError: not one member fits, or the members have values of their own.
    """
    if config.members:
        raise UserError(
            f"population auto chooses how many members there are, but config.members."
            f"{next(iter(config.members))} lists them; give a number, or no such lists"
        )
    free = int(USED * available()) if free is None else free
    two, three = (needed(config, dims, train, valid, K) for K in (2, 3))
    fitting = min(2 + (free - two) // max(three - two, 1), MOST)
    one = needed(config, dims, train, valid, 1) if fitting < 2 else 0
    fitting = max(fitting, 1)
    if one > free:
        raise UserError(
            f"one member needs {one / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free; lower "
            f"config.train.batch, set config.model.remat=true, or take a device with more memory"
        )
    if config.parallel.engine == "pmap" and config.parallel.data > 1:
        return fitting  # every device holds all members
    devices = config.parallel.devices or jax.device_count()
    side = max(devices // config.parallel.data, 1)
    return min(fitting, MOST // side) * side


def filled(config: Config, data: SpikeData, run: Path) -> Config:
    """The configuration with as many members as fit, or as an existing run has.

    Args:
      config: of the run.
      data: what it is trained on.
      run: its directory, new or to be continued.

    Raises:
      UserError: as :func:`members`.
    """
    if (run / "config.json").exists():
        return dataclasses.replace(config, population=directory.read_config(run).population)
    with multihost.together():
        train, valid, _ = batches.split(config, data)
        count = members(config, data.dims, train, valid)
    return dataclasses.replace(config, population=int(multihost.gathered([count]).min()))


def needed(config: Config, dims: Dims, train: Batch, valid: Batch | None, members: int) -> int:
    """Bytes that the training of a number of members takes on one device."""
    config = dataclasses.replace(config, population=members)
    trials = train.counts.shape[0]
    batch = min(config.train.batch, trials)
    arch = step.arch(config, dims, trials // batch)
    state, hyper = population.abstract(config, arch)
    chunk = population.make_chunk(config, arch, batch, valid is not None)
    shapes: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (hyper, train, valid)
    )
    scalars = (np.int32(0), np.int32(0), np.bool_(False))
    found = chunk.lower(state, *shapes, *scalars).compile().memory_analysis()
    own = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(own + found.temp_size_in_bytes + found.generated_code_size_in_bytes)


def cpu_devices(config: Config, dims: Dims, batch: int) -> int:
    """How many devices a CPU's members may be spread over; 0 for all, of accelerators too.

    Each works on a member of its own, so that their working memory adds up. It is estimated from
    the sizes that matter, to within a factor of two.
    """
    here = jax.local_device_count()
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return 0
    model, T, D = config.model, dims.bins, schema.stream_width(config.model, dims)
    kept = 16 * T * D + 3 * model.heads * (T * T + D * D)
    # Of all memory, not of what is free: a run that continues is spread as before.
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fitting = int(USED * whole / (4 * batch * model.layers * kept))
    return max(config.parallel.data, 1, min(fitting, here))


def available() -> int:
    """Bytes free on a device; of a CPU, the machine's memory that is free now."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        raise UserError(
            "this system does not report how much memory is free; give population a number"
        ) from None
    free = next(line for line in lines if line.startswith("MemAvailable:"))
    # The devices that a CPU is divided into share it.
    return int(free.split()[1]) * 1024 // jax.local_device_count()
