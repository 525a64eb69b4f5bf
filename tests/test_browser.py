"""The report in a real browser: it draws, makes no connections, and is accessible."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.report_runs import HOSTILE, METHOD, interpretation, run, svg

from stndt_jax import files, load_run
from stndt_jax.evaluation import method_scores
from stndt_jax.plotting.figures import SavedFigure
from stndt_jax.report import page as pages
from stndt_jax.report import scores
from stndt_jax.report.figures import RunFigures

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'"
)
CHROMIUM = next(
    (p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))),
    None,
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
    pytest.mark.slow,
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Opened(NamedTuple):
    """A page, its errors and its requests."""

    page: Any
    errors: list[str]
    requests: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Root, as containers have it, needs the first; small /dev/shm the second.
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run whose directory, and one of whose methods, are named to do harm."""
    # A name with a slash is a folder and a name.
    folder, name = HOSTILE.split("/")
    path = run(tmp_path_factory.mktemp("runs") / folder, name)
    method_scores.add(path, METHOD, {"co_bps": 0.1})
    method_scores.add(path, HOSTILE, {"co_bps": 0.2})
    loaded = load_run(path)
    scores.add_baselines(loaded, len)
    file = svg(path / "a.png", 500)
    drawn = [SavedFigure(name, file, "Read it so.", HOSTILE) for name in ("rates", "attention")]
    shown = RunFigures(drawn, interpretation(), None)
    files.write_text(path / "report.html", pages.build(load_run(path), shown))
    return path / "report.html"


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport=DESKTOP)
    found = Opened(context.new_page(), [], [])
    watch(found)
    show(found, report)
    yield found
    context.close()


def watch(found: Opened) -> None:
    found.page.on(
        "console",
        lambda m: found.errors.append(m.text) if m.type in ("error", "warning") else None,
    )
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))

    def refuse(dialog: Any) -> None:
        found.errors.append("a dialog")
        dialog.dismiss()

    found.page.on("dialog", refuse)
    found.page.on("request", lambda request: found.requests.append(request.url))


def show(found: Opened, path: Path) -> None:
    found.page.goto(path.as_uri())
    found.page.wait_for_selector("html[data-ready]")


def test_there_are_no_errors_and_no_requests(opened: Opened, report: Path) -> None:
    assert opened.errors == []
    outside = [url for url in opened.requests if not url.startswith("data:")]
    assert outside == [opened.page.url] and opened.page.url.startswith("file:")


def test_the_policy_holds(opened: Opened) -> None:
    """Injected scripts do not run, and connections are refused."""
    said = opened.page.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = 'window.harmed = true';
            document.body.append(script);
            const sent = await fetch('https://example.org/').then(() => 'sent', () => 'refused');
            return [window.harmed === true, sent];
        }"""
    )
    assert said == [False, "refused"]


def test_hostile_names_are_text(opened: Opened) -> None:
    page = opened.page
    assert page.locator("h1").inner_text() == HOSTILE.split("/")[1]
    rows = page.locator("#scores tbody th").all_inner_texts()
    assert METHOD in rows and HOSTILE in rows
    assert page.locator("img:not([src^='data:image/svg+xml;base64,'])").count() == 0
    assert METHOD in page.locator("#run").inner_text()
    assert HOSTILE in page.locator("header").inner_text()


def test_choosing_a_trial_or_a_neuron_changes_the_figure(opened: Opened) -> None:
    page = opened.page

    def state() -> tuple[str, str, str, str]:
        pixels = "id => document.getElementById(id).toDataURL()"
        curve = page.locator("#rate-panel path.main").get_attribute("d")
        return (
            curve,
            page.evaluate(pixels, "raster"),
            page.evaluate(pixels, "heat"),
            (page.locator("#summary").inner_text()),
        )

    first = state()
    page.select_option("#trial", index=2)
    second = state()
    assert all(a != b for a, b in zip(first, second, strict=True))
    page.click("#neuron-after")
    third = state()
    assert third[0] != second[0] and third[3] != second[3]
    # By the keyboard alone, and back.
    page.focus("#trial-before")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.focus("#neuron-before")
    page.keyboard.press("Space")
    assert state() == first
    # A click on a row of the picture chooses its neuron: the lowest is the last.
    box = page.locator("#heat").bounding_box()
    page.locator("#heat").click(position={"x": 50, "y": box["height"] - 4})
    assert page.locator("#neuron").input_value() == "8"


def test_what_is_drawn_is_what_was_inferred(opened: Opened, report: Path) -> None:
    """The curve on the screen, read back through its axis, against the file of rates."""
    loaded = load_run(report.parent)
    page = opened.page
    page.select_option("#trial", index=1)
    page.select_option("#neuron", index=7)
    d = page.locator("#rate-panel path.main").get_attribute("d")
    heights = [float(point.split(" ")[1]) for point in d.replace("M", "L").split("L")[1:]]
    ticks = page.evaluate(
        """() => [...document.querySelectorAll('#rate-panel text[text-anchor=end]')]
            .map(t => [Number(t.textContent), Number(t.getAttribute('y')) - 4])"""
    )
    (low, y_low), (high, y_high) = ticks[0], ticks[-1]
    drawn = [low + (y - y_low) * (high - low) / (y_high - y_low) for y in heights]
    wanted = loaded.rates_hz("eval")[1, :, 7]
    assert drawn == pytest.approx(wanted.tolist(), abs=0.02 * float(wanted.max()))


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of trials of unequal length, whose padding comes first, with rates of 9 in the padding."""
    path = run(tmp_path_factory.mktemp("unequal"), unequal=True)
    shown = RunFigures([], None, None)
    files.write_text(path / "report.html", pages.build(load_run(path), shown))
    return path / "report.html"


def test_nothing_is_drawn_where_a_trial_has_no_bins(browser: Any, unequal: Path) -> None:
    context = browser.new_context(viewport=DESKTOP)
    found = Opened(context.new_page(), [], [])
    watch(found)
    show(found, unequal)
    page = found.page
    assert page.locator("#order").input_value() == "area"
    # The second trial begins with bin 4 of 25.
    page.select_option("#trial", index=1)
    first = page.evaluate(
        """() => {
            const of = (look) => document.querySelector(`#rate-panel ${look}`)
                .getAttribute('d').match(/[ML][\\d.]+/g).map((word) => Number(word.slice(1)));
            const axis = [...document.querySelectorAll('#rate-panel text[text-anchor=middle]')]
                .filter((text) => /^\\d+$/.test(text.textContent))
                .map((text) => [Number(text.textContent), Number(text.getAttribute('x'))]);
            const [low, high] = [axis[0], axis.at(-1)];
            const ms = (x) => low[0] + ((x - low[1]) * (high[0] - low[0])) / (high[1] - low[1]);
            const looks = ['path.main', 'path.smooth', 'path.ticks'];
            return looks.map((look) => ms(Math.min(...of(look))));
        }"""
    )
    assert first[0] == pytest.approx(90.0, abs=1) and first[1] == pytest.approx(90.0, abs=1)
    assert first[2] > 80.0
    said = page.locator("#summary").inner_text()
    assert "Trial 4, left, from 14.00 s" in said and "unit 102, V1, held-out" in said
    assert "mean 55.5, highest 55.5 spikes/s" in said
    assert found.errors == []
    # Columns of the pictures: nothing before the trial, something in it.
    for name in ("raster", "heat"):
        inked = page.evaluate(
            """(id) => {
                const canvas = document.getElementById(id);
                const context = canvas.getContext('2d');
                const label = 8 + context.measureText('V1').width + 6;
                const left = label * (window.devicePixelRatio || 1);
                const wide = canvas.width - left - 8;
                const some = (part) => {
                    const [from, to] = part.map((x) => Math.round(left + x * wide));
                    const data = context.getImageData(from, 0, to - from, canvas.height).data;
                    return data.filter((value, i) => i % 4 === 3 && value > 0).length / data.length;
                };
                return [some([0.01, 0.15]), some([0.17, 0.99])];
            }""",
            name,
        )
        # The line between the areas is all that is drawn in the padding.
        assert inked[0] < 0.01 < inked[1]
    context.close()


def test_figures_of_a_phone_fit_and_follow_the_dark_scheme(browser: Any, report: Path) -> None:
    """The second of two drawings is shown, and white paper is dark."""
    context = browser.new_context(viewport=PHONE, color_scheme="dark")
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-ready]")
    image = page.locator(".paper img").first
    image.scroll_into_view_if_needed()
    assert image.evaluate("i => i.naturalWidth") > 0
    box = image.bounding_box()
    assert box["width"] <= PHONE["width"]
    shown = page.evaluate(
        """async () => {
            const image = document.querySelector('.paper img');
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [20, 20];
            canvas.getContext('2d').drawImage(image, 0, 0);
            return [...canvas.getContext('2d').getImageData(15, 2, 1, 1).data];
        }"""
    )
    assert shown[:3] == [0x1B, 0x1F, 0x23]
    table = page.locator("#scores table").first
    assert table.evaluate("t => t.scrollWidth <= t.parentElement.clientWidth")
    context.close()


def test_tables_sort(opened: Opened) -> None:
    page = opened.page
    column = "#scores tbody tr td:nth-child(2)"

    def values() -> list[float]:
        shown = page.locator(column).evaluate_all("cells => cells.map(c => c.dataset.value)")
        return [float(text) for text in shown]

    page.click("#scores thead th:nth-child(2) button")
    assert values() == sorted(values(), reverse=True) and len(values()) > 4
    page.click("#scores thead th:nth-child(2) button")
    assert values() == sorted(values())
    head = page.locator("#scores thead th:nth-child(2)").first
    assert head.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_is_accessible(browser: Any, report: Path, size: dict[str, int], scheme: str) -> None:
    """axe-core finds nothing of any weight; the page never scrolls sideways."""
    axe_api = pytest.importorskip("axe_playwright_python.sync_playwright")
    # Its own code has to come in past the page's policy.
    context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
    found = Opened(context.new_page(), [], [])
    show(found, report)
    found.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    result = axe_api.Axe().run(found.page).response
    weighty = [
        (violation["id"], [node["html"] for node in violation["nodes"]][:3])
        for violation in result["violations"]
        if violation["impact"] in ("moderate", "serious", "critical")
    ]
    assert weighty == []
    assert len(result["passes"]) > 20
    width = found.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"]
    context.close()


def test_in_print_everything_is_unfolded_without_controls(opened: Opened) -> None:
    page = opened.page
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".controls").is_visible() and not page.locator("nav").is_visible()
    assert page.locator("#heat").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
