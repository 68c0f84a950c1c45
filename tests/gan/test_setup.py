"""Task 0: resizing as the handout does it, and a download that can be stopped anywhere."""

import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import download
import numpy as np
import pytest
import resize_dataset
from PIL import Image
from settings import get_resize_args

from common import InputError
from common.files import fetch, from_url


def original(folder, name, mode="RGB", size=(50, 40)):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(
        0, 256, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(pixels).convert(mode).save(folder / name, quality=95)


def resize(argv):
    resize_dataset.main(get_resize_args("", argv))


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
    assert (
        outcome["resized"] == ["Finch_0002.jpg"]
        and (output / "Finch_0001.jpg").read_bytes() == kept
    )


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
    assert len(outcome["resized"]) == 100 and outcome["left out (greyscale, by name)"] == [
        "Mallard_0130_76836.jpg"
    ]


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "no images below"),
        (
            lambda folder: [original(folder / part, "same.jpg") for part in "ab"],
            "would both become same.jpg",
        ),
    ],
)
def test_resize_refuses(tmp_path, prepare, message, capsys):
    prepare(tmp_path / "in")
    with pytest.raises(SystemExit) as stop:
        resize(["--input_folder", str(tmp_path / "in"), "--output_folder", str(tmp_path / "out")])
    assert stop.value.code == 2 and message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------
# Downloading, from a server of our own


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, content, cut=None):
        self.content, self.cut, self.ranges = content, cut, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = self.server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut, self.server.cut = self.server.cut, None
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


def archive_bytes(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, "CUB_200_2011/images")
    return buffer.getvalue()


@pytest.fixture
def served(originals, monkeypatch):
    (originals / "002.Mallard" / "Mallard_0003.jpg").unlink()
    content = archive_bytes(originals)
    server = Server(content)
    monkeypatch.setattr(download, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(download, "MIRROR", server.url)

    def no_quota(**arguments):
        raise RuntimeError(
            "Too many users have viewed or downloaded this file recently.\nmore text"
        )

    monkeypatch.setattr(download.gdown, "download", no_quota)
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


def test_a_broken_download_goes_on(served, tmp_path, monkeypatch):
    served.cut = 1000
    folder = tmp_path / "datasets" / "CUB_200_2011_32"
    with pytest.raises(
        InputError, match="Google Drive: Too many users.*Caltech: the connection broke off"
    ):
        download.prepare_cub(folder)
    assert (folder.parent / ".unfinished.1.CUB_200_2011.tgz").stat().st_size == 1000

    def half(id, output, resume):  # Drive is back, with a page instead of the file
        Path(output).write_text("quota exceeded")
        return output

    monkeypatch.setattr(download.gdown, "download", half)
    download.prepare_cub(folder)
    assert served.ranges == [None, "bytes=1000-"] and len(list(folder.iterdir())) == 3


def test_a_wrong_file_is_not_kept(tmp_path):
    server = Server(b"a page that says try later")
    with pytest.raises(InputError, match="another md5"):
        fetch(tmp_path / "file", "0" * 32, [("here", from_url(server.url))])
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
