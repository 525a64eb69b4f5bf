"""The held-out counts and behaviour of the benchmark's test trials, public since its server closed.

They score, and never select: :func:`check_selects_nothing`.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from stndt_jax import files
from stndt_jax.data import transfer
from stndt_jax.errors import UserError

NAME = "eval_data_test.h5"
SIZE = 105_927_616
SHA256 = "f2f434d30193251b58e6a693381fdd185c8fbc0e47d38f8810e65295bc42c865"
_COMMIT = "42f8410b88e12db136910fa2f888b025ea0aa2ae"
URL = f"https://media.githubusercontent.com/media/neurallatents/nlb_tools/{_COMMIT}/data/{NAME}"
_TIMEOUT_S = 60.0


def download(
    out: str | Path, url: str = URL, *, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Downloads the file to a directory; continues an interrupted download.

    Args:
      out: the directory.
      url: where it is, if not where nlb_tools has it.
      say: called with a line of text.

    Returns:
      The file.

    Raises:
      UserError: it cannot be reached or written, or is another file.
    """
    if not url.startswith(("https://", "http://")):
        raise UserError(f"--url={url} is no address; give one that begins with https://")
    path = Path(out) / NAME
    if is_test_targets(path):
        say(f"{path}: complete")
        return path
    say(f"{path}: {SIZE / 1e6:.1f} MB")
    try:
        transfer.fetch(path, SHA256, SIZE, lambda have: _rest(url, have), "the published")
    except (OSError, http.client.HTTPException) as error:
        named = str(getattr(error, "filename", None) or "")
        if isinstance(error, OSError) and named and Path(named) in (path, *path.parents):
            raise UserError(
                f"{path} cannot be written: {error.strerror}; check the directory and its free "
                f"space"
            ) from error
        answered = isinstance(error, urllib.error.HTTPError) and error.code < 500
        again = "" if answered else "connect and repeat the command, which continues the download, "
        raise UserError(
            f"{url} cannot be read ({_short(error)}); {again}give another address with --url, or "
            f"copy {NAME} of the nlb_tools repository to {path}"
        ) from error
    return path


def _rest(url: str, have: int) -> Iterator[bytes]:
    """The bytes of a file from an offset on."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        # A server without ranges sends the file from its beginning.
        skip = 0 if answer.status == http.client.PARTIAL_CONTENT else have
        while skip and (skipped := answer.read(min(skip, transfer.CHUNK))):
            skip -= len(skipped)
        while chunk := answer.read(transfer.CHUNK):
            yield chunk


def _short(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code}"
    reason = getattr(error, "reason", None) or error
    return str(reason).splitlines()[0][:120] or type(error).__name__


def is_test_targets(path: str | Path) -> bool:
    """Whether a file is the benchmark's test targets, wherever it lies and whatever its name."""
    path = Path(path)
    return path.is_file() and path.stat().st_size == SIZE and files.sha256(path) == SHA256


def check_selects_nothing(targets: str) -> None:
    """Refuses to train with the test targets as those that select.

    Args:
      targets: ``config.data.targets``.

    Raises:
      UserError: the file is the benchmark's test targets.
    """
    if targets and is_test_targets(targets):
        raise UserError(
            f"{targets} holds the benchmark's test targets, which must select nothing; leave "
            f"config.data.targets out, let training trials select "
            f"(config.data.validation_fraction=0.2, or 0 to select nothing), and score with stndt "
            f"evaluate --test"
        )
