"""Downloads from an archive that stands here: whole, interrupted, damaged, out of reach."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from stndt_jax.data import dandi
from stndt_jax.errors import UserError

FOLDER = "sub-Jenkins"
CONTENT = {
    f"{FOLDER}/a_desc-train_behavior+ecephys.nwb": bytes(range(256)) * 40,
    f"{FOLDER}/a_desc-test_ecephys.nwb": b"test" * 100,
    "dandiset.yaml": b"name: none",
}


class Asset:
    """What the client gives for a file."""

    def __init__(self, path: str, content: bytes, breaks_after: int | None = None) -> None:
        self.path, self.size, self._content = path, len(content), content
        self.breaks_after = breaks_after
        self.starts: list[int] = []
        self.digest = hashlib.sha256(content).hexdigest()

    def get_raw_metadata(self) -> dict[str, Any]:
        return {"digest": {"dandi:sha2-256": self.digest, "dandi:dandi-etag": "x-1"}}

    def get_download_file_iter(self, chunk_size: int):
        def chunks(start_at: int = 0):
            self.starts.append(start_at)
            sent = 0
            for first in range(start_at, self.size, 100):
                if self.breaks_after is not None and sent >= self.breaks_after:
                    raise ConnectionError("the line is dead")
                yield self._content[first : first + 100]
                sent += 100

        return chunks


class Archive:
    """The client; remembers what was asked of it."""

    def __init__(self, assets: list[Asset], reachable: bool = True) -> None:
        self.assets, self.reachable = assets, reachable
        self.asked: list[tuple[str, str]] = []

    def get_dandiset(self, number: str, version: str) -> Archive:
        if not self.reachable:
            raise ConnectionError("Max retries exceeded with url: /api/")
        self.asked.append((number, version))
        return self

    def get_assets(self) -> list[Asset]:
        return self.assets


def archive(**options: Any) -> Archive:
    return Archive([Asset(path, content, **options) for path, content in CONTENT.items()])


def fetch(tmp_path: Path, client: Archive) -> list[Path]:
    return dandi.download("mc_maze_small", tmp_path, client=client)


def test_files_come_whole_in_the_pinned_version(tmp_path):
    client = archive()
    files = fetch(tmp_path, client)
    assert client.asked == [("000140", "0.220113.0408")]
    assert [file.parent for file in files] == [tmp_path / "000140" / FOLDER] * 2
    for file in files:
        assert file.read_bytes() == CONTENT[f"{FOLDER}/{file.name}"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(files)  # nothing else, no partial file


def test_what_is_there_stays_and_what_is_damaged_comes_again(tmp_path):
    first, second = fetch(tmp_path, archive())
    second.write_bytes(b"x" * second.stat().st_size)
    client = archive()
    said: list[str] = []
    dandi.download("mc_maze_small", tmp_path, client=client, say=said.append)
    assert [asset.starts for asset in client.assets] == [[0], [], []]
    assert said[0] == f"{first}: complete"
    assert second.read_bytes() == CONTENT[f"{FOLDER}/{second.name}"]


def test_an_interrupted_download_goes_on_where_it_was(tmp_path):
    with pytest.raises(UserError, match=r"cannot be reached \(the line is dead\)"):
        fetch(tmp_path, archive(breaks_after=300))
    assert not list(tmp_path.rglob("*.nwb"))
    client = archive()
    fetch(tmp_path, client)
    assert {asset.path: asset.starts for asset in client.assets}[
        f"{FOLDER}/a_desc-test_ecephys.nwb"
    ] == [300]


def test_a_wrong_digest_leaves_nothing(tmp_path):
    client = archive()
    client.assets[0].digest = "0" * 64
    with pytest.raises(UserError, match=r"SHA-256 .* differs from the archive's 000000000000"):
        fetch(tmp_path, client)
    assert not list(tmp_path.rglob("*train*"))


def test_without_network_the_sentence_names_the_folder(tmp_path):
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, Archive([], reachable=False))
    text = str(caught.value)
    assert "\n" not in text
    assert "the DANDI archive cannot be reached (Max retries exceeded" in text
    assert "DANDI:000140/0.220113.0408" in text
    assert f"{tmp_path}/000140/sub-Jenkins/*desc-train*.nwb and *desc-test*.nwb" in text


def test_names_stay_in_the_folder_and_an_empty_dandiset_is_told(tmp_path):
    with pytest.raises(UserError, match="leads out of the folder"):
        fetch(tmp_path, Archive([Asset("../x.nwb", b"x")]))
    with pytest.raises(UserError, match="holds no NWB file"):
        fetch(tmp_path, Archive([]))
    with pytest.raises(UserError, match="is no data set of the benchmark"):
        dandi.download("mc_mase", tmp_path, client=archive())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "000140").write_text("a file")
    with pytest.raises(UserError, match=r"000140.* cannot be written"):
        fetch(tmp_path, archive())


def test_the_client_of_dandi_has_what_is_asked_of_it():
    api = pytest.importorskip("dandi.dandiapi", reason="needs the extra dandi")
    assert callable(api.DandiAPIClient.get_dandiset)
    assert callable(api.RemoteDandiset.get_assets)
    for name in ("get_raw_metadata", "get_download_file_iter"):
        assert callable(getattr(api.RemoteBlobAsset, name))
    assert {"path", "size"} <= set(api.RemoteBlobAsset.model_fields)


def test_what_the_archive_does_not_have_is_not_called_unreachable(tmp_path):
    not_found = type("NotFoundError", (Exception,), {})("no such version")
    dandiset = dandi.check_name("mc_maze")
    said = dandi._explanation(not_found, dandiset, tmp_path)
    assert "does not have what was asked for (no such version); copy the files" in said
    assert "connect" not in said
    assert "connect and repeat" in dandi._explanation(OSError("dead"), dandiset, tmp_path)
