"""Saves checkpoints of arrays that are spread over all devices, one after the other.

    python tests/helpers/sharded_saves.py FOLDER FIRST LAST

prints a line, "saved NUMBER", once a checkpoint is saved. Number N holds the arrays of ``tree(N)``.
With the variables of ``multihost.connection``, the devices are those of several processes.
``test_checkpoint.py`` kills it, and reads what it has saved with other devices.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

ROWS = 8


def tree(number: int) -> dict[str, Any]:
    """What checkpoint ``number`` holds, as numpy arrays whose first axis has ``ROWS`` entries."""
    rng = np.random.default_rng(number)
    # Not compressible, so that files are as large as their arrays.
    large = rng.integers(0, 2**32, (ROWS, 250_000), np.uint32)
    small = rng.standard_normal((ROWS, 3)).astype(np.float32)
    return {"large": large, "small": small, "step": np.full(ROWS, number, np.int32)}


def main(folder: Path, first: int, last: int) -> None:
    """Saves checkpoints ``first`` to ``last``."""
    from stndt_jax.parallel import lifts, multihost
    from stndt_jax.runs.checkpoint import Checkpoints

    multihost.join()
    sharding = lifts.of_members(lifts.mesh(ROWS))
    checkpoints = Checkpoints(folder)
    if checkpoints.latest is not None:
        # What goes on from a checkpoint reads it first, on its own devices.
        number, found = checkpoints.load(tree(0), sharding)
        for name, wanted in tree(number).items():
            assert found[name].sharding == sharding
            np.testing.assert_array_equal(multihost.whole(found[name]), wanted)
    for number in range(first, last + 1):
        checkpoints.save(number, multihost.placed(tree(number), sharding))
        if multihost.first():
            print("saved", number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
