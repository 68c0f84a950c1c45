"""Task 0: resizing as the handout does it, and a download that can be stopped anywhere."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from pathlib import Path

import download
import gdown
import numpy as np
import pytest
import readme
from PIL import Image
from resize_dataset import GREYSCALE_NAMES, resize_folder

from common import InputError
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
    places = ["--input_folder", originals, "--output_folder"]
    for name, options in (("out", ["--res", "32"]), ("30", ["--quality", "30"])):
        command = [*places, tmp_path / name, *options]
        readme.run(pytest.MonkeyPatch(), "gan/resize_dataset.py", *command)
    assert names_in(tmp_path / "out") == SMALL
    told = capsys.readouterr().out
    for line in (
        "resized: 3",
        "left out (greyscale, by name): 1: Mallard_0130_76836.jpg",
        "cannot be read as pictures, skipped: 1: Mallard_0003.jpg",
        "not an image, skipped: 1: readme.txt",
        "converted to RGB: 2: Finch_0002.jpg, Mallard_0001.jpg",
    ):
        assert line in told
    bird = Image.open(originals / "001.Finch/Finch_0001.jpg").resize((32, 32), 3)  # bicubic
    for name, options in (("out", {}), ("30", {"quality": 30})):
        bird.save(tmp_path / "expected.jpg", **options)
        made = (tmp_path / name / "Finch_0001.jpg").read_bytes()
        assert made == (tmp_path / "expected.jpg").read_bytes()


def test_resizing_goes_on_and_leaves_finished_files_alone(originals, tmp_path):
    output = tmp_path / "small"
    resize_folder(originals, output)
    Image.new("RGB", (32, 32), "red").save(output / "Finch_0001.jpg")
    kept = (output / "Finch_0001.jpg").read_bytes()
    (output / "Finch_0002.jpg").unlink()
    assert resize_folder(originals, output)["resized"] == ["Finch_0002.jpg"]
    assert (output / "Finch_0001.jpg").read_bytes() == kept
    (output / "Finch_0001.jpg").write_bytes(b"half")
    with pytest.raises(InputError, match="Finch_0001.jpg is not 32x32"):
        resize_folder(originals, output)


def test_resizing_of_the_real_birds(shared, tmp_path):
    outcome = resize_folder(shared / "datasets/CUB_200_2011/images", tmp_path)
    assert len(outcome["resized"]) == 100
    assert outcome["greyscale"] == ["Mallard_0130_76836.jpg"]


def test_equal_names_and_an_output_folder_below_the_input_one(tmp_path):
    """What was made there is no input the second time."""
    original(tmp_path / "in", "bird.jpg")
    for expected in ("resized", "there"):
        assert resize_folder(tmp_path / "in", tmp_path / "in/small")[expected] == ["bird.jpg"]
    original(tmp_path / "in/b", "bird.jpg")
    with pytest.raises(InputError, match="stand for two images each"):
        resize_folder(tmp_path / "in", tmp_path / "out")


def test_the_eight_greyscale_names():
    assert {name.removesuffix(".jpg") for name in GREYSCALE_NAMES} == {
        *("Mallard_0130_76836", "Brewer_Blackbird_0028_2682", "Clark_Nutcracker_0020_85099"),
        *("Ivory_Gull_0040_49180", "Pelagic_Cormorant_0022_23802", "Western_Gull_0002_54825"),
        *("Ivory_Gull_0085_49456", "White_Necked_Raven_0070_102645"),
    }


# ------------------------------------------------------------------------------------------------
# Downloading, from a server of our own


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, content):
        self.content, self.cut, self.ranges, self.no_ranges = content, None, [], False
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        wanted = None if self.server.no_ranges else wanted
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body, total = self.server.content[start:], len(self.server.content)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


def no_quota(**arguments):
    raise RuntimeError("Too many users have viewed or downloaded this file recently.\nmore text")


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
    get, server.drive = gdown.download, no_quota
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
    with pytest.raises(InputError, match="Google Drive: Too many users.*Caltech: "):
        download.prepare_cub(folder)

    def half(id, output, resume):  # Drive is back, with a page instead of the file
        Path(output).write_text("quota exceeded")
        return output

    served.drive = half
    download.prepare_cub(folder)
    assert served.ranges[0] is None and served.ranges[-1] == f"bytes={2 * 512 * 1024}-"
    assert names_in(folder) == SMALL


def test_a_whole_file_in_answer_to_a_range_is_not_appended(served, tmp_path):
    """What was begun is dropped, and fetched anew the next time."""
    served.cut, served.no_ranges = 1_500_000, True
    for _ in range(2):
        with pytest.raises(InputError, match="Caltech: "):
            download.fetch_archive(tmp_path / "CUB_200_2011.tgz")
    download.fetch_archive(tmp_path / "CUB_200_2011.tgz")
    assert (tmp_path / "CUB_200_2011.tgz").read_bytes() == served.content


def test_a_wrong_file_is_not_kept(tmp_path):
    server = Server(b"a page that says try later")
    with pytest.raises(InputError, match="another md5"):
        fetch(tmp_path / "file", "md5:" + "0" * 32, {"here": {"url": server.url}})
    server.shutdown()
    assert not list(tmp_path.iterdir())


def test_archives_that_are_damaged_or_would_write_outside(tmp_path, monkeypatch):
    archive = tmp_path / "CUB_200_2011.tgz"
    archive.write_bytes(b"half")
    with pytest.raises(InputError, match="CUB_200_2011.tgz is damaged"):
        download.prepare_cub(tmp_path / "CUB_200_2011_32")
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped.txt"), io.BytesIO())
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="cannot prepare"):
        download.prepare_cub(tmp_path / "CUB_200_2011_32")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


def test_a_misspelt_folder_is_not_downloaded(tmp_path):
    with pytest.raises(InputError, match="--download"):
        download.prepare_cub(tmp_path / "CUB_32", download=False)
