"""``interpret``, ``figures``, ``report`` and ``compare``."""

from __future__ import annotations

from pathlib import Path

from stndt_jax import files
from stndt_jax.cli import flags as shared
from stndt_jax.cli.flags import Flags


def interpret(argv: list[str]) -> int:
    r"""Shows which neurons and times a run's models attend to, and whether it matters.

    usage: stndt interpret DIR [--targets=FILE] [--against=DIR] [--nodrop] [flags]

    A neuron's importance is the attention it receives; integrated gradients are a
    second estimate. Held-in neurons are then silenced, in the order of importance, at
    random and in the reverse order, and the rates scored. This takes minutes and needs
    the held-out counts; --nodrop leaves it out, --nodecode leaves out the scores of
    behaviour, which take most of the time. --against silences the same neurons for a
    second run, such as one of NDT.

    Writes attention.h5, neurons.csv, interpret.json, dropping.json and figures.

    example: stndt interpret runs/maze --targets=mc_maze_target.h5 \
                 --against=runs/ndt
    """
    flags = Flags(interpret)
    shared.out(flags, "DIR", "directory to write to (default: interpret in DIR)")
    shared.data(flags)
    shared.targets(flags)
    flags.choice("split", "trials whose attention is shown", ["eval", "train"], "eval")
    shared.select(flags)
    flags.switch("gradients", "leave out integrated gradients", True)
    flags.switch("drop", "silence no neurons", True)
    flags.switch("decode", "leave out the scores of behaviour while silencing", True)
    flags.text("against", "DIR", "another run, in which the same neurons are silenced")
    flags.whole("repeats", "random orders of silencing", 5, 1)
    shared.seed(flags, "of the random orders")
    flag, (path,) = flags.parse(argv, 1)
    if not flag["drop"]:
        flag.refuse("against", "repeats", "seed", "decode", when="with --nodrop")
    if flag["out"]:
        files.check_output(Path(flag["out"]), "a directory", [path])
    from stndt_jax.workflows import interpret as workflow

    silencing = workflow.Silencing(
        against=flag["against"],
        repeats=flag["repeats"],
        seed=flag["seed"],
        decode=flag["decode"],
    )
    written = workflow.interpret(
        Path(path),
        Path(flag["out"] or Path(path) / "interpret"),
        data_path=flag["data"],
        targets_path=flag["targets"],
        split=flag["split"],
        select=flag["select"],
        gradients=flag["gradients"],
        silencing=silencing if flag["drop"] else None,
        say=shared.say,
    )
    return shared.wrote(written)


def figures(argv: list[str]) -> int:
    """Writes all figures of a run, as PNG and SVG.

    usage: stndt figures DIR [--out=DIR] [--data=FILE] [--targets=FILE]

    Rates in single trials, PSTHs, behaviour, latent paths, correlations, calibration,
    attention and training; also silenced neurons, after stndt interpret.

    example: stndt figures runs/maze --targets=mc_maze_target.h5
    """
    flags = Flags(figures)
    shared.out(flags, "DIR", "directory to write to (default: figures in DIR)")
    shared.data(flags)
    shared.targets(flags)
    flag, (path,) = flags.parse(argv, 1)
    from stndt_jax.plotting import run_figures

    out = Path(flag["out"] or Path(path) / "figures")
    if flag["out"]:
        files.check_output(out, "a directory", [path])
    for figure in run_figures.draw_all(
        Path(path), out, data_path=flag["data"], targets_path=flag["targets"]
    ):
        print(f"{figure.file}\n    {figure.caption}")
    return 0


def report(argv: list[str]) -> int:
    """Writes one HTML file about a run: scores, rates, training, figures, settings.

    usage: stndt report DIR [--out=FILE.html] [--data=FILE] [--targets=FILE]
                        [--nofigures]

    The file needs no network and no other file. A run without scores is evaluated
    first; the scores of smoothing, of condition means and, where they are known, of
    the true rates are computed once and kept in the run directory. Results of stndt
    interpret are included.

    example: stndt report runs/maze
    """
    flags = Flags(report)
    shared.out(flags, "FILE", "HTML file to write (default: report.html in DIR)")
    shared.data(flags)
    shared.targets(flags)
    flags.switch("figures", "leave out the figures, which take a while", True)
    flag, (path,) = flags.parse(argv, 1)
    out = Path(flag["out"] or Path(path) / "report.html")
    files.check_output(out, "an HTML page", [path, flag["data"], flag["targets"]])
    from stndt_jax.report import page

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


def card(argv: list[str]) -> int:
    """Writes a model card of a run, in Markdown: data, scores, limits, versions.

    usage: stndt card DIR [--out=FILE.md] [--data=FILE] [--targets=FILE]

    What only you know (licence, subject, area) is left to fill in. A card in which
    something was filled in is not replaced.

    example: stndt card runs/maze
    """
    flags = Flags(card)
    shared.out(flags, "FILE", "Markdown file to write (default: card.md in DIR)")
    shared.data(flags)
    shared.targets(flags)
    flag, (path,) = flags.parse(argv, 1)
    out = Path(flag["out"] or Path(path) / "card.md")
    files.check_output(out, "a model card", [path, flag["data"], flag["targets"]])
    from stndt_jax.report import card as cards
    from stndt_jax.run import Run

    cards.check_replaceable(out)
    files.write_text(out, cards.of_run(Run(Path(path), flag["data"], flag["targets"])))
    print(f"wrote {out}; fill in what it asks for")
    return 0


def compare(argv: list[str]) -> int:
    """Compares two or more runs: scores, settings that differ, training curves.

    usage: stndt compare DIR DIR ... [--out=FILE.html]

    Prints tables; with --out it also writes them, and the curves, as one HTML file.
    The recordings of the runs are not needed.

    example: stndt compare runs/stndt runs/ndt --out=compare.html
    """
    flags = Flags(compare)
    shared.out(flags, "FILE", "HTML file to write as well")
    flag, paths = flags.parse(argv, 2, shared.MOST_PATHS)
    if flag["out"]:
        files.check_output(Path(flag["out"]), "an HTML page", paths)
    from stndt_jax.report import compare as comparison

    runs = comparison.open_runs([Path(path) for path in paths])
    print(comparison.text(runs))
    if flag["out"]:
        files.write_text(Path(flag["out"]), comparison.build(runs), "choose another with --out")
        print(f"\nwrote {flag['out']}")
    return 0
