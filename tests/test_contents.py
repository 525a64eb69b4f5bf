"""What inspect says of files that are no NWB, and that the command it prints makes a recording."""

from __future__ import annotations

import importlib
import os
import shlex
import warnings
from pathlib import Path

import numpy as np
import pandas
import pytest
import scipy.io

from stndt_jax.cli import flags, main
from stndt_jax.data import contents, hdf5, lfads, summary
from stndt_jax.errors import UserError

spike_formats = importlib.import_module("test_spike_files")
count_formats = importlib.import_module("test_count_files")


def stndt(*argv: str) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return main.main(list(argv))


def typed(text: str, folder: Path) -> list[str]:
    """The words of the command that is printed, with the user's own values in its places."""
    [line] = [line for line in text.splitlines() if line.startswith("next: stndt ")]
    words = shlex.split(line.removeprefix("next: stndt "))
    own = {"--events": f"--events={folder / 'e.csv'}", "--align": "--align=go_time",
           "--out": f"--out={folder / 'out'}", "--window-ms": "--window-ms=100"}  # fmt: skip
    return [own.get(word.partition("=")[0], word) for word in words]


@pytest.mark.parametrize("what", [*count_formats.THREE, *count_formats.RAGGED])
def test_the_printed_command_takes_counts(what, tmp_path):
    if what in count_formats.THREE:
        starts = count_formats.ENDINGS.items()
        ending = next((end for start, end in starts if what.startswith(start)), ".npz")
        path, write = tmp_path / f"a b{ending}", count_formats.THREE[what]
    else:
        path, write = tmp_path / f"x{what}", count_formats.RAGGED[what]
    write(path)
    assert not stndt(*typed(summary.of_file(path), tmp_path))
    data = hdf5.read(tmp_path / "out" / f"{path.stem}.h5")
    assert data.neurons == 5 and len(data.train) == 6


@pytest.mark.parametrize("name", spike_formats.FORMATS)
def test_the_printed_command_takes_spike_times(name, tmp_path):
    spike_formats.FORMATS[name](tmp_path / name)
    spike_formats.EVENTS.to_csv(tmp_path / "e.csv", index=False)
    assert not stndt(*typed(summary.of_file(tmp_path / name), tmp_path))
    stem = Path(name).stem
    data = hdf5.read(tmp_path / "out" / f"{stem}.h5", tmp_path / "out" / f"{stem}_target.h5")
    assert sorted(data.units) == list(spike_formats.IDS)


def test_arrays_are_listed_with_their_values(tmp_path):
    x = np.array([[0, 3], [1, 2], [0, 0]])
    np.savez(tmp_path / "x.npz", spikes=x, vel=[np.nan, 1.5, -2], bin_size=0.02, who=["J", "N"])
    lines = contents.of(tmp_path / "x.npz").splitlines()
    assert lines[0] == f"{tmp_path / 'x.npz'}: NumPy's .npz"
    cells = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[2:6]}
    assert cells == {
        "spikes": "3 x 2 0 to 3", "vel": "3 -2 to 1.5, 1 NaN", "bin_size": "one value 0.02",
        "who": "2 J, N",
    }  # fmt: skip
    assert lines[-1].endswith("--window-ms=600 --out=data") and "--bin-ms" not in lines[-1]


def test_a_folder_says_how_its_units_are_labelled(tmp_path):
    spike_formats.write_folder(tmp_path / "ks", u2="good", u5="mua", u11="good")
    text = contents.of(tmp_path / "ks")
    assert "Kilosort or phy, 3000 spikes" in text and "sampling rate: 30000 samples/s" in text
    assert "units: none 1, good 2, mua 1" in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is a directory without spike_times.npy"):
        contents.of(tmp_path / "empty")


def test_a_table_of_trials_is_offered_as_events(tmp_path):
    frame = pandas.DataFrame({"go_time": [1.5, 2.5], "target": ["left", "right"]})
    frame.to_csv(tmp_path / "e.csv", index=False)
    text = contents.of(tmp_path / "e.csv")
    assert "column target holds texts" in text
    assert f"--events={tmp_path / 'e.csv'} --align=COLUMN" in text


def test_hdf5_files_say_what_takes_them(tmp_path):
    count_formats.write_mat73(tmp_path / "x.mat", x=count_formats.X)
    assert "MATLAB 7.3" in summary.of_file(tmp_path / "x.mat")
    import h5py

    with h5py.File(tmp_path / "l.h5", "w") as file:
        for split in lfads.SPLITS:
            file[f"{split}_encod_data"] = count_formats.X
    assert "next: stndt prepare arrays --spikes=" in summary.of_file(tmp_path / "l.h5")
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["r/train_spikes_heldin"] = count_formats.X
    assert "next: stndt train --config.data.path=" in summary.of_file(tmp_path / "r.h5")
    assert "targets" not in summary.of_file(tmp_path / "r.h5")
    (tmp_path / "r_target.h5").touch()
    beside = f"r.h5 --config.data.targets={tmp_path / 'r_target.h5'} --workdir="
    assert beside in summary.of_file(tmp_path / "r.h5")


@pytest.mark.parametrize("name", ["x.npz", "x.mat", "x.csv", "x.npy"])
def test_damaged_files_are_one_sentence(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x00\x01" * 300)
    try:
        contents.of(tmp_path / name)
    except UserError as error:
        assert name in str(error)


def test_objects_of_matlab_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"x": {"deep": {"deeper": np.ones((4, 5, 6))}}})
    assert "x.deep.deeper" in contents.of(tmp_path / "x.mat")


@pytest.fixture
def without_permission():
    """Runs a test as a user who may not read what has mode 000, which root may."""
    own = os.geteuid()
    yield lambda: own or os.seteuid(65534)
    os.seteuid(own)


def test_what_may_not_be_read_is_one_sentence(tmp_path, without_permission):
    scipy.io.savemat(tmp_path / "x.mat", {"x": np.ones((4, 5, 6))})
    np.save(tmp_path / "x.npy", np.ones((4, 5, 6)))
    (tmp_path / "x.csv").write_text("unit,time\n1,2\n")
    (tmp_path / "ks").mkdir()
    paths = [tmp_path / name for name in ("x.mat", "x.npy", "x.csv", "ks")]
    for path in paths[:3]:
        summary.of_file(path)
    for path in paths:
        path.chmod(0)
    without_permission()
    for path in paths:
        with pytest.raises(UserError, match="cannot be read: Permission denied; check"):
            summary.of_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "start_time;stop_time;cond\n0.5;1.5;1\n2;3;\n",
        "start_time,stop_time,cond\n5,6,1\n7,8,2\n",
        "rt,cond\n0.5,1\n0.2,2\n",
    ],
)
def test_events_are_not_taken_as_counts(text, tmp_path):
    (tmp_path / "a b.csv").write_text(text)
    said = contents.of(tmp_path / "a b.csv")
    assert "which is no spike count; give whole numbers" in said and "taken: " not in said
    assert f"--events='{tmp_path / 'a b.csv'}' --align=COLUMN" in said


def test_spikes_with_decimal_commas_get_a_command_that_works(tmp_path):
    times, units = spike_formats.long()
    frame = pandas.DataFrame({"unit": units, "time": times})
    frame.to_csv(tmp_path / "x $.csv", index=False, sep=";", decimal=",")
    spike_formats.EVENTS.to_csv(tmp_path / "e.csv", index=False)
    assert not stndt(*typed(summary.of_file(tmp_path / "x $.csv"), tmp_path))


def test_the_command_after_another_is_one_of_the_shell(capsys):
    flags.following("evaluate", "my runs/$(a)", "--out=b c")
    text = capsys.readouterr().out
    assert shlex.split(text)[:3] == ["next:", "stndt", "evaluate"]
    assert shlex.split(text)[3:] == ["my runs/$(a)", "--out=b c"]
