"""Checkpoint files as ``torch.save`` writes them, by hand: PyTorch is not needed.

A zip archive with a pickle of protocol 2, in which every tensor is a call of
``torch._utils._rebuild_tensor_v2`` on a reference to a storage, and the storages' bytes.
"""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from helpers.published import make_options

_KINDS = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage"}


class CfgNode(dict):
    """A stand-in for yacs' configuration node, pickled under its name."""


CfgNode.__module__ = "yacs.config"


def _rebuild_tensor_v2(*_: Any) -> None:
    raise AssertionError("only its name is written")


_rebuild_tensor_v2.__module__ = "torch._utils"


class _Storage:
    def __init__(self, kind: type, key: str, size: int) -> None:
        self.pid = ("storage", kind, key, "cpu", size)


@contextmanager
def _named() -> Iterator[dict[str, type]]:
    """Modules of the names that a checkpoint mentions, for as long as it is being written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    yacs, config = types.ModuleType("yacs"), types.ModuleType("yacs.config")
    kinds = {}
    for name in _KINDS.values():
        kinds[name] = type(name, (), {"__module__": "torch"})
        setattr(torch, name, kinds[name])
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    config.CfgNode = CfgNode  # type: ignore[attr-defined]
    fakes = {"torch": torch, "torch._utils": utils, "yacs": yacs, "yacs.config": config}
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield kinds
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def save(path: Path, value: Any, *, protocol: int = 2, compression: int = 0) -> Path:
    """Writes ``value``; arrays become tensors."""
    blobs: list[bytes] = []
    out = io.BytesIO()
    with _named() as kinds:

        class Writer(pickle.Pickler):
            def persistent_id(self, obj: Any) -> Any:
                return obj.pid if isinstance(obj, _Storage) else None

            def reducer_override(self, obj: Any) -> Any:
                if not isinstance(obj, np.ndarray):
                    return NotImplemented
                obj = np.ascontiguousarray(obj)
                kind = kinds[_KINDS[obj.dtype.str[1:]]]
                strides = tuple(s // obj.itemsize for s in obj.strides)
                blobs.append(obj.tobytes())
                storage = _Storage(kind, str(len(blobs) - 1), obj.size)
                hooks: Any = collections.OrderedDict()
                return _rebuild_tensor_v2, (storage, 0, obj.shape, strides, False, hooks)

        Writer(out, protocol).dump(value)
    return archive(path, out.getvalue(), blobs, compression)


def archive(path: Path, raw: bytes, blobs: list[bytes], compression: int = 0) -> Path:
    """The zip archive around a pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(f"{path.stem}/data.pkl", raw)
        file.writestr(f"{path.stem}/byteorder", b"little")
        for key, blob in enumerate(blobs):
            file.writestr(f"{path.stem}/data/{key}", blob)
        file.writestr(f"{path.stem}/version", b"3\n")
    return path


def checkpoint(state: dict[str, np.ndarray], cobps: float = 0.1, **changes: Any) -> dict[str, Any]:
    """What the published code saves of a model, its configuration with changes by option name.

    The options of ``published.make_options`` and ``"TRAIN.BATCH_SIZE"`` and the like.
    """
    model = make_options(**{k: v for k, v in changes.items() if "." not in k})
    offset = model.pop("POSITION_OFFSET")
    config = {
        "SEED": 100,
        "MODEL": CfgNode(
            NAME="NeuralDataTransformer",
            CONTEXT_WRAP_INITIAL=False,
            LINEAR_EMBEDDER=True,
            REQUIRES_RATES=False,
            LOGRATE=True,
            SPIKE_LOG_INIT=False,
            FIXUP_INIT=True,
            DROPOUT=0.1,
            DROPOUT_RATES=0.2,
            DROPOUT_EMBEDDING=0.25,
            DECODER=CfgNode(LAYERS=1),
            LOSS=CfgNode(TYPE="poisson", TOPK=1.0),
            POSITION=CfgNode(OFFSET=offset),
            **model,
        ),
        "TRAIN": CfgNode(
            BATCH_SIZE=4,
            NUM_UPDATES=501,
            MAX_GRAD_NORM=200.0,
            MASK_RATIO=0.25,
            MASK_TOKEN_RATIO=0.9,
            MASK_RANDOM_RATIO=0.5,
            MASK_MODE="full",
            MASK_MAX_SPAN=3,
            MASK_SPAN_RAMP_START=80,
            MASK_SPAN_RAMP_END=120,
            DO_CONTRAST=True,
            CONTRAST_MASK_RATIO=0.05,
            CONTRAST_MASK_TOKEN_RATIO=0.6,
            CONTRAST_MASK_RANDOM_RATIO=0.7,
            LR=CfgNode(INIT=0.002, SCHEDULE=True, SCHEDULER="cosine", WARMUP=50),
            WEIGHT_DECAY=5e-05,
            PATIENCE=300,
            VAL_INTERVAL=20,
        ),
    }
    for name, value in changes.items():
        if "." in name:
            *sections, leaf = name.split(".")
            node: Any = config
            for section in sections:
                node = node[section]
            node[leaf] = value
    return {
        "state_dict": collections.OrderedDict(state),
        "optim_state": {"state": {}, "param_groups": [{"lr": 0.002, "betas": (0.9, 0.999)}]},
        "lr_scheduler": None,
        "config": CfgNode(config),
        "best_val": {"value": 0.12, "update": 120},
        "best_cobps": {"value": cobps, "update": 120},
        "num_neurons": 5,
        "extra_state": {"update": 140, "checkpoint": 1, "pth_time": 12.5, "max_spikes": 5},
    }
