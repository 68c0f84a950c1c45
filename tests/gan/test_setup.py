"""Task 0: resizing as the handout does it, and a download that can be stopped anywhere."""

import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import download
import gdown
import numpy as np
import pytest
import readme
import resize_dataset
from PIL import Image

from common import InputError
from common.files import fetch


def original(folder, name, mode="RGB", size=(50, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(
        0, 256, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(pixels).convert(mode).save(folder / name, quality=95)


def resize(argv):
    readme.run(pytest.MonkeyPatch(), "gan/resize_dataset.py", *argv)


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


def test_resize_names_and_counts_what_is_odd(originals, tmp_path, capsys):
    output = tmp_path / "small"
    resize(["--input_folder", str(originals), "--output_folder", str(output), "--res", "32"])
    assert sorted(path.name for path in output.iterdir()) == [
        "Finch_0001.jpg",
        "Finch_0002.jpg",
        "Mallard_0001.jpg",
    ]
    for path in output.iterdir():
        with Image.open(path) as image:
            assert image.size == (32, 32) and image.mode == "RGB"
    out = capsys.readouterr().out
    for line in (
        "resized: 3",
        "left out (greyscale, by name): 1: Mallard_0130_76836.jpg",
        "cannot be read as pictures, skipped: 1: Mallard_0003.jpg",
        "not an image, skipped: 1: readme.txt",
        "converted to RGB: 2: Finch_0002.jpg, Mallard_0001.jpg",
    ):
        assert line in out


def test_resize_is_bicubic_with_pillows_own_quality(originals, tmp_path):
    resize_dataset.resize_folder(originals, tmp_path / "small", 32)
    with Image.open(originals / "001.Finch" / "Finch_0001.jpg") as image:
        buffer = io.BytesIO()
        image.resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    assert (tmp_path / "small" / "Finch_0001.jpg").read_bytes() == buffer.getvalue()


def test_resize_goes_on_and_leaves_finished_files_alone(originals, tmp_path):
    output = tmp_path / "small"
    resize_dataset.resize_folder(originals, output)
    Image.new("RGB", (32, 32), "red").save(output / "Finch_0001.jpg")
    kept = (output / "Finch_0001.jpg").read_bytes()
    (output / "Finch_0002.jpg").unlink()
    outcome = resize_dataset.resize_folder(originals, output)
    assert outcome["resized"] == ["Finch_0002.jpg"]
    assert (output / "Finch_0001.jpg").read_bytes() == kept


def test_resize_refuses_a_folder_of_another_size(originals, tmp_path):
    resize_dataset.resize_folder(originals, tmp_path / "out", res=16)
    for spoil in (lambda path: None, lambda path: path.write_bytes(b"half")):
        spoil(tmp_path / "out/Finch_0001.jpg")
        with pytest.raises(InputError, match="Finch_0001.jpg is not 32x32"):
            resize_dataset.resize_folder(originals, tmp_path / "out")


def test_resize_of_the_real_birds(shared, tmp_path):
    outcome = resize_dataset.resize_folder(
        shared / "datasets" / "CUB_200_2011" / "images", tmp_path
    )
    assert len(outcome["resized"]) == 100
    assert outcome["greyscale"] == ["Mallard_0130_76836.jpg"]


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "no images below"),
        (
            lambda folder: [original(folder / part, "same.jpg") for part in "ab"],
            "stand for two images each",
        ),
    ],
)
def test_resize_refuses(tmp_path, prepare, message):
    prepare(tmp_path / "in")
    with pytest.raises(InputError, match=message):
        resize(["--input_folder", str(tmp_path / "in"), "--output_folder", str(tmp_path / "out")])


def test_an_output_folder_below_the_input_one(tmp_path):
    """What was made there is no input the second time."""
    original(tmp_path / "in", "bird.jpg")
    for expected in ("resized", "there"):
        outcome = resize_dataset.resize_folder(tmp_path / "in", tmp_path / "in/small")
        assert outcome[expected] == ["bird.jpg"]
    with pytest.raises(InputError, match="is the input folder"):
        resize_dataset.resize_folder(tmp_path / "in", tmp_path / "in")


def test_the_quality_is_the_one_that_was_asked_for(originals, tmp_path):
    sizes = []
    for quality in ("30", "95"):
        places = ["--input_folder", originals, "--output_folder", tmp_path / quality]
        resize([*places, "--quality", quality])
        sizes.append((tmp_path / quality / "Finch_0001.jpg").stat().st_size)
    assert sizes[1] > 1.5 * sizes[0]


def test_the_eight_greyscale_names():
    assert resize_dataset.GREYSCALE_NAMES == {
        *("Mallard_0130_76836.jpg", "Brewer_Blackbird_0028_2682.jpg"),
        *("Clark_Nutcracker_0020_85099.jpg", "Ivory_Gull_0040_49180.jpg"),
        *("Pelagic_Cormorant_0022_23802.jpg", "Western_Gull_0002_54825.jpg"),
        *("Ivory_Gull_0085_49456.jpg", "White_Necked_Raven_0070_102645.jpg"),
    }


# ------------------------------------------------------------------------------------------------
# Downloading, from a server of our own


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, content, cut=None):
        self.content, self.cut, self.ranges, self.no_ranges = content, cut, [], False
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        wanted = None if self.server.no_ranges else wanted
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        total = len(self.server.content)
        self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


def archive_bytes(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, "CUB_200_2011/images")
        noise = io.BytesIO(np.random.default_rng(0).bytes(2 << 20))  # several pieces of a download
        member = tarfile.TarInfo("CUB_200_2011/noise")
        member.size = 2 << 20
        tar.addfile(member, noise)
    return buffer.getvalue()


def no_quota(**arguments):
    raise RuntimeError("Too many users have viewed or downloaded this file recently.\nmore text")


@pytest.fixture
def served(originals, monkeypatch):
    (originals / "002.Mallard" / "Mallard_0003.jpg").unlink()
    content = archive_bytes(originals)
    server = Server(content)
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())
    drive, get = [no_quota], gdown.download
    monkeypatch.setattr(download, "SOURCES", download.SOURCES | {"Caltech": {"url": server.url}})
    monkeypatch.setattr(gdown, "download", lambda **a: (drive[0] if "id" in a else get)(**a))
    server.drive = drive
    yield server
    server.shutdown()


def test_a_missing_data_set_is_fetched_unpacked_and_resized(served, tmp_path):
    folder = tmp_path / "datasets" / "CUB_200_2011_32"
    assert download.prepare_cub(folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "Finch_0001.jpg",
        "Finch_0002.jpg",
        "Mallard_0001.jpg",
    ]
    assert not [
        path.name for path in folder.parent.iterdir() if path.name.startswith(".unfinished")
    ]
    assert len(served.ranges) == 1
    download.prepare_cub(folder)  # all there: nothing to do
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    download.prepare_cub(folder)  # resized again from what was unpacked
    assert len(served.ranges) == 1 and len(list(folder.iterdir())) == 3


def test_a_broken_download_goes_on(served, tmp_path):
    served.cut = 1_500_000
    folder = tmp_path / "datasets" / "CUB_200_2011_32"
    with pytest.raises(InputError, match="Google Drive: Too many users.*Caltech: "):
        download.prepare_cub(folder)

    def half(id, output, resume):  # Drive is back, with a page instead of the file
        Path(output).write_text("quota exceeded")
        return output

    served.drive[0] = half
    download.prepare_cub(folder)
    assert served.ranges[0] is None and served.ranges[-1] == f"bytes={2 * 512 * 1024}-"
    assert len(list(folder.iterdir())) == 3


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


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"half")
    with pytest.raises(InputError, match="CUB_200_2011.tgz is damaged"):
        download.prepare_cub(tmp_path / "CUB_200_2011_32")


def test_an_archive_cannot_write_outside(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "CUB_200_2011.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("../../escaped.txt")
        tar.addfile(member, io.BytesIO())
    monkeypatch.setattr(
        download,
        "ARCHIVE_MD5",
        hashlib.md5((tmp_path / "CUB_200_2011.tgz").read_bytes()).hexdigest(),
    )
    with pytest.raises(InputError, match="cannot prepare"):
        download.prepare_cub(tmp_path / "CUB_200_2011_32")
    assert not list(tmp_path.parent.rglob("escaped.txt"))


def test_a_misspelt_folder_is_not_downloaded(tmp_path):
    with pytest.raises(InputError, match="--download"):
        download.prepare_cub(tmp_path / "CUB_32", download=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        download.prepare_cub(tmp_path / "file")
