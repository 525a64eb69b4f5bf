"""Run directories made by hand, without training: what the tests of reports start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stndt_jax.config import loading
from stndt_jax.data import hdf5
from stndt_jax.data.trials import SpikeData
from stndt_jax.evaluation import submission
from stndt_jax.interpret.summary import Interpretation
from stndt_jax.runs import directory

HOSTILE = "<script>alert(1)</script>"
METHOD = '"><img src=x onerror=alert(1)>'
R, T_OBS, T_FWD, N = 12, 20, 5, 9


def recording(name: str = "small", *, unequal: bool = False) -> SpikeData:
    """Simulated spikes of four conditions with true rates and a velocity.

    Trials that are ``unequal`` lack their first ``r % 5`` bins, so that their padding comes first;
    these recordings also have areas, identifiers, and times and names of trials.
    """
    rng = np.random.default_rng(0)
    T = T_OBS + T_FWD
    conditions = np.arange(R) % 4
    phase_RN = conditions[:, None] + np.arange(N)
    wave_RTN = np.sin(np.arange(T)[:, None] / 4 + phase_RN[:, None])
    rates = np.exp(wave_RTN - 0.5)
    velocity = np.stack([np.cos(wave_RTN[..., 0]), wave_RTN[..., 1]], axis=-1)
    counts = rng.poisson(rates).astype(np.uint8)
    if unequal:
        short = [slice(r % 5, None) for r in range(R)]
        return SpikeData.from_arrays(
            [x[rows] for x, rows in zip(counts, short, strict=True)],
            bin_ms=20,
            name=name,
            heldout=[2, 5, 8],
            evaluated=[1, 4, 6, 11],
            bins_forward=T_FWD,
            behavior=[x[rows] for x, rows in zip(velocity, short, strict=True)],
            behavior_names=("force x", "force y"),
            behavior_unit="N",
            conditions=[("left", "right", "up", "down")[c] for c in conditions],
            starts=10.0 + np.arange(R),
            units=100 + np.arange(N),
            unit_table={"area": ["V1", "V2", "V1"] * 3},
        )
    return SpikeData.from_arrays(
        counts,
        bin_ms=20,
        name=name,
        heldout=[2, 5, 8],
        evaluated=[1, 4, 6, 11],
        bins_forward=T_FWD,
        behavior=velocity,
        conditions=conditions,
        rates=rates,
    )


def run(
    folder: Path,
    name: str = "run",
    *,
    members: int = 3,
    scored: bool = True,
    unequal: bool = False,
    **settings: Any,
) -> Path:
    """A run that looks finished; its rates are the true ones, a little off.

    Of a recording of ``unequal`` trials they are 1 count per bin, and 9 in the padding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = recording(unequal=unequal)
    inputs, targets = folder / "small.h5", folder / "small_target.h5"
    hdf5.write(data, inputs)
    hdf5.write_targets(data, targets)
    config = loading.load(
        [
            "--config=tiny",
            f"--config.population={members}",
            f"--config.data.path={inputs}",
            *([f"--config.data.targets={targets}"] if scored else []),
            *(f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()),
        ]
    )
    path = folder / name
    directory.make(path)
    read = hdf5.read(inputs, targets if scored else None)
    directory.open_run(path, config, read)
    record = json.loads((path / "run.json").read_text())
    record["sessions"] = [
        {
            "began": "2030-01-02T03:04:05+00:00",
            "ended": "2030-01-02T04:05:05+00:00",
            "how": "finished",
            "command": ["stndt", "train", "--config=tiny", METHOD],
            "devices": ["cpu:cpu"],
            "versions": {"python": "3.11"},
            "commit": None,
        }
    ]
    (path / "run.json").write_text(json.dumps(record))
    rates = _padded(data) if unequal else _truth(data)
    rates = {key: x * 1.1 + 0.01 for key, x in rates.items()}
    submission.write(path / "submission.h5", data.name, rates, bin_ms=data.bin_ms)
    rows = [
        {
            "epoch": epoch,
            "best_epoch": [epoch] * members,
            "train_masked_loss": [1 / epoch + 0.1 * k for k in range(members)],
            "valid_masked_loss": [1.1 / epoch + 0.1 * k for k in range(members)],
            "valid_cobps": [
                None if epoch == 2 else 0.2 - 0.1 / epoch + 0.01 * k for k in range(members)
            ],
        }
        for epoch in range(1, 9)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "scores.json").write_text(json.dumps(scores(members, scored)))
    return path


def scores(members: int, scored: bool = True) -> dict[str, Any]:
    """As ``stndt evaluate`` writes them, with intervals."""
    found: dict[str, Any] = {
        "data": "small",
        "weights": "cobps",
        "members": [
            {"member": k, "validation_co_bps": 0.2 + 0.01 * k, "co_bps": 0.19 + 0.01 * k}
            for k in range(members)
        ],
        "left_out": [],
    }
    if scored:
        best = {"co_bps": 0.2123, "fp_bps": 0.1, "vel_r2": 0.8, "psth_r2": 0.7}
        found["best_member"] = {"member": members - 1, **best}
        found["ensemble"] = {
            **{"co_bps": 0.2345, "fp_bps": -0.0456, "vel_r2": 0.81, "psth_r2": 0.71},
            **{"co_bps_interval": [0.2222, 0.2468], "oracle_co_bps": 0.3, "rate_r2": 0.9},
        }
    return found


def _truth(data: SpikeData) -> dict[str, np.ndarray]:
    found = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        assert trials.rates is not None
        inner, outer = np.split(trials.rates, [data.heldin], axis=2)
        for name, x in (("heldin", inner), ("heldout", outer)):
            found[f"{split}_rates_{name}"] = x[:, :T_OBS]
            found[f"{split}_rates_{name}_forward"] = x[:, T_OBS:]
    return found


def _padded(data: SpikeData) -> dict[str, np.ndarray]:
    """Rates that are 1, and 9 where a short trial has no bins."""
    found = {}
    for split, trials in (("train", data.train), ("eval", data.eval)):
        rates_RTN = np.where(trials.in_trial(data.bins)[..., None], 1.0, 9.0)
        rates_RTN = np.repeat(rates_RTN, N, axis=2)
        for name, x in zip(("heldin", "heldout"), np.split(rates_RTN, [6], axis=2), strict=True):
            found[f"{split}_rates_{name}"] = x[:, :T_OBS]
            found[f"{split}_rates_{name}_forward"] = x[:, T_OBS:]
    return found


def svg(path: Path, width: int) -> Path:
    """A figure as matplotlib writes it, with black text on white paper; the path without suffix."""
    path.with_suffix(".svg").write_text(
        f'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" '
        f'height="10pt" viewBox="0 0 {width} 10"><defs></defs>'
        f'<path d="M 0 0 L {width} 0 L {width} 10 L 0 10 z" style="fill: #ffffff"/>'
        f'<text style="font: 8px sans-serif" x="1" y="8.123456">a</text></svg>'
    )
    return path


def interpretation() -> Interpretation:
    """Of two members with one layer, on the recording: neuron 1 matters most."""
    T = T_OBS + T_FWD
    importance = np.array([1.0, 4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) / 12
    agreement = {"rankings": 2, "spearman": 0.25, "overlap": 1.0, "chance": 1 / 6}
    return Interpretation(
        name="small",
        bin_ms=20.0,
        bins_observed=T_OBS,
        heldin=6,
        trials=4,
        labels=["member 0", "member 1"],
        weights=np.array([0.5, 0.5]),
        rate_hz=np.arange(1.0, N + 1),
        units=None,
        spatial=np.tile(importance, (N, 1)),
        spatial_by_layer=np.tile(importance, (2, 1, N, 1)),
        temporal_by_layer=np.full((2, 1, T, T), 1 / T),
        lags_ms=np.zeros(1),
        by_lag=np.zeros(1),
        by_lag_and_layer=np.zeros((2, 1, 1)),
        importance=importance,
        importance_by_member=np.tile(importance, (2, 1)),
        importance_by_layer=np.tile(importance, (2, 1, 1)),
        importance_by_trial=np.tile(importance, (4, 1)),
        importance_by_condition=None,
        conditions=None,
        gradient_importance=None,
        gradient_by_member=None,
        summary={
            "agreement": {"members": agreement},
            "top_share": 0.4,
            "importance_and_rate": -0.1,
        },
    )
