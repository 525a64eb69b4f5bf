"""Gradients of a population spread over the devices of several processes, each of which runs this.

    python tests/two_processes.py OUT mesh:8 pmap:1 ...

writes ``OUT/mesh_8.npz`` and so on: totals, contrastive losses and all slopes, with 8 devices for
the trials of a batch. ``test_hosts.py`` compares them with those of one device.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stndt_jax import hosts


def main(out: Path, grids: list[str]) -> None:
    """Writes the gradients on each grid."""
    hosts.join()
    import jax
    import numpy as np
    import test_devices

    from stndt_jax import parallel

    for grid in grids:
        engine, _, data = grid.partition(":")
        members = 1 if engine == "pmap" and int(data) > 1 else test_devices.MEMBERS
        found = test_devices.gradients(parallel.mesh(members, int(data)), engine)
        if hosts.first():
            leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(found))}
            np.savez(out / f"{engine}_{data}.npz", processes=jax.process_count(), **leaves)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
