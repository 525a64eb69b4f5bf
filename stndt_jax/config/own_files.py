"""Files of a run directory in its own configuration.

``config.json`` says ``{run}/data.h5`` for a file beside it, so that the directory can be moved. In
memory a configuration has the path itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RUN = "{run}/"
_KEYS = ("path", "targets")


def expanded(values: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The values of a ``config.json``, with the paths of the files beside it."""
    return _changed(
        values,
        lambda name: str(run / name.removeprefix(_RUN)) if name.startswith(_RUN) else name,
    )


def contracted(values: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The values for ``config.json``; undoes :func:`expanded`, wherever the directory is now."""

    def short(name: str) -> str:
        path = Path(name)
        return _RUN + path.name if name and path.parent.resolve() == run.resolve() else name

    return _changed(values, short)


def _changed(values: Mapping[str, Any], change: Any) -> dict[str, Any]:
    data = values.get("data")
    if not isinstance(data, Mapping):
        return dict(values)
    paths = {key: change(data[key]) for key in _KEYS if isinstance(data.get(key), str)}
    return {**values, "data": {**data, **paths}}
