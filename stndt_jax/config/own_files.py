"""Files of a run directory in its own configuration.

``config.json`` says ``{run}/data.h5`` for a file beside it, so that the directory can be moved. In
memory a configuration has the path itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stndt_jax import files

_RUN = "{run}/"
_KEYS = ("path", "targets")


def expanded(values: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The values of a ``config.json``, with the paths of the files beside it."""
    return _changed(
        values,
        lambda name: str(run / name.removeprefix(_RUN)) if name.startswith(_RUN) else name,
    )


def contracted(values: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The values for ``config.json``; undoes :func:`expanded`, wherever the directory is now.

    The directory may be one of :func:`stndt_jax.files.filling`.
    """
    own = files.destination(run.resolve())

    def short(name: str) -> str:
        path = Path(name)
        is_own = bool(name) and files.destination(path.parent.resolve()) == own
        return _RUN + path.name if is_own else name

    return _changed(values, short)


def _changed(values: Mapping[str, Any], change: Any) -> dict[str, Any]:
    data = values.get("data")
    if not isinstance(data, Mapping):
        return dict(values)
    paths = {key: change(data[key]) for key in _KEYS if isinstance(data.get(key), str)}
    return {**values, "data": {**data, **paths}}
