"""The benchmark's test targets: downloaded whole, continued, refused; they never select."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.recordings import small_reach

from stndt_jax.cli import main
from stndt_jax.config import loading
from stndt_jax.data import benchmark_targets, hdf5
from stndt_jax.errors import UserError
from stndt_jax.evaluation import evaluate, leaderboard
from stndt_jax.training import loop

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; may cut the line once, ignore ranges, serve something else, or refuse."""

    cut_after: int | None = None
    ranges = True
    content = CONTENT
    status = 200
    asked: list[str | None]

    def do_GET(self) -> None:
        kind = type(self)
        wanted = self.headers.get("Range")
        kind.asked.append(wanted)
        start = int(wanted[6:].rstrip("-")) if wanted and kind.ranges else 0
        body = kind.content[start:]
        self.send_response(206 if start else kind.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind.cut_after is not None:
            body, kind.cut_after = body[: kind.cut_after], None
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    monkeypatch.setattr(benchmark_targets, "SIZE", len(CONTENT))
    monkeypatch.setattr(benchmark_targets, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    kind = type("Mine", (Server,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        monkeypatch.setattr(
            benchmark_targets, "URL", f"http://127.0.0.1:{running.server_address[1]}/x.h5"
        )
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield kind
        running.shutdown()
        thread.join()


def _download(out: Path) -> Path:
    return benchmark_targets.download(out, benchmark_targets.URL)


def test_downloaded_once(server: type[Server], tmp_path: Path) -> None:
    path = _download(tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert _download(tmp_path / "new") == path
    assert server.asked == [None]
    assert [p.name for p in path.parent.iterdir()] == [benchmark_targets.NAME]


@pytest.mark.parametrize("ranges", [True, False])
def test_continued_where_it_was_cut(server: type[Server], tmp_path: Path, ranges: bool) -> None:
    server.cut_after, server.ranges = len(CONTENT) // 2, ranges
    with pytest.raises(UserError, match="repeat the command, which continues"):
        _download(tmp_path)
    assert not (tmp_path / benchmark_targets.NAME).exists()
    assert _download(tmp_path).read_bytes() == CONTENT
    assert server.asked[0] is None
    assert server.asked[1] == f"bytes={len(CONTENT) // 2}-"


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"more", b"x" * len(CONTENT)])
def test_another_file_is_refused(server: type[Server], tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(UserError, match="differs from the published"):
        _download(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_server_refuses(server: type[Server], tmp_path: Path) -> None:
    server.status = 404
    # Connecting again would not help.
    with pytest.raises(UserError, match=r"the server answers 404\); give another .*--url"):
        _download(tmp_path)
    server.status = 503
    with pytest.raises(UserError, match=r"the server answers 503\); connect and repeat"):
        _download(tmp_path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "x.h5", ""])
def test_only_addresses_of_the_web(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        benchmark_targets.download(tmp_path, url or "-")


@pytest.mark.long
def test_they_never_select(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training refuses them; a score on them says so, beside what is published."""
    small_reach(tmp_path)
    targets = tmp_path / "reach_target.h5"
    content = targets.read_bytes()
    settings = [
        "--config=tiny",
        "--config.train.epochs=2",
        f"--config.data.path={tmp_path / 'reach.h5'}",
    ]
    config = loading.load([*settings, f"--config.data.targets={targets}"])
    data = hdf5.read(tmp_path / "reach.h5", targets)
    monkeypatch.setattr(benchmark_targets, "SIZE", len(content))
    monkeypatch.setattr(benchmark_targets, "SHA256", hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match="test targets, which must select nothing"):
        loop.train(config, data, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()

    run = tmp_path / "run"
    alone = loading.load([*settings, "--config.data.validation_fraction=0.2"])
    loop.train(alone, hdf5.read(tmp_path / "reach.h5"), run, quiet=True)
    assert main.main(["evaluate", str(run), "--test"]) == 2
    assert "stndt download nlb-test-targets" in capsys.readouterr().err
    targets.rename(tmp_path / benchmark_targets.NAME)
    monkeypatch.setattr(
        leaderboard, "rows", lambda _: [leaderboard.Row("A METHOD", {"co_bps": 0.9})]
    )
    assert main.main(["evaluate", str(run), "--test"]) == 0
    # The table is of bins of 5 ms.
    assert "A METHOD" not in capsys.readouterr().out
    monkeypatch.setattr(leaderboard, "BIN_MS", data.bin_ms)
    assert main.main(["evaluate", str(run), "--test"]) == 0
    said = capsys.readouterr().out
    assert "test trials" in said and said.index("A METHOD") < said.index("this run")
    scores = evaluate.evaluate(run, targets_path=str(tmp_path / benchmark_targets.NAME)).scores
    assert scores["split"] == "test"
