"""Compiled programs kept on disk, for later processes on the same kind of machine.

JAX finds a program by its contents, the version of its compiler, the options and the devices. This
module adds a subdirectory for each version of JAX and each set of CPU instructions, because a
program compiled for one CPU may crash on another, and files that are whole: JAX writes them in
place, so a process that is killed leaves a part of one, which is then neither used nor replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
from pathlib import Path
from typing import Any

import jax
import jaxlib

from stndt_jax import files
from stndt_jax.errors import UserError

_DIGEST = hashlib.sha256().digest_size
# Names the directory; "off" keeps nothing. Commands set it to one in the user's cache if it is not
# set; a program that imports the package decides by itself.
VARIABLE, OFF = "STNDT_CACHE", "off"
# When a process finds more than the first in the directory, the programs used longest ago are
# removed until the second is left.
_MOST_BYTES, _LEFT_BYTES = 2 * 2**30, 1 * 2**30

logger = logging.getLogger("stndt_jax")


def keep_compiled(folder: Path, min_seconds: float = 0.5) -> None:
    """Keeps compiled programs in a directory, where later processes find them.

    Any number of processes may share it. The devices need not be known yet.

    Args:
      folder: directory; the programs lie in the subdirectory ``machine()``.
      min_seconds: programs that compile faster are not kept.

    Raises:
      UserError: the directory cannot be written.
    """
    own = folder.absolute() / machine()
    try:
        own.mkdir(parents=True, exist_ok=True)
        probe = files.temporary(own / "writable")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"compiled programs cannot be kept in {folder} ({error.strerror}); choose another "
            f"directory"
        ) from error
    _install()
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", min_seconds)


def from_environment() -> None:
    """Keeps compiled programs where ``STNDT_CACHE`` says, if it is set; never fails.

    JAX's own setting, ``JAX_COMPILATION_CACHE_DIR``, counts more.
    """
    name = os.environ.get(VARIABLE, "")
    if name in ("", OFF) or jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        keep_compiled(Path(name))
        bound(Path(name))
    except (UserError, OSError) as error:
        logger.debug("compiled programs are not kept: %s", error)


def bound(folder: Path, most: int = _MOST_BYTES, left: int = _LEFT_BYTES) -> None:
    """Removes the programs that were used longest ago if there are too many.

    Args:
      folder: the directory of all machines.
      most: bytes that may be there.
      left: bytes that are left if there are more.
    """
    found = []
    for path in folder.glob("*/*-cache"):
        with contextlib.suppress(OSError):
            about = path.stat()
            found.append((about.st_mtime, about.st_size, path))
    total = sum(size for _, size, _ in found)
    if total <= most:
        return
    for _, size, path in sorted(found):
        if total <= left:
            return
        # Another process may have removed it.
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def machine() -> str:
    """A name for what compiles and runs here: JAX's and jaxlib's version, and the CPU.

    Other devices are part of the key by which JAX finds a program.
    """
    cpu = hashlib.sha256(_cpu().encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{jaxlib.__version__}-{platform.machine()}-{cpu}"


def _cpu() -> str:
    """Model and instruction set of the CPU, as far as the operating system names them."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return f"{platform.system()} {platform.processor()}"
    # Names on x86 and on ARM; all cores are alike, or the first stands for them.
    names = ("model name", "flags", "features", "cpu implementer", "cpu part", "cpu variant")
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in names:
            found.setdefault(name.strip().lower(), " ".join(sorted(value.split())))
    return repr(sorted(found.items()))


def _install() -> None:
    """Has JAX keep programs in whole files.

    This replaces a private function of JAX, tested with the oldest and the newest version that
    setup.py permits; where it is missing, JAX keeps programs in its own way.
    """
    try:
        from jax._src import compilation_cache
        from jax._src.compilation_cache_interface import CacheInterface
    except ImportError:
        return

    class WholeFiles(CacheInterface):
        """Every program in a file that begins with the digest of the rest."""

        def __init__(self, folder: str) -> None:
            self._path = Path(folder)

        def get(self, key: str) -> bytes | None:
            try:
                content = (self._path / f"{key}-cache").read_bytes()
            except OSError:
                return None
            digest, program = content[:_DIGEST], content[_DIGEST:]
            if hashlib.sha256(program).digest() != digest:
                return None
            with contextlib.suppress(OSError):
                os.utime(self._path / f"{key}-cache")  # used: see bound()
            return program

        def put(self, key: str, value: bytes) -> None:
            try:
                content = hashlib.sha256(value).digest() + value
                files.write_bytes(self._path / f"{key}-cache", content)
            except (OSError, UserError) as error:
                logger.debug("a compiled program was not kept: %s", error)

    def whole_files(path: str) -> tuple[Any, str]:
        return WholeFiles(path), path

    # A cache of another directory may be open already.
    compilation_cache.reset_cache()
    compilation_cache.get_file_cache = whole_files
