"""What came of runs, to look at: ``report`` and ``compare``."""

from __future__ import annotations

from pathlib import Path

from absl import flags

from stndt_jax import files
from stndt_jax.cli.flags import new_flags, parse


def report(argv: list[str]) -> int:
    """Writes one HTML file about a run: scores, rates to look into, training, figures, settings.

    usage: stndt report DIR [--out=FILE.html] [--data=FILE] [--targets=FILE] [--nofigures]

    The file needs no network and nothing beside it. A run that was not evaluated is evaluated
    first; smoothing, condition means and, where they are known, the true rates are scored once
    and stand beside the run from then on. What stndt interpret found is shown too.

    example: stndt report runs/maze
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "file to write; report.html in DIR", flag_values=fv)
    flags.DEFINE_string("data", "", "the recording, if it has moved", flag_values=fv)
    flags.DEFINE_string("targets", "", "target file to score against", flag_values=fv)
    flags.DEFINE_bool("figures", True, "draw figures, which takes a while", flag_values=fv)
    flag, (path,) = parse(fv, argv, report, 1)
    from stndt_jax.report import page

    out = Path(flag["out"] or Path(path) / "report.html")
    page.write(
        Path(path),
        out,
        data_path=flag["data"],
        targets_path=flag["targets"],
        figures=flag["figures"],
        say=print,
    )
    print(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


def compare(argv: list[str]) -> int:
    """Sets two or more runs side by side: scores, settings that differ, training curves.

    usage: stndt compare DIR DIR ... [--out=compare.html]

    Prints tables; with --out it also writes them, and the curves, as one HTML file. The runs'
    recordings are not needed.

    example: stndt compare runs/stndt runs/ndt --out=compare.html
    """
    fv = new_flags()
    flags.DEFINE_string("out", "", "HTML file to write", flag_values=fv)
    flag, paths = parse(fv, argv, compare, 2, 1000)
    from stndt_jax.report import compare as room

    runs = room.open_runs([Path(path) for path in paths])
    print(room.text(runs))
    if flag["out"]:
        files.write_text(Path(flag["out"]), room.build(runs), "choose another with --out")
        print(f"\nwrote {flag['out']}")
    return 0
