"""Inference with an exported model; this file needs only jax and numpy.

    from load import Model                # this file, which is load.py in the folder of the model
    rates = Model("model").rates(counts)  # (trials, observed bins, held-in neurons), integers

Rates are expected spike counts per bin, (trials, bins, neurons): observed bins then forward bins,
held-in neurons then held-out neurons. manifest.json contains their numbers and the bin width.
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
    """An exported model.

    Attributes:
      manifest: contents of manifest.json.
      weights: the weights, in the order of the manifest; empty if they are part of the program.
    """

    def __init__(self, folder: str | Path = Path(__file__).parent) -> None:
        """Reads a model.

        Args:
          folder: the folder that was exported.

        Raises:
          ValueError: a file is not the one that was exported, or its format is another.
        """
        self.manifest = json.loads((Path(folder) / "manifest.json").read_text())
        if self.manifest["format"] != 1:
            raise ValueError(f"its format is {self.manifest['format']}, this loader reads format 1")
        raw = {name: (Path(folder) / name).read_bytes() for name in self.manifest["sha256"]}
        for name, wanted in self.manifest["sha256"].items():
            if hashlib.sha256(raw[name]).hexdigest() != wanted:
                raise ValueError(f"{Path(folder) / name} is not the file that was exported")
        self._in, self._out = (tuple(self.manifest[x]["shape"][1:]) for x in ("input", "output"))
        self.weights: list[jax.Array] = []
        if self.manifest["weights"]:
            with np.load(Path(folder) / "weights.npz", allow_pickle=False) as file:
                self.weights = [jnp.asarray(file[name]) for name in self.manifest["weights"]]
        # A function of the same signature, whose program is then replaced by the stored one.
        # jax.export's own file format would need another package to be read.
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
        """Infers the rates of any number of trials.

        Args:
          counts: spike counts, integers (trials, observed bins, held-in neurons).
          chunk: number of trials computed at a time.

        Returns:
          Expected counts per bin (trials, bins, neurons).
        """
        rates = np.zeros((len(counts), *self._out), np.float32)
        for first in range(0, len(counts), chunk):
            # Padded, so that all chunks have the same shape and are compiled once.
            part = np.zeros((min(chunk, len(counts)), *self._in), np.int32)
            part[: len(counts) - first] = counts[first : first + chunk]
            found = self._call(self.weights, part)
            rates[first : first + chunk] = found[: len(counts) - first]
        return rates
