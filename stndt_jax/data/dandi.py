"""Download of the benchmark's data sets from the DANDI archive, in pinned versions.

Every file is checked against the SHA-256 digest that the archive states.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from stndt_jax import files
from stndt_jax.data import transfer
from stndt_jax.data.nlb import Dandiset, check_name
from stndt_jax.errors import UserError, install


def download(
    name: str, out: str | Path, *, say: Callable[[str], None] = lambda _: None, client: Any = None
) -> list[Path]:
    """Downloads a data set's NWB files to ``out/NUMBER/``, in the folders of the archive.

    A file with the right digest is kept, and an interrupted download is continued. A file gets its
    final name only after its digest was found to be right.

    Args:
      name: name of the data set.
      out: the folder for all data sets.
      say: called with a line of text about each file.
      client: client of the archive; default dandi's own.

    Returns:
      The files.

    Raises:
      UserError: dandi is missing, the archive cannot be reached, a digest is wrong, or a file
        cannot be written.
    """
    dandiset = check_name(name)
    folder = Path(out) / dandiset.number
    errors: tuple[type[Exception], ...] = (OSError,)
    if client is None:
        client, errors = _client()
    paths = []
    try:
        found = client.get_dandiset(dandiset.number, dandiset.version)
        assets = [asset for asset in found.get_assets() if asset.path.endswith(".nwb")]
        for asset in sorted(assets, key=lambda asset: asset.path):
            path = folder.joinpath(*_parts(asset.path))
            paths.append(path)
            digest = _stated_sha256(asset)
            whole = path.is_file() and path.stat().st_size == asset.size
            if whole and files.sha256(path) == digest:
                say(f"{path}: complete")
                continue
            say(f"{path}: {asset.size / 1e6:.1f} MB")
            chunks = asset.get_download_file_iter(chunk_size=transfer.CHUNK)
            transfer.fetch(path, digest, asset.size, chunks, "the archive's")
    except errors as error:
        raise UserError(_explanation(error, dandiset, folder)) from error
    if not paths:
        raise UserError(
            f"DANDI:{dandiset.number}/{dandiset.version} holds no NWB file; the archive has "
            "changed: update stndt_jax, or copy the files from elsewhere"
        )
    return paths


def _explanation(error: Exception, dandiset: Dandiset, folder: Path) -> str:
    """What went wrong, a file or the network, and what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename} cannot be written: {error.strerror}; check the folder and its free "
            "space"
        )
    # By name, because the client need not be installed where another one is given.
    if type(error).__name__ == "NotFoundError":
        said = f"the DANDI archive does not have what was asked for ({_short(error)}); "
    else:
        said = (
            f"the DANDI archive cannot be reached ({_short(error)}); connect and repeat the "
            "command, which continues the download, or "
        )
    return (
        f"{said}copy the files of "
        f"DANDI:{dandiset.number}/{dandiset.version} from elsewhere to "
        f"{folder}/{dandiset.subject}/*desc-train*.nwb and *desc-test*.nwb"
    )


def _stated_sha256(asset: Any) -> str:
    """The digest that the archive states."""
    stated = asset.get_raw_metadata().get("digest", {}).get("dandi:sha2-256")
    if not stated:
        raise UserError(f"the archive states no SHA-256 of {asset.path}; try again later")
    return str(stated)


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path in the archive.

    Raises:
      UserError: the path leads out of the folder.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise UserError(f"the archive has a file {path}, which leads out of the folder")
    return pure.parts


def _short(error: Exception) -> str:
    """The first line of an error's message, at most 120 characters."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def _client() -> tuple[Any, tuple[type[Exception], ...]]:
    """The client of dandi, and the exceptions that it raises without a network."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import requests
            from dandi.dandiapi import DandiAPIClient
            from dandi.exceptions import NotFoundError
    except ModuleNotFoundError as error:
        raise UserError(
            f"downloading needs the dandi client ({error}); {install('dandi')}"
        ) from error
    return DandiAPIClient(), (OSError, requests.RequestException, NotFoundError)
