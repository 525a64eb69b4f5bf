"""Inference with an exported model; this file needs only jax and numpy.

    from load import Model       # this file, which is load.py in the folder of the model
    model = Model("model")
    rates = model.rates(counts)  # (trials, observed bins, held-in neurons), integers
    rates = model.rates(counts, units=ids)  # any neurons, in any order, among them the held-in

Rates are expected spike counts per bin, (trials, bins, neurons): observed bins then forward bins,
held-in neurons then held-out neurons. manifest.json has the bin width, the numbers of bins, and
under "units" the identifier of every neuron, its area if known, and whether it was held out.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

MOST = 65535  # spikes in a bin; more is an error of the bins or their unit


class Model:
    """An exported model.

    Attributes:
      manifest: contents of manifest.json.
      units: identifier of every neuron of the rates, held-in then held-out; None of a model that
        was exported without them.
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
        units = self.manifest.get("units")
        self.units = None if units is None else np.array(units["unit"])
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

    def rates(
        self,
        counts: Any,
        chunk: int = 256,
        *,
        units: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Infers the rates of any number of trials.

        Args:
          counts: spike counts, (trials, bins, neurons): the observed bins or all bins; the held-in
            neurons, or all neurons, in the order of ``units``.
          chunk: number of trials computed at a time.
          units: identifiers of the neurons of ``counts``; then they may be in any order, and
            others may be among them.

        Returns:
          Expected counts per bin (trials, bins, neurons).

        Raises:
          ValueError: the counts do not fit the model.
        """
        counts = _array(counts)
        self.place(counts, units)
        rates = np.zeros((len(counts), *self._out), np.float32)
        for first in range(0, len(counts), chunk):
            # Padded, so that all chunks have the same shape and are compiled once.
            part = np.zeros((min(chunk, len(counts)), *self._in), np.int32)
            part[: len(counts) - first] = self.inputs(counts[first : first + chunk], units, first)
            found = self._call(self.weights, part)
            rates[first : first + chunk] = found[: len(counts) - first]
        return rates

    def inputs(
        self, counts: Any, units: Sequence[int] | np.ndarray | None = None, first: int = 0
    ) -> np.ndarray:
        """The counts that the program takes: held-in neurons in observed bins.

        Args:
          counts: as for :meth:`rates`.
          units: as for :meth:`rates`.
          first: number of the first of these trials, for messages.

        Returns:
          Counts (trials, observed bins, held-in neurons), int32.

        Raises:
          ValueError: the counts do not fit the model.
        """
        counts = _array(counts)
        bins, columns = self.place(counts, units)
        picked = counts[:, bins, columns]
        bad = ~((picked >= 0) & (picked <= MOST) & (picked == np.floor(picked)))
        if bad.any():
            r, t, n = (int(i) for i in np.argwhere(bad)[0])
            gap = "; an exported model takes no gaps: leave the trial out" * bool(
                np.isnan(picked[r, t, n])
            )
            raise ValueError(
                f"trial {first + r}, bin {t} has {picked[r, t, n]} at held-in neuron {n} (all from "
                f"0); counts are whole numbers from 0 to {MOST}{gap}"
            )
        return picked.astype(np.int32)

    def place(
        self, counts: Any, units: Sequence[int] | np.ndarray | None = None
    ) -> tuple[slice, np.ndarray | slice]:
        """Which bins and which neurons of counts are the observed bins and held-in neurons.

        Args:
          counts: as for :meth:`rates`; only their shape and type are read.
          units: as for :meth:`rates`.

        Raises:
          ValueError: they are not all there, or their order is in doubt.
        """
        if counts.ndim != 3 or counts.dtype.kind not in "biuf":
            raise ValueError(
                f"counts have shape {counts.shape} and type {counts.dtype}; give numbers "
                f"(trials, bins, neurons)"
            )
        (observed, _), (bins, _) = self._in, self._out
        if counts.shape[1] not in (observed, bins):
            also = f", or all {bins}" * (bins > observed)
            raise ValueError(
                f"counts have {_counted(counts.shape[1], 'bin')}; give the {observed} observed "
                f"bins of {self.manifest['bin_ms']:g} ms{also}"
            )
        return slice(observed), self._columns(counts.shape[2], units)

    def _columns(self, number: int, units: Sequence[int] | np.ndarray | None) -> np.ndarray | slice:
        """Which columns of the counts are the held-in neurons, in the program's order.

        Raises:
          ValueError: they are not all there, or their order is in doubt.
        """
        (_, heldin), (_, neurons) = self._in, self._out
        if units is not None:
            return self._by_units(number, np.asarray(units))
        if number == heldin:
            return slice(None)
        if number != neurons or self.units is None:
            also = f", or all {neurons}" * (neurons > heldin and self.units is not None)
            raise ValueError(
                f"counts have {_counted(number, 'neuron')}; give the {heldin} held-in "
                f"ones{also}, or any that contain them with their identifiers as units"
            )
        if np.any(np.diff(self.units) < 0):
            raise ValueError(
                f"counts have all {number} neurons, in the order of the recording or of the model, "
                f"which has the held-in ones first; name them: units, the identifier of every "
                f"column"
            )
        return slice(heldin)

    def _by_units(self, number: int, units: np.ndarray) -> np.ndarray:
        """The columns of the held-in neurons among neurons of these identifiers.

        Raises:
          ValueError: the identifiers do not fit, or a neuron is missing.
        """
        if self.units is None:
            raise ValueError(
                "this model was exported without identifiers of its neurons; export it again, or "
                "give the held-in neurons in the order of the recording's files, without units"
            )
        if units.dtype.kind not in "iu":
            raise ValueError(f"units have type {units.dtype}; give whole numbers")
        if units.shape != (number,) or len(np.unique(units)) < number:
            raise ValueError(
                f"units have shape {units.shape}; list each of the {number} neurons of the counts "
                f"once"
            )
        wanted = self.units[: self._in[1]]
        missing = np.setdiff1d(wanted, units)
        if missing.size:
            raise ValueError(
                f"units lack {missing.size} of the {len(wanted)} held-in neurons, for example unit "
                f"{missing[0]}; give the counts of all held-in neurons"
            )
        place = {int(unit): n for n, unit in enumerate(units)}
        return np.array([place[int(unit)] for unit in wanted])


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _array(counts: Any) -> np.ndarray:
    """Counts as an array, unless they are one.

    Raises:
      ValueError: trials are of unequal length.
    """
    try:
        return np.asanyarray(counts)
    except ValueError:
        raise ValueError(
            "counts are lists of unequal length; give one array (trials, bins, neurons)"
        ) from None
