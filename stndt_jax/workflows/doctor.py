"""What is installed and what works here, for ``stndt --version`` and ``stndt doctor``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import jax

from stndt_jax.console.lines import counted, one_line
from stndt_jax.console.tables import table
from stndt_jax.errors import install
from stndt_jax.parallel import compile_cache

CORE = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "h5py")
# Package -> what it is needed for, and the extra that installs it.
OPTIONAL = {
    "matplotlib": ("figures", "plots"),
    "optuna": ("search", "search"),
    "pynwb": ("NWB files", "nlb"),
    "pandas": ("NWB files, scores of the benchmark", "nlb"),
    "xarray": ("export as NetCDF", "export"),
    "pyarrow": ("Parquet tables", "parquet"),
    "tensorboardX": ("TensorBoard", "log"),
    "dandi": ("stndt download", "dandi"),
    "elephant": ("the GPFA baseline", "gpfa"),
    "dynamax": ("the LDS baseline", "lds"),
    "ray": ("--executor=ray", "ray"),
}


def found(package: str) -> str:
    """The installed version of a package; empty if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def devices() -> str:
    """The devices that JAX uses, in words, or why it finds none."""
    try:
        kinds = [device.device_kind for device in jax.devices()]
    except RuntimeError as error:
        return f"no devices ({one_line(str(error), 200)})"
    backend = jax.default_backend()
    return f"{counted(len(kinds), 'device')} of {backend}: {', '.join(sorted(set(kinds)))}"


def versions(version: str) -> str:
    """One line for ``stndt --version`` about the package, another about what it uses.

    Args:
      version: of the package.
    """
    names = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
    used = ", ".join(f"{name} {found(name) or 'missing'}" for name in names)
    return f"{version}\n{used}, Python {platform.python_version()}; {devices()}"


def locks(folder: Path) -> str:
    """Whether the kernel locks files in a directory, in words."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as first, open(first.name) as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "work"
            return "do not work: two processes can hold one; use another file system, or --no-lock"
    except OSError as error:
        return f"do not work ({error.strerror}); use another directory, or --no-lock"


def cache() -> str:
    """Where compiled programs are kept, whether that works, and how large they are, in words."""
    name = os.environ.get(compile_cache.VARIABLE, "")
    if name in ("", compile_cache.OFF):
        return "off"
    # It need not exist yet: then its nearest parent decides.
    folder = there = Path(name).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return f"{folder} cannot be written; set {compile_cache.VARIABLE} to another directory"
    sizes = []
    for path in folder.glob("*/*-cache"):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return f"{counted(len(sizes), 'program')}, {sum(sizes) / 2**20:.0f} MiB, in {folder}"


def memory() -> str:
    """Memory of the machine and, where JAX knows it, of its first device."""
    gib = 2**30
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / gib
        said = f"{whole:.1f} GiB"
    except (OSError, ValueError):
        said = "unknown"
    try:
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    except RuntimeError:
        limit = None
    return f"{said}, of a device {limit / gib:.1f} GiB" if limit else said


def report(folder: Path, version: str) -> str:
    """What is installed and works in a directory, and what is missing and how to get it."""
    disk = shutil.disk_usage(folder)
    rows = [
        ["stndt", version],
        ["Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"],
        *([name, found(name) or "missing"] for name in CORE),
        ["devices", devices()],
        ["memory", memory()],
        ["disk", f"{disk.free / 2**30:.1f} GiB free in {folder}"],
        ["file locks", locks(folder)],
        ["compile cache", cache()],
    ]
    lines = [table(["", ""], rows, left=[""])]
    missing = [
        [name, what, install(extra).partition(": ")[2]]
        for name, (what, extra) in OPTIONAL.items()
        if not found(name)
    ]
    if not found("nlb_tools"):
        missing.append(["nlb_tools", "scores", "pip install --no-deps nlb_tools==0.0.4"])
    if missing:
        heads = ["missing", "needed for", "command, in the clone of stndt_jax"]
        lines.append(table(heads, missing, left=heads))
    return "\n\n".join(lines)
