"""Task 0: resizing as the handout does it, and a download that can be stopped anywhere."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from pathlib import Path
from unittest import mock

import download
import gdown
import numpy as np
import pytest
import readme
from helpers import refused
from PIL import Image
from resize_dataset import GREYSCALE_NAMES, resize_folder

from common.files import fetch


def original(folder, name, mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / name, quality=95)


@pytest.fixture
def originals(tmp_path):
    folder = tmp_path / "images"
    original(folder / "001.Finch", "Finch_0001.jpg")
    original(folder / "001.Finch", "Finch_0002.jpg", "L")
    original(folder / "002.Mallard", "Mallard_0001.jpg", "CMYK")
    original(folder / "002.Mallard", "Mallard_0130_76836.jpg", "L")
    (folder / "002.Mallard" / "Mallard_0003.jpg").write_bytes(b"broken")
    (folder / "readme.txt").write_text("not an image")
    return folder


SMALL = ["Finch_0001.jpg", "Finch_0002.jpg", "Mallard_0001.jpg"]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_resizing_names_what_is_odd_and_is_bicubic_of_a_quality(originals, tmp_path, capsys):
    """Pillow's own, unless another one is asked for."""
    bird = Image.open(originals / "001.Finch/Finch_0001.jpg").resize((32, 32), 3)  # bicubic
    for name, options in (("out", {}), ("30", {"quality": 30})):
        places = ["--input_folder", originals, "--output_folder", tmp_path / name]
        script = "gan/resize_dataset.py"
        readme.run(pytest.MonkeyPatch(), script, *readme.changed(places, **options))
        bird.save(tmp_path / "expected.jpg", **options)
        made = (tmp_path / name / "Finch_0001.jpg").read_bytes()
        assert made == (tmp_path / "expected.jpg").read_bytes()
    assert names_in(tmp_path / "out") == SMALL
    told = capsys.readouterr().out
    for line in (
        "resized: 3",
        "left out (greyscale, by name): 1: Mallard_0130_76836.jpg",
        "cannot be read as pictures, skipped: 1: Mallard_0003.jpg",
        ": readme.txt",
        "converted to RGB: 2: Finch_0002.jpg, Mallard_0001.jpg",
    ):
        assert line in told


def test_resizing_goes_on_and_leaves_finished_files_alone(originals, tmp_path):
    output = tmp_path / "small"
    resize_folder(originals, output)
    Image.new("RGB", (32, 32), "red").save(output / "Finch_0001.jpg")
    kept = (output / "Finch_0001.jpg").read_bytes()
    (output / "Finch_0002.jpg").rename(output / ".unfinished.123.Finch_0002.jpg")  # killed there
    assert resize_folder(originals, output)["resized"] == ["Finch_0002.jpg"]
    assert names_in(output) == SMALL
    assert (output / "Finch_0001.jpg").read_bytes() == kept
    for spoil in (lambda path: path.write_bytes(b"half"), Image.new("RGB", (16, 16)).save):
        spoil(output / "Finch_0001.jpg")
        refused("Finch_0001.jpg is not 32x32", resize_folder, originals, output)


def test_equal_names_and_an_output_folder_below_the_input_one(tmp_path):
    """What was made there is no input the second time."""
    original(tmp_path / "in", "bird.jpg")
    for expected in ("resized", "there"):
        assert resize_folder(tmp_path / "in", tmp_path / "in/small")[expected] == ["bird.jpg"]
    original(tmp_path / "in/b", "bird.jpg")
    refused("stand for two images each", resize_folder, tmp_path / "in", tmp_path / "out")


@pytest.mark.shared
def test_resizing_of_the_real_birds(shared, tmp_path):
    outcome = resize_folder(shared / "datasets/CUB_200_2011/images", tmp_path)
    assert len(outcome["resized"]) == 100
    assert outcome["greyscale"] == ["Mallard_0130_76836.jpg"]


def test_the_eight_greyscale_names():
    digest = hashlib.md5(" ".join(sorted(GREYSCALE_NAMES)).encode()).hexdigest()
    assert len(GREYSCALE_NAMES) == 8 and digest == "1f86f1e121899e2fae1a5c3ab35c9078"


class Server(http.server.ThreadingHTTPServer):
    """Sends `content`, the next time up to `cut` only; `ranges` are what it was asked for."""

    def __init__(self, content):
        self.content, self.cut, self.ranges, self.no_ranges = content, None, [], False
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    log_message = lambda *args: None

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted and not server.no_ranges else 0  # of bytes=START-
        body, total = server.content[start:], len(server.content)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        cut, server.cut = server.cut, None
        self.wfile.write(body[:cut])


@pytest.fixture
def served(originals, monkeypatch):
    (originals / "002.Mallard" / "Mallard_0003.jpg").unlink()
    noise = np.random.default_rng(0).bytes(2 << 20)  # several pieces of a download
    (originals / "noise").write_bytes(noise)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(originals, "CUB_200_2011/images")
    server = Server(buffer.getvalue())
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(server.content).hexdigest())
    words = "Too many users have viewed or downloaded this file recently.\nmore text"
    get, server.drive = gdown.download, mock.Mock(side_effect=RuntimeError(words))
    monkeypatch.setattr(download, "SOURCES", download.SOURCES | {"Caltech": {"url": server.url}})
    monkeypatch.setattr(gdown, "download", lambda **a: (server.drive if "id" in a else get)(**a))
    yield server
    server.shutdown()


def test_a_missing_data_set_is_fetched_unpacked_and_resized(served, tmp_path):
    folder = tmp_path / "datasets" / "CUB_200_2011_32"
    assert download.prepare_cub(folder) == folder and names_in(folder) == SMALL
    assert not list(folder.parent.glob(".unfinished*")) and len(served.ranges) == 1
    download.prepare_cub(folder)  # all there: nothing to do
    shutil.rmtree(folder)
    download.prepare_cub(folder)  # resized again from what was unpacked
    assert len(served.ranges) == 1 and names_in(folder) == SMALL


def test_a_broken_download_goes_on(served, tmp_path):
    served.cut, folder = 1_500_000, tmp_path / "datasets/CUB_200_2011_32"
    refused("Google Drive: Too many users.*Caltech: ", download.prepare_cub, folder)
    # Drive is back, with a page instead of the file.
    served.drive = lambda id, output, resume: Path(output).write_text("quota exceeded")
    download.prepare_cub(folder)
    assert served.ranges[0] is None and served.ranges[-1] == f"bytes={2 * 512 * 1024}-"
    assert names_in(folder) == SMALL


def test_a_whole_file_in_answer_to_a_range_is_not_appended(served, tmp_path):
    """What was begun is dropped, and fetched anew the next time."""
    served.cut, served.no_ranges = 1_500_000, True
    for _ in range(2):
        refused("Caltech: ", download.prepare_cub, tmp_path / "CUB_200_2011_32")
    download.prepare_cub(tmp_path / "CUB_200_2011_32")
    assert (tmp_path / "CUB_200_2011.tgz").read_bytes() == served.content


def test_a_wrong_file_is_not_kept(tmp_path):
    server = Server(b"a page that says try later")
    sources = {"here": {"url": server.url}}
    refused("another md5", fetch, tmp_path / "file", "md5:" + "0" * 32, sources)
    server.shutdown()
    assert not list(tmp_path.iterdir())


def test_archives_that_are_damaged_or_would_write_outside(tmp_path, monkeypatch):
    archive = tmp_path / "CUB_200_2011.tgz"
    archive.write_bytes(b"half")
    refused("CUB_200_2011.tgz is damaged", download.prepare_cub, tmp_path / "CUB_200_2011_32")
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped.txt"), io.BytesIO())
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    refused("cannot prepare", download.prepare_cub, tmp_path / "CUB_200_2011_32")
    assert not list(tmp_path.parent.rglob("escaped.txt"))
