"""From NWB files or arrays to a recording's files, with a summary and a picture to check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from stndt_jax import files
from stndt_jax.data import (
    arrays,
    hdf5,
    nlb,
    nwb_trials,
    spike_files,
    spike_times,
    spike_trials,
    summary,
    synthetic,
    table_files,
)
from stndt_jax.data.spike_files import Chosen
from stndt_jax.data.trials import SpikeData
from stndt_jax.errors import UserError, install

Say = Callable[[str], None]


def benchmark(
    name: str,
    nwb: str,
    out: Path,
    *,
    bin_ms: int = 5,
    phase: str = "val",
    seed: int = 0,
    say: Say = print,
) -> list[Path]:
    """Makes the files of a data set of the Neural Latents Benchmark.

    Args:
      name: of the data set.
      nwb: directory of its NWB files, or one above it.
      out: directory to write to.
      bin_ms: bin width, ms.
      phase: ``val`` or ``test``.
      seed: of the jitter.
      say: called with each line of the result.

    Returns:
      The files written.

    Raises:
      UserError: as :func:`stndt_jax.data.nlb.prepare`, or a file cannot be written.
    """
    files.make_parent(out / "recording")
    tensors = nlb.prepare(name, nwb, bin_ms=bin_ms, phase=phase, seed=seed)
    inputs, targets = _paths(out, f"{hdf5.group_name(name, bin_ms)}_{phase}")
    _refuse_strays(inputs, targets, inputs.with_suffix(".txt"), inputs.with_suffix(".png"))
    for note in tensors.notes:
        say(f"nlb_tools: {note}")
    with files.filling(out) as folder:
        new, new_targets = folder / inputs.name, folder / targets.name
        tensors.write(new, new_targets, keep_other=True)
        # The files are read again, so that what is shown is what training will see.
        data = hdf5.read(new, new_targets if tensors.targets is not None else None)
        written = _describe(data, new, say=say)
    return [out / path.name for path in written]


def custom(
    nwb: str, cut: spike_trials.Cut, out: Path, *, say: Say = print, **options: object
) -> list[Path]:
    """Makes the files of a recording from any NWB file.

    Args:
      nwb: the NWB file.
      cut: how trials are cut.
      out: directory to write to.
      say: called with each line of the result.
      options: of :func:`stndt_jax.data.nwb_trials.prepare`.

    Returns:
      The files written.

    Raises:
      UserError: as :func:`stndt_jax.data.nwb_trials.prepare`, or a file cannot be written.
    """
    files.make_parent(out / "recording")
    data = nwb_trials.prepare(nwb, cut, **options)  # type: ignore[arg-type]
    return _write(data, out, say=say)


def from_arrays(path: Path, out: Path, *, say: Say = print, **options: object) -> list[Path]:
    """Makes the files of a recording from a file of spike counts.

    Args:
      path: the file; behind a colon, an array in it.
      out: directory to write to.
      say: called with each line of the result.
      options: of :func:`stndt_jax.data.arrays.from_file`.

    Returns:
      The files written.

    Raises:
      UserError: as :func:`stndt_jax.data.arrays.from_file`, or a file cannot be written.
    """
    files.make_parent(out / "recording")
    beside = options.get("beside") or arrays.Beside()
    assert isinstance(beside, arrays.Beside)
    with beside.naming(str(path)):
        data = arrays.from_file(path, say=say, **options)  # type: ignore[arg-type]
    return _write(data, out, say=say)


def from_spikes(
    spikes: str,
    out: Path,
    *,
    events: str,
    cut: spike_trials.Cut,
    options: spike_times.Options,
    chosen: Chosen,
    windows_ms: tuple[float, float] | None = None,
    say: Say = print,
) -> list[Path]:
    """Makes the files of a recording from spike times and events.

    Args:
      spikes: file or directory of spike times, as :mod:`stndt_jax.data.spike_files` reads them.
      out: directory to write to.
      events: file of events; empty for a recording that is chopped into windows.
      cut: how trials are cut; without events, its bin width alone counts. An empty ``align`` takes
        the only column of times.
      options: what else is known.
      chosen: which units are taken.
      windows_ms: length of the windows, and what neighbours share, without events.
      say: called with each line of the result.

    Returns:
      The files written.

    Raises:
      UserError: a file cannot be read or written, or nothing can be made of them.
    """
    files.make_parent(out / "recording")
    units, notes = chosen.read(spikes)
    for note in notes:
        say(f"{spikes}: {note}")
    path = table_files.split(spikes)[0]
    options = dataclasses.replace(options, name=options.name or path.resolve().stem)
    unit = "s" if chosen.states_unit(spikes) else ""
    cut = dataclasses.replace(cut, spike_time_unit=unit)
    if not events:
        assert windows_ms is not None
        window, overlap = windows_ms
        data = spike_times.continuous(
            units, cut, window_ms=window, overlap_ms=overlap, options=options
        )
        return _write(data, out, say=say)
    table = spike_files.events(events)
    align = cut.align or table.default_align(condition=options.condition_column)
    data = spike_times.recording(units, table, dataclasses.replace(cut, align=align), options)
    return _write(data, out, say=say)


def simulated(kind: str, path: Path, *, seed: int = 0, say: Say = print) -> SpikeData:
    """Simulates a recording and writes it and, beside it, its targets with the true rates.

    Args:
      kind: lorenz, rnn or reach.
      path: of the recording; the target file gets ``_target`` in its name.
      seed: of the simulation.
      say: called with a line about the result.

    Raises:
      UserError: the kind is unknown, or a file cannot be written.
    """
    if not path.name:
        raise UserError(f"--out={path} is a directory; name the file to write, such as reach.h5")
    targets = path.with_name(f"{path.stem}_target{path.suffix}")
    for file in (path, targets):
        files.check_output(file, "a recording")
    _refuse_strays(path, targets)
    data = synthetic.make(kind, seed=seed)
    with files.filling(path.parent) as folder:
        hdf5.write(data, folder / path.name, keep_other=True)
        hdf5.write_targets(data, folder / targets.name, keep_other=True)
    say(
        f"{path} and {targets}: {len(data.train)} training and {len(data.eval)} evaluated trials, "
        f"{data.bins_observed} + {data.bins_forward} bins of {data.bin_ms:g} ms, "
        f"{data.heldin} + {data.heldout} neurons"
    )
    return data


def _refuse_strays(inputs: Path, *beside: Path) -> None:
    """Refuses files that would be replaced, but cannot belong to an input file that is not there.

    Raises:
      UserError: there are such files.
    """
    strays = [str(path) for path in beside if path.exists()]
    if strays and not inputs.exists():
        raise UserError(
            f"{' and '.join(strays)} would be replaced, without {inputs}, to which they would "
            f"belong; move them away or choose another --out"
        )


def _paths(out: Path, stem: str) -> tuple[Path, Path]:
    """The input and the target file."""
    return out / f"{stem}.h5", out / f"{stem}_target.h5"


def _write(data: SpikeData, out: Path, *, say: Say) -> list[Path]:
    inputs, targets = _paths(out, data.name)
    _refuse_strays(inputs, targets, inputs.with_suffix(".txt"), inputs.with_suffix(".png"))
    with files.filling(out) as folder:
        hdf5.write(data, folder / inputs.name, keep_other=True)
        hdf5.write_targets(data, folder / targets.name, keep_other=True)
        written = _describe(data, folder / inputs.name, say=say)
    return [out / path.name for path in written]


def _describe(data: SpikeData, inputs: Path, *, say: Say) -> list[Path]:
    """Writes the summary and the picture beside the input file.

    Returns:
      These, and the recording's files.
    """
    text = summary.of_recording(data)
    say(text)
    written = [inputs, inputs.with_suffix(".txt")]
    files.write_text(written[1], text + "\n")
    if data.eval.heldout is not None:
        written.insert(1, inputs.with_name(f"{inputs.stem}_target.h5"))
    try:
        from stndt_jax.plotting import recording, style
    except ModuleNotFoundError:
        say(f"no picture: matplotlib is missing; {install('plots')}")
        return written
    figure = recording.recording(data, range(min(3, len(data.train))))
    return written + style.save(figure, inputs.with_suffix(".png"))
