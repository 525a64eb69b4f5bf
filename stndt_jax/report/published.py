"""Published scores on the benchmark's data sets, to set a run's beside.

Test split, 5 ms bins. Sources: F. Pei et al., Neural Latents Benchmark '21, NeurIPS 2021, and
T. Le and E. Shlizerman, STNDT, NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOTOR = ("co-bps", "vel R2", "psth R2", "fp-bps")
_TIMING = ("co-bps", "tp corr", "psth R2", "fp-bps")
_X = None
_Row = tuple[float | None, float | None, float | None, float | None]

_SCORES: dict[str, dict[str, _Row]] = {
    "mc_maze": {
        "Smoothing": (0.2109, 0.6238, 0.1853, _X),
        "GPFA": (0.1872, 0.6399, 0.5150, _X),
        "SLDS": (0.2249, 0.7947, 0.5330, _X),
        "MINT": (0.3304, 0.9121, 0.7496, 0.2076),
        "AutoLFADS": (0.3364, 0.9097, 0.6360, 0.2349),
        "iLQR-VAE": (0.3559, 0.8840, 0.6062, 0.1480),
        "NDT, best single": (0.3599, 0.9105, 0.6641, 0.2470),
        "NDT, ensemble": (0.3676, 0.9114, 0.6683, 0.2589),
        "STNDT, single": (0.3691, 0.8985, 0.6567, 0.2505),
        "STNDT, ensemble": (0.3862, 0.9095, 0.6693, 0.2686),
    },
    "mc_rtt": {
        "Smoothing": (0.1468, 0.4142, _X, _X),
        "GPFA": (0.1548, 0.5339, _X, _X),
        "SLDS": (0.1649, 0.5206, _X, 0.0620),
        "MINT": (0.1676, 0.5953, _X, 0.1012),
        "AutoLFADS": (0.1868, 0.6167, _X, 0.1213),
        "NDT, best single": (0.1927, 0.6627, _X, 0.1229),
        "NDT, ensemble": (0.2053, 0.6334, _X, 0.1344),
        "STNDT, single": (0.1865, 0.5988, _X, 0.0964),
        "STNDT, ensemble": (0.2095, 0.6270, _X, 0.1244),
    },
    "area2_bump": {
        "Smoothing": (0.1544, 0.5736, 0.2084, _X),
        "GPFA": (0.1680, 0.5975, 0.5289, _X),
        "SLDS": (0.1960, 0.7385, 0.5740, 0.0242),
        "MINT": (0.2735, 0.8877, 0.9135, 0.1483),
        "AutoLFADS": (0.2569, 0.8492, 0.6318, 0.1505),
        "NDT, best single": (0.2801, 0.8675, 0.6367, 0.1523),
        "NDT, ensemble": (0.2860, 0.8999, 0.7109, 0.1603),
        "STNDT, single": (0.2818, 0.8766, 0.6454, 0.1357),
        "STNDT, ensemble": (0.2898, 0.8913, 0.7368, 0.1476),
    },
    "dmfc_rsg": {
        "Smoothing": (0.1202, -0.5139, 0.2993, _X),
        "GPFA": (0.1176, -0.3763, 0.2142, _X),
        "SLDS": (0.1243, -0.5412, 0.3372, -0.0418),
        "MINT": (0.1821, -0.6929, 0.7013, 0.1650),
        "AutoLFADS": (0.1829, -0.8248, 0.6359, 0.1844),
        "NDT, best single": (0.1733, -0.6189, 0.5267, 0.1511),
        "NDT, ensemble": (0.1886, -0.7601, 0.6064, 0.1828),
        "STNDT, single": (0.1859, -0.5205, 0.6051, 0.1601),
        "STNDT, ensemble": (0.1940, -0.4857, 0.6452, 0.1910),
    },
}
# Neurons of the whole recordings, and fewer trials than they have: what has other neurons or fewer
# trials is a part of one, and no published number is comparable with it.
_WHOLE = {
    "mc_maze": (182, 2000),
    "mc_rtt": (130, 1000),
    "area2_bump": (65, 300),
    "dmfc_rsg": (54, 900),
}


def scores(
    name: str, *, bin_ms: float, neurons: int, trials: int
) -> dict[str, Mapping[str, float]]:
    """Published scores by method; none for a recording that is not a whole data set of these."""
    whole, most = _WHOLE.get(name, (0, 0))
    if (bin_ms, neurons) != (5, whole) or trials < most:
        return {}
    names = _TIMING if name == "dmfc_rsg" else _MOTOR
    return {
        method: {score: x for score, x in zip(names, row, strict=True) if x is not None}
        for method, row in _SCORES[name].items()
    }
