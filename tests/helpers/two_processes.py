"""Gradients of a population spread over the devices of several processes, each of which runs this.

    launch/local_multiprocess.sh 2 python tests/helpers/two_processes.py OUT 1 2 4 8

writes ``OUT/1.npz`` and so on: totals, contrastive losses and all slopes, with so many devices for
the trials of a batch. ``test_hosts.py`` compares them with those of one device.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stndt_jax.parallel import multihost


def main(out: Path, sides: list[str]) -> None:
    """Writes the gradients on each grid."""
    multihost.join()
    import jax
    import numpy as np
    import test_devices

    from stndt_jax.parallel import lifts

    for data in sides:
        found = test_devices.gradients(lifts.mesh(test_devices.MEMBERS, int(data)))
        if multihost.first():
            leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(found))}
            np.savez(out / f"{data}.npz", processes=jax.process_count(), **leaves)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
