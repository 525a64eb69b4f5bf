"""Rates from spike counts with an exported model; this file needs jax and numpy only.

from load import Model                  # it lies beside the model as load.py
rates = Model("model").rates(counts)    # (trials, observed bins, held-in neurons), integers

Rates are expected spike counts per bin, (trials, bins, neurons): observed bins then forward
ones, held-in neurons then held-out ones. manifest.json says how many, and all else.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export


class Model:
    """An exported model; raises ValueError where its files are not those that were exported."""

    def __init__(self, folder: str | Path = Path(__file__).parent) -> None:
        self.manifest = json.loads((Path(folder) / "manifest.json").read_text())
        raw = {name: (Path(folder) / name).read_bytes() for name in self.manifest["sha256"]}
        for name, wanted in self.manifest["sha256"].items():
            if hashlib.sha256(raw[name]).hexdigest() != wanted:
                raise ValueError(f"{Path(folder) / name} is not the file that was exported")
        self._in, self._out = (tuple(self.manifest[x]["shape"][1:]) for x in ("input", "output"))
        self.weights: list[jax.Array] = []
        if self.manifest["weights"]:
            with np.load(Path(folder) / "weights.npz", allow_pickle=False) as file:
                self.weights = [jnp.asarray(file[name]) for name in self.manifest["weights"]]
        # A function of the same signature, given the stored program: the file format of jax.export
        # itself needs one more package to be read.
        shape = (*export.symbolic_shape("b"), *self._in)
        like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self.weights]
        blank = jax.jit(lambda weights, counts: jnp.zeros((counts.shape[0], *self._out)))
        signature = export.export(blank, platforms=self.manifest["platforms"])(
            like, jax.ShapeDtypeStruct(shape, jnp.int32)
        )
        calling = {
            k: tuple(v) if type(v) is list else v for k, v in self.manifest["calling"].items()
        }
        program = {"mlir_module_serialized": raw["rates.stablehlo"], **calling}
        self._call = jax.jit(dataclasses.replace(signature, **program).call)

    def rates(self, counts: np.ndarray, chunk: int = 256) -> np.ndarray:
        """Rates of any number of trials, ``chunk`` of them at a time."""
        rates = np.zeros((len(counts), *self._out), np.float32)
        for first in range(0, len(counts), chunk):
            # Whole chunks, filled up with silence: one shape, one compilation.
            part = np.zeros((min(chunk, len(counts)), *self._in), np.int32)
            part[: len(counts) - first] = counts[first : first + chunk]
            found = self._call(self.weights, part)
            rates[first : first + chunk] = found[: len(counts) - first]
        return rates
