"""The page of a report without a browser: its content, valid HTML, escaping."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.report_runs import HOSTILE, METHOD, N, R, interpretation, recording, run, scores, svg
from matplotlib import colors

from stndt_jax import files, load_run
from stndt_jax.cli import main
from stndt_jax.evaluation import comparison, method_scores
from stndt_jax.plotting.figures import SavedFigure
from stndt_jax.report import (
    about,
    charts,
    explorer,
    figures,
    markup,
    page,
    published,
    tables,
)
from stndt_jax.report import scores as score_section
from stndt_jax.runs import directory

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Reader(HTMLParser):
    """The elements of a page, with their attributes and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        name, _ = self.open.pop()
        assert name == tag, f"</{tag}> closes <{name}>"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1][0] if self.open else "", data))

    def text(self, *but: str) -> str:
        return "".join(data for name, data in self.texts if name not in ("style", "script", *but))

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, name = HOSTILE.split("/")
    path = run(tmp_path_factory.mktemp("runs") / folder, name, optimizer__learning_rate=0.0123)
    method_scores.add(path, METHOD, {"co_bps": 0.1})
    method_scores.add(path, "smoothing", {"co_bps": 0.1111, "vel_r2": 0.5})
    method_scores.add(path, score_section.PSTH, {"co_bps": 0.1212})
    page.write(path, path / "report.html", figures=False)
    return path


@pytest.fixture(scope="module")
def read(path: Path) -> Reader:
    return Reader((path / "report.html").read_text("utf-8"))


def test_everything_is_escaped_but_what_is_html() -> None:
    inside: list[Any] = ["<b>", markup.tag("i", "&"), 3, None, ["'", '"']]
    made = markup.tag("p", *inside, data_x='"><x', open=True, hidden=False, x=None, y=1.005)
    assert made == ('<p data-x="&quot;&gt;&lt;x" open y="1">&lt;b&gt;<i>&amp;</i>3&#x27;&quot;</p>')
    assert markup.text(made) != made


@pytest.mark.parametrize("bad", ["\x00", "\x1b[31m", "\udcff", "\x7f", "\ufffe"])
def test_characters_without_a_representation_are_escaped(bad: str) -> None:
    shown = markup.tag("p", f"a{bad}b")
    shown.encode("utf-8")
    assert bad not in shown and "\\" in shown


def test_data_cannot_end_their_script() -> None:
    value = {"a": "</script><script>alert(1)</script><!--", "b": [1.5, None, "&amp;\u2028"]}
    made = markup.data_script("x", value)
    (inside,) = re.findall(r'^<script type="application/json" id="x">(.*)</script>$', made)
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == value
    with pytest.raises(ValueError, match="JSON"):
        markup.data_script("x", float("nan"))


def test_links_and_identifiers_are_consistent(read: Reader) -> None:
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] or "" for a in read.find("a")]
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert "src" not in attributes or (attributes["src"] or "").startswith("data:")
        for key in ("aria-labelledby", "for"):
            assert attributes.get(key, ids[0]) in ids
    assert not re.search(r"(@import|url\()", next(d for n, d in read.texts if n == "style"))
    heads = [name for name, _ in read.elements if re.fullmatch(r"h[1-6]", name)]
    assert heads.count("h1") == 1 and heads[0] == "h1"


def test_the_policy_allows_only_the_pages_own_style_and_script(read: Reader) -> None:
    policy = next(a["content"] for a in read.find("meta") if "http-equiv" in a) or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for element, rule in (("style", "style-src"), ("script", "script-src")):
        own = [data for name, data in read.texts if name == element][-1]
        digest = hashlib.sha256(own.encode()).digest()
        assert rules[rule] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert rules["img-src"] == "data:" and len(rules) == 6


def test_the_page_shows_what_the_files_hold(read: Reader, path: Path) -> None:
    text = read.text()
    for shown in (
        *("0.234", "[0.222, 0.247]", "−0.046", "0.111", "0.121"),
        *(METHOD, HOSTILE, "smoothing", "true rates", "0.0123", "1 h 1 min"),
        *("9 trials", "stndt train --config=tiny", "Finished on 2 January 2030, 04:05 UTC"),
    ):
        assert (shown.replace("9 trials", f"{R - 4} trials")) in text, shown
    truth = method_scores.read(path)["true rates"]
    assert truth["rate_r2"] == pytest.approx(1) and f"{truth['co_bps']:.3f}" in text
    # No baseline is scored again that is there.
    assert method_scores.read(path)["smoothing"] == {"co_bps": 0.1111, "vel_r2": 0.5}


def test_settings_are_compared_with_the_shipped_ones(path: Path) -> None:
    name, changed = about.differences(load_run(path))
    assert name == "tiny"
    assert ("optimizer.learning_rate", "0.003", "0.0123") in changed
    assert {key for key, _, _ in changed} == {"optimizer.learning_rate", "population"}


def test_arrays_are_unpacked_as_they_were(path: Path) -> None:
    """Unpacked with NumPy instead of the page's script."""
    loaded = load_run(path)
    found = explorer.payload(loaded)
    rates_RTN, T = loaded.rates_hz("eval"), loaded.data.bins
    shape = (len(found["trials"]), N, T)

    def unpacked(name: str) -> np.ndarray:
        raw = gzip.decompress(base64.b64decode(found["arrays"][name]))
        steps = np.frombuffer(raw, np.uint8).reshape(shape).astype(int)
        return (np.cumsum(steps, axis=-1) % 256).swapaxes(1, 2)

    np.testing.assert_array_equal(unpacked("counts"), loaded.counts("eval"))
    highest_N = np.array(found["highest"])
    error_RTN = unpacked("rates") / 255 * highest_N - rates_RTN
    assert np.abs(error_RTN).max() <= highest_N.max() / 255
    truth_RTN = recording().eval.rates
    assert truth_RTN is not None
    error_RTN = unpacked("truth") / 255 * highest_N - truth_RTN * 50
    assert np.abs(error_RTN).max() <= highest_N.max() / 255
    names = [f"trial {k}, condition {k % 4}" for k in (1, 4, 6, 11)]
    assert found["trials"] == names
    assert found["neurons"][6] == "neuron 6, unit 2, held-out"
    assert found["peaks"] == np.argmax(rates_RTN.mean(axis=0), axis=0).tolist()


def test_figures_and_attention_are_shown(path: Path, tmp_path: Path) -> None:
    drawn_files = [svg(tmp_path / f"{name}.png", 300 + i) for i, name in enumerate("ab")]
    small = svg(tmp_path / "small.svg", 200)
    drawn = [
        SavedFigure("rates", drawn_files[0], f"Read it {HOSTILE}.", f"Rates {HOSTILE}", small),
        SavedFigure("attention", drawn_files[1], "Read that.", "Attention"),
        SavedFigure("training", drawn_files[1], "Not this one.", "Training, again"),
    ]
    found = interpretation()
    dropped = {
        "models": {
            "run": {
                "most_first": {"co_bps": [[0.2, 0.1, 0.0]]},
                "random": {"co_bps": [[0.2, 0.18, 0.16]]},
            }
        }
    }
    shown = figures.RunFigures(drawn, found, dropped)
    read = Reader(page.build(load_run(path), shown))
    images = read.find("img")
    for image, file in zip(images, drawn_files, strict=True):
        data = (image["src"] or "").removeprefix("data:image/svg+xml;base64,")
        source = file.with_suffix(".svg").read_text()
        assert base64.b64decode(data).decode() == figures.adaptive(source)
    assert images[0]["alt"] == f"Rates {HOSTILE}. Read it {HOSTILE}."
    assert int(images[0]["width"] or 0) == round(300 * figures.SCALE)
    # A phone gets its own figure, where there is one.
    (source_of_phones,) = read.find("source")
    assert source_of_phones["media"] == "(max-width: 40rem)"
    assert int(source_of_phones["width"] or 0) == round(200 * figures.SCALE)
    text = read.text()
    assert "Training, again" not in text and f"Rates {HOSTILE}" in text
    # By hand: means of 0.18 and 0.16, and of 0.1 and 0.
    said = (
        "With held-in neurons silenced, co-bps of run, which is 0.200 with all of them, is on "
        "average over the fractions 0.170 in random order and 0.050 with the most important by "
        "attention first. By attention, the neurons ranked highest matter more than random ones."
    )
    assert said in text
    assert "correlate with 0.25" in text and "receives 40% of their attention" in text
    assert "stndt interpret" in text
    # The second neuron is the first of the held-in ones: its importance is 4 of 9 times even.
    assert found.importance is not None
    rows = re.findall(r"neuron 1held-in(.*?)neuron 2", text)
    assert rows == ["2.001" + f"{found.importance[1] * N:.3f}"]


def test_colours_of_a_figure_follow_the_scheme() -> None:
    source = (
        '<svg width="9pt" height="9pt"><defs></defs><path style="fill: #ffffff; stroke: #d55e00"/>'
        '<text style="font: 8px x" x="1.23456789">ab</text><image x="0" '
        'xlink:href="data:;base64,a#000000"/><path style="stroke: #fffffe" d="M 1.5 2.25"/></svg>'
    )
    made = figures.adaptive(source)
    assert "fill: var(--cffffff); stroke: var(--cd55e00)" in made
    light, dark = re.findall(r":root{(.*?)}", made)
    assert "--cd55e00:#d55e00;" in light and "fill:var(--c000000)" in light
    values = dict(re.findall(r"--c(\w{6}):(#\w{6})", dark))
    # White paper becomes the page's surface, black ink light, and marks on pictures stay.
    assert values["ffffff"] == "#1b1f23" and values["fffffe"] == "#fffffe"
    assert min(int(values["000000"][i : i + 2], 16) for i in (1, 3, 5)) > 200
    assert 'x="1.234"' in made and 'd="M 1.5 2.25"' in made
    assert "data:;base64,a#000000" in made
    # The hue stays, the lightness is turned.
    for color in ("#d55e00", "#56b4e9", "#440154"):
        before, after = (
            colors.rgb_to_hsv(colors.to_rgb(x)) for x in (color, figures.turned(color))
        )
        assert after[0] == pytest.approx(before[0], abs=0.01)


def test_baselines_that_are_better_are_said_in_the_head() -> None:
    own = {"co_bps": 0.1, "vel_r2": 0.5, "tp_corr": -0.6}
    methods = {
        "this run": own,
        "smoothing": {"co_bps": 0.2, "vel_r2": 0.4, "tp_corr": -0.7},
        "lds": {"co_bps": 0.05, "vel_r2": 0.6},
        "true rates": {"co_bps": 0.9},
    }
    said = score_section.verdict(methods)
    assert said == (
        "This run is below smoothing in co-bps (0.100 against 0.200) and tp-corr (−0.600 against "
        f"−0.700) and below lds in vel R² (0.500 against 0.600). What to change: {comparison.TRY}."
    )
    parts = [part for part in score_section.cards(methods, None) if part is not None]
    assert len(parts) == 2 and "smoothing 0.200" in str(parts[1]) and "lds 0.600" in str(parts[1])
    assert score_section.verdict({"this run": own, "smoothing": {"co_bps": 0.05}}) == ""
    assert score_section.verdict({"smoothing": {"co_bps": 1}}) == ""


def test_nothing_of_the_padding_is_in_the_explorer(tmp_path: Path) -> None:
    """Rates are 9 in the padding, which comes first, and 1 elsewhere."""
    path = run(tmp_path, unequal=True)
    found = explorer.payload(load_run(path))
    rate = (1 * 1.1 + 0.01) * 50
    # Trials 1, 4, 6 and 11 lack their first k % 5 bins.
    assert found["spans"] == [[1, 25], [4, 25], [1, 25], [1, 25]]
    assert found["highest"] == pytest.approx([rate] * N) == found["means"]
    # The time of a trial is that of its first own bin, although bin 0 is before it.
    assert found["trials"][:2] == ["trial 1, right, from 11.00 s", "trial 4, left, from 14.00 s"]
    assert found["areas"] == ["V1", "V2", "V1", "V2", "V1", "V2", "V1", "V1", "V1"]
    assert found["neurons"][0] == "neuron 0, unit 100, V1, held-in"
    raw = gzip.decompress(base64.b64decode(found["arrays"]["rates"]))
    bytes_RNT = np.cumsum(np.frombuffer(raw, np.uint8).reshape(4, N, 25), axis=2) % 256
    assert not bytes_RNT[1, :, :4].any() and (bytes_RNT[1, :, 4:] == 255).all()


def test_behaviour_is_called_by_its_own_names(tmp_path: Path) -> None:
    path = run(tmp_path, unequal=True)
    text = Reader(page.write(path, tmp_path / "x.html", figures=False).read_text("utf-8")).text()
    assert "vel R² of force x, force y" in text
    assert "Behaviour here is force x, force y." in text
    assert "2 values in every bin: force x, force y (N)" in text
    assert "mm/s" not in text and "hand velocity" not in text.replace(
        "benchmark, hand velocity", ""
    )
    assert "nothing is drawn where a trial has no bins" in text


def test_why_there_is_no_score_of_psths_is_said(tmp_path: Path) -> None:
    path = run(tmp_path, unequal=True)
    found = scores(3)
    del found["ensemble"]["psth_r2"]
    files.write_json(path / "scores.json", found)
    text = Reader(page.write(path, tmp_path / "x.html", figures=False).read_text("utf-8")).text()
    assert "PSTH R² is not computed: the conditions of the trials are known" in text


def test_the_reason_for_missing_figures_is_shown(path: Path) -> None:
    shown = figures.RunFigures(missing="There are no figures: x is missing.")
    assert "x is missing" in Reader(page.build(load_run(path), shown)).text()


def test_unknown_counts_differ_from_zero() -> None:
    counts = np.array([[[0.0], [np.nan], [300.0]]])
    assert explorer._count_bytes(counts).ravel().tolist() == [0, explorer.UNKNOWN, 254]


@pytest.mark.parametrize(("trials", "shown"), [(1, 1), (10, 10), (574, 91), (5000, 91)])
def test_as_many_trials_are_included_as_there_is_room_for(trials: int, shown: int) -> None:
    rows = explorer.shown_trials(trials, 180, 182)
    assert len(rows) == shown
    assert rows[0] == 0 and rows[-1] == trials - 1 and np.ptp(np.diff(rows, prepend=-1)) <= 62


def test_a_run_that_was_not_scored_and_records_nothing_else(tmp_path: Path) -> None:
    path = run(tmp_path, "<i>", members=1, scored=False)
    (path / "metrics.jsonl").unlink()
    record = directory.read_run(path)
    del record["sessions"]
    files.write_json(path / "run.json", record)
    found = Reader(page.write(path, tmp_path / "x.html", figures=False).read_text("utf-8"))
    text = found.text()
    assert "Nothing was scored" in text and "is not recorded" in text
    assert not [a for a in found.find("section") if a["id"] == "training"]
    assert method_scores.read(path) == {}


def test_files_with_missing_values_still_make_a_page(tmp_path: Path) -> None:
    """Members frozen at once, scores that are null, times that are none."""
    path = run(tmp_path, members=2)
    found = scores(2)
    found["ensemble"]["vel_r2"] = None
    found["ensemble"]["co_bps_interval"] = [None, 0.1]
    found["members"][0] |= {"validation_co_bps": None, "co_bps": None}
    files.write_json(path / "scores.json", found)
    rows = [{"epoch": e, "valid_cobps": [None, None], "train_masked_loss": None} for e in (1, 2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = directory.read_run(path)
    record["sessions"] = [{"began": "yesterday"}, {}]
    files.write_json(path / "run.json", record)
    text = Reader(page.write(path, path / "r.html", figures=False).read_text("utf-8")).text()
    assert "yesterday" in text and "0.234" in text and "not recorded" in text


def test_published_scores_are_shown_for_whole_data_sets_only() -> None:
    whole: dict[str, Any] = {"name": "mc_maze", "bin_ms": 5.0, "neurons": 182, "trials": 2295}
    found = published.scores(**whole)
    assert found["STNDT, ensemble"]["co_bps"] == 0.3862
    assert "fp_bps" not in found["Smoothing"]
    parts = {"neurons": 162, "name": "mc_maze_large", "bin_ms": 20.0, "trials": 138}
    for key, value in parts.items():
        assert published.scores(**{**whole, key: value}) == {}


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (-0.031, 0.447), (0.5166, 0.5171), (3, 50501), (1e-7, 2e-7)):
        found = charts.ticks(low, high, 5)
        steps = np.diff(found)
        assert 3 <= len(found) <= 8 and low <= found[0] and found[-1] <= high
        np.testing.assert_allclose(steps, steps[0])
        mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


def test_a_curve_is_interrupted_at_unknown_values() -> None:
    y = np.array([1.0, np.nan, 2.0, 3.0])
    svg = charts.lines([charts.Line("a", np.arange(4.0), y)], label="l", x_label="x", y_label="y")
    (d,) = [a["d"] for a in Reader(svg).find("path")]
    assert d is not None and d.count("M") == 2 and d.count("L") == 1
    constant = [charts.Line("a", np.zeros(1), np.zeros(1))]
    assert "nan" not in charts.lines(constant, label="l", x_label="x", y_label="y")


def test_dots_and_intervals_stay_inside_their_strip() -> None:
    svg = Reader(charts.strip(0.5, 0.0, 1.0, (0.25, 9.0), ours=True))
    (dot,) = svg.find("circle")
    bar = next(a for a in svg.find("line") if "bar" in (a["class"] or ""))
    width = charts.STRIP[0]
    assert float(dot["cx"] or 0) == width / 2
    assert float(bar["x1"] or 0) == pytest.approx(5 + (width - 10) / 4)
    assert float(bar["x2"] or 0) == width - 5


def test_damaged_intervals_are_ignored() -> None:
    assert tables.interval_of({"a_interval": [0.1, 0.2]}, "a") == (0.1, 0.2)
    for odd in (None, [0.1], [None, 0.2], "ab", [float("nan"), 1.0]):
        assert tables.interval_of({"a_interval": odd}, "a") is None


def test_the_command(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert main.main(["report", str(path), f"--out={out}", "--nofigures"]) == 0
    # The same files give the same page.
    assert out.read_bytes() == (path / "report.html").read_bytes()
    assert str(out) in capsys.readouterr().out
    assert main.main(["report", str(tmp_path), "--nofigures"]) == 2
    assert "no run directory" in capsys.readouterr().err
    # A directory that is missing is made; a file is none.
    made = tmp_path / "new" / "r.html"
    assert main.main(["report", str(path), f"--out={made}", "--nofigures"]) == 0
    assert made.read_bytes() == out.read_bytes()
    capsys.readouterr()
    assert main.main(["report", str(path), f"--out={out / 'r.html'}", "--nofigures"]) == 2
    assert "r.html" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*.partial"))
