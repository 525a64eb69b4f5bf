"""Inference with an exported model; this file needs jax, numpy and flatbuffers.

    from load import Model       # this file, which is load.py in the folder of the model
    model = Model("model")
    rates = model.rates(counts)  # (trials, observed bins, held-in neurons), integers
    rates = model.rates(counts, units=ids)  # any neurons, in any order, among them the held-in

Rates are expected spike counts per bin, (trials, bins, neurons): observed bins then forward bins,
held-in neurons then held-out neurons. manifest.json has the bin width, the numbers of bins, and
under "units" the identifier of every neuron, its area if known, and whether it was held out.

JAX reads a program for six months after the version that wrote it. An older one gives a warning,
with the command that makes it again from the weights in the folder. A model of format 1 has no
such weights, so it gives a warning at any age; it needs jax and numpy only.
"""

import dataclasses
import hashlib
import json
import shlex
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

MOST = 65535  # spikes in a bin; more is an error of the bins or their unit
OLD_DAYS = 150  # a month before JAX may cease to read a program


class ModelError(ValueError):
    """An exported model that cannot be used: why, and what to do."""


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
          ModelError: a file is not the one that was exported, or its format is unknown, or this
            version of jax cannot read it.

        Warns:
          UserWarning: the program is older than ``OLD_DAYS``, or has format 1 or a calling
            convention that this version of jax no longer supports.
        """
        self._folder = Path(folder)
        self.manifest = json.loads((self._folder / "manifest.json").read_text())
        check_manifest(self.manifest)
        if self.manifest["format"] not in (1, 2):
            raise ModelError(
                f"{folder} has format {self.manifest['format']}, but this loader reads formats 1 "
                f"and 2; use load.py of that folder, or a newer version of stndt_jax"
            )
        raw = {name: (self._folder / name).read_bytes() for name in self.manifest["sha256"]}
        for name, wanted in self.manifest["sha256"].items():
            if hashlib.sha256(raw[name]).hexdigest() != wanted:
                raise ModelError(
                    f"{self._folder / name} is not the file that was exported; copy the folder "
                    f"again, or make it again with stndt export --again {self._folder}"
                )
        self._in, self._out = (tuple(self.manifest[x]["shape"][1:]) for x in ("input", "output"))
        units = self.manifest.get("units")
        self.units = None if units is None else np.array(units["unit"])
        self.weights: list[jax.Array] = []
        if self.manifest["weights"]:
            with np.load(self._folder / "weights.npz", allow_pickle=False) as file:
                self.weights = [jnp.asarray(file[name]) for name in self.manifest["weights"]]
        self._call = self._read(raw["rates.stablehlo"])
        if sentence := self._ageing():
            warnings.warn(sentence, stacklevel=2)

    def _read(self, program: bytes) -> Callable[[list[jax.Array], Any], jax.Array]:
        """The program as a function of weights and counts.

        Raises:
          ModelError: this version of jax cannot read it.
        """
        counts = jax.ShapeDtypeStruct((1, *self._in), jnp.int32)
        try:
            if self.manifest["format"] == 1:
                exported = self._format_1(program)
            else:
                exported = export.deserialize(bytearray(program))
            call = jax.jit(exported.call)
            call.lower(self.weights, counts)  # otherwise it would be read with the first counts
        except ImportError:  # of flatbuffers
            raise
        except Exception as error:
            raise ModelError(
                f"{self._origin()}, cannot be read by jax {jax.__version__} ({error}); "
                f"{self._remedy()}"
            ) from error
        return call

    def _format_1(self, program: bytes) -> export.Exported:
        """The program of a model of format 1, which has no signature of ``jax.export``."""
        # A function of the same signature, whose program is then replaced by the stored one.
        shape = (*export.symbolic_shape("b"), *self._in)
        like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in self.weights]
        blank = jax.jit(lambda weights, counts: jnp.zeros((counts.shape[0], *self._out)))
        signature = export.export(blank, platforms=self.manifest["platforms"])(
            like, jax.ShapeDtypeStruct(shape, jnp.int32)
        )
        calling: dict[str, Any] = {
            k: tuple(v) if type(v) is list else v for k, v in self.manifest["calling"].items()
        }
        return dataclasses.replace(signature, mlir_module_serialized=program, **calling)

    def _exported(self) -> datetime:
        """When the program was made; of format 1, when its manifest was written or copied."""
        if self.manifest["format"] == 1:
            return datetime.fromtimestamp((self._folder / "manifest.json").stat().st_mtime, UTC)
        return _date(self.manifest["exported"])

    def _origin(self) -> str:
        """Which model this is, and when and with which version of jax it was exported."""
        before = " or before" * (self.manifest["format"] == 1)
        version = self.manifest["versions"]["jax"]
        date = f"{self._exported():%Y-%m-%d}"
        return f"the model in {self._folder}, exported on {date}{before} with jax {version}"

    def _remedy(self) -> str:
        """What to do with a model that jax may cease to read."""
        folder = shlex.quote(str(self._folder))
        if self.manifest["format"] == 1:
            return f"export it again from its run: stndt export RUN --out={folder}"
        return f"make it again: stndt export --again {folder}"

    def _ageing(self) -> str:
        """A warning that jax may cease to read the program; empty if it is new."""
        found = self.manifest.get("calling", self.manifest)["calling_convention_version"]
        oldest = export.minimum_supported_calling_convention_version
        days = (datetime.now(UTC) - self._exported()).days
        if found < oldest:
            why = (
                f"has calling convention {found}, but jax {jax.__version__} supports {oldest} and "
                f"newer"
            )
        elif days > OLD_DAYS:
            why = f"is {days} days old, and JAX promises to read it for six months"
        elif self.manifest["format"] == 1:
            why = "has format 1, which later versions of jax may not read"
        else:
            return ""
        return f"{self._origin()}, {why}; {self._remedy()}"

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


def check_manifest(manifest: Any) -> None:
    """Checks what the loader reads of a manifest.

    Raises:
      ModelError: a part is missing, or is none that an export writes.
    """
    if not isinstance(manifest, dict):
        raise ModelError("it is not the manifest of an exported model")
    kinds: dict[str, type] = {
        "format": int, "sha256": dict, "input": dict, "output": dict, "platforms": list,
        "weights": list, "versions": dict,
    }  # fmt: skip
    kinds |= {"calling": dict} if manifest.get("format") == 1 else {}
    if manifest.get("format") == 2:
        kinds |= {"exported": str, "made_again": list, "bin_ms": float, "members": int}
    for name, kind in kinds.items():
        value = manifest.get(name)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ModelError(f"its entry {name} is missing or damaged")
    for side in ("input", "output"):
        if not isinstance(manifest[side].get("shape"), list):
            raise ModelError(f"its entry {side} is missing or damaged")
    if not isinstance(manifest["versions"].get("jax"), str):
        raise ModelError("its entry versions is missing or damaged")
    if "exported" in kinds:
        _date(manifest["exported"])


def _date(text: str) -> datetime:
    """A date of a manifest; without a time zone, that of Greenwich.

    Raises:
      ModelError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ModelError(f"its date {text!r} is none") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


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
