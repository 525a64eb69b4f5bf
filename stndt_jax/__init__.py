"""Spatiotemporal transformers for neural population activity, in JAX.

From spike counts to firing rates::

    import stndt_jax as stndt

    data = stndt.SpikeData.from_arrays(counts, bin_ms=5)     # (trials, bins, neurons)
    config = stndt.get_config("auto", data)
    run = stndt.train(config, data, workdir="runs/one")
    scores = run.evaluate()
    rates = run.predict(new_counts)                           # expected counts per bin

===================================  ==============================================================
recordings                           ``SpikeData``, ``load_data``, ``simulate``
training                             ``get_config``, ``train``, ``Run``, ``load_run``
ensembles                            ``build_ensemble``
scores                               ``score``, ``baseline``, ``write_report``
for JAX's transformations            ``make_train``, ``make_predict``, ``hypers``, ``Hyper``
the model as a Flax module           ``STNDT``, ``Dims``; classes of your own: ``models.register``
mistakes                             ``UserError``, one sentence that says what to do
===================================  ==============================================================

A name is imported when it is first used: ``import stndt_jax`` imports neither JAX nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stndt_jax import models as models
    from stndt_jax.api import baseline as baseline
    from stndt_jax.api import build_ensemble as build_ensemble
    from stndt_jax.api import get_config as get_config
    from stndt_jax.api import hypers as hypers
    from stndt_jax.api import load_data as load_data
    from stndt_jax.api import make_predict as make_predict
    from stndt_jax.api import make_train as make_train
    from stndt_jax.api import score as score
    from stndt_jax.api import simulate as simulate
    from stndt_jax.api import train as train
    from stndt_jax.api import write_report as write_report
    from stndt_jax.config.schema import Hyper as Hyper
    from stndt_jax.data.trials import SpikeData as SpikeData
    from stndt_jax.errors import UserError as UserError
    from stndt_jax.models.stndt import STNDT as STNDT
    from stndt_jax.run import Run as Run
    from stndt_jax.run import load_run as load_run
    from stndt_jax.types import Dims as Dims

__version__ = "0.1.0"

_HOMES = {
    "Dims": "types",
    "Hyper": "config.schema",
    "Run": "run",
    "STNDT": "models.stndt",
    "SpikeData": "data.trials",
    "UserError": "errors",
    "load_run": "run",
    "models": "",
    **dict.fromkeys(
        (
            *("baseline", "build_ensemble", "get_config", "hypers", "load_data", "make_predict"),
            *("make_train", "score", "simulate", "train", "write_report"),
        ),
        "api",
    ),
}

__all__ = [
    "STNDT",
    "Dims",
    "Hyper",
    "Run",
    "SpikeData",
    "UserError",
    "baseline",
    "build_ensemble",
    "get_config",
    "hypers",
    "load_data",
    "load_run",
    "make_predict",
    "make_train",
    "models",
    "score",
    "simulate",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if not home:
        return importlib.import_module(f"stndt_jax.{name}")
    value = getattr(importlib.import_module(f"stndt_jax.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
