"""Published scores and sizes of the benchmark's data sets: test split, 5 ms bins.

Sources: F. Pei et al., Neural Latents Benchmark '21, NeurIPS 2021, and T. Le and E. Shlizerman,
STNDT, NeurIPS 2022; of later methods, as named, what their authors report. The benchmark's server
closed on 31 January 2026, so the table is frozen.
"""

from __future__ import annotations

from typing import NamedTuple

from stndt_jax.types import Dims


class Row(NamedTuple):
    """One method's scores, under the names of ``scoring.score``."""

    method: str
    scores: dict[str, float]


BIN_MS = 5.0
SIZES = {
    "mc_maze": Dims(140, 40, 137, 45),
    "mc_rtt": Dims(120, 40, 98, 32),
    "area2_bump": Dims(120, 40, 49, 16),
    "dmfc_rsg": Dims(300, 40, 40, 14),
}

_COLUMNS = {
    "mc_maze": ("co_bps", "vel_r2", "psth_r2", "fp_bps"),
    "mc_rtt": ("co_bps", "vel_r2", "psth_r2", "fp_bps"),
    "area2_bump": ("co_bps", "vel_r2", "psth_r2", "fp_bps"),
    "dmfc_rsg": ("co_bps", "tp_corr", "psth_r2", "fp_bps"),
}
# None where nothing is published. Order of the data sets as in _COLUMNS.
_N = None
_TABLE: dict[str, tuple[tuple[float | None, ...] | None, ...]] = {
    "Smoothing": (
        (0.2109, 0.6238, 0.1853, _N),
        (0.1468, 0.4142, _N, _N),
        (0.1544, 0.5736, 0.2084, _N),
        (0.1202, -0.5139, 0.2993, _N),
    ),
    "GPFA": (
        (0.1872, 0.6399, 0.5150, _N),
        (0.1548, 0.5339, _N, _N),
        (0.1680, 0.5975, 0.5289, _N),
        (0.1176, -0.3763, 0.2142, _N),
    ),
    "SLDS": (
        (0.2249, 0.7947, 0.5330, _N),
        (0.1649, 0.5206, _N, 0.0620),
        (0.1960, 0.7385, 0.5740, 0.0242),
        (0.1243, -0.5412, 0.3372, -0.0418),
    ),
    "MINT": (
        (0.3304, 0.9121, 0.7496, 0.2076),
        (0.1676, 0.5953, _N, 0.1012),
        (0.2735, 0.8877, 0.9135, 0.1483),
        (0.1821, -0.6929, 0.7013, 0.1650),
    ),
    "AutoLFADS": (
        (0.3364, 0.9097, 0.6360, 0.2349),
        (0.1868, 0.6167, _N, 0.1213),
        (0.2569, 0.8492, 0.6318, 0.1505),
        (0.1829, -0.8248, 0.6359, 0.1844),
    ),
    "iLQR-VAE": ((0.3559, 0.8840, 0.6062, 0.1480), _N, _N, _N),
    "NDT, best single": (
        (0.3599, 0.9105, 0.6641, 0.2470),
        (0.1927, 0.6627, _N, 0.1229),
        (0.2801, 0.8675, 0.6367, 0.1523),
        (0.1733, -0.6189, 0.5267, 0.1511),
    ),
    "NDT, ensemble": (
        (0.3676, 0.9114, 0.6683, 0.2589),
        (0.2053, 0.6334, _N, 0.1344),
        (0.2860, 0.8999, 0.7109, 0.1603),
        (0.1886, -0.7601, 0.6064, 0.1828),
    ),
    "STNDT, single": (
        (0.3691, 0.8985, 0.6567, 0.2505),
        (0.1865, 0.5988, _N, 0.0964),
        (0.2818, 0.8766, 0.6454, 0.1357),
        (0.1859, -0.5205, 0.6051, 0.1601),
    ),
    "STNDT, ensemble": (
        (0.3862, 0.9095, 0.6693, 0.2686),
        (0.2095, 0.6270, _N, 0.1244),
        (0.2898, 0.8913, 0.7368, 0.1476),
        (0.1940, -0.4857, 0.6452, 0.1910),
    ),
    "GRAFT, ensemble": ((0.3866, _N, _N, _N), _N, _N, _N),
    "S5": ((0.3823, _N, _N, _N), _N, _N, _N),
    "small STNDT, 2026": ((0.3830, _N, _N, _N), _N, _N, _N),
    "LangevinFlow, at 20 ms": ((0.3650, _N, _N, _N), _N, _N, _N),
    "r-RoBERTa": (_N, (0.2168, _N, _N, _N), _N, _N),
}


def columns(name: str) -> tuple[str, ...]:
    """The scores that are published for a data set, in order."""
    return _COLUMNS.get(name, ("co_bps", "vel_r2", "psth_r2", "fp_bps"))


def rows(name: str) -> list[Row]:
    """The published methods of a data set; empty if nothing is published."""
    if name not in _COLUMNS:
        return []
    place = list(_COLUMNS).index(name)
    found = []
    for method, values in _TABLE.items():
        if (own := values[place]) is not None:
            pairs = zip(columns(name), own, strict=True)
            found.append(Row(method, {key: value for key, value in pairs if value is not None}))
    return found
