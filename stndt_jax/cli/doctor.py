"""The command that examines the installation."""

from __future__ import annotations

from pathlib import Path

from stndt_jax.cli.flags import Flags


def doctor(argv: list[str]) -> int:
    """Shows versions, devices, memory, locks, the cache, and what is missing.

    usage: stndt doctor

    Locks and free space are those of the current directory. What is missing is needed by
    some commands only; the command that installs it is shown beside it.

    example: stndt doctor
    """
    Flags(doctor).parse(argv)
    from stndt_jax import __version__
    from stndt_jax.workflows import doctor as examination

    print(examination.report(Path.cwd(), __version__))
    return 0
