"""Other people's files, folders, habits and machines: nothing silent, nothing rude."""

import errno
import json
import os
import signal
from pathlib import Path
from unittest import mock

import dataset
import download
import fid
import numpy as np
import pytest
import torch
import train
from evaluate import evaluate
from helpers import TINY, refused, signal_at, start, stopped_at
from logger import LAYOUT
from PIL import Image
from resize_dataset import resize_folder
from utils import get_args

import common
from common import InputError, Interrupted, NonFiniteError
from common.device import resolve_device
from common.files import load_weights, locked, save_tensors
from common.run import Run


def test_one_reader_finds_the_images_of_a_folder(tmp_path, capsys):
    """In any case, of any kind, through links, and never a dot file; what is left out is named."""
    names = ["a.jpg", "b.JPG", "c.jpeg", "d.png", "e.WebP", "f.TIFF"]
    for name in (*names, "._a.jpg", "g.txt"):
        Image.new("RGB", (32, 32)).save(tmp_path / name, format="PNG")
    (tmp_path / ".unfinished.7.h.jpg").write_bytes(b"half")
    below, inside = tmp_path / "elsewhere/class", tmp_path / "classes"
    below.mkdir(parents=True), inside.mkdir()
    Image.new("RGB", (32, 32)).save(below / "i.png")
    (inside / "link").symlink_to(below)
    (inside / "again").symlink_to(inside)  # a circle
    assert [path.name for path in dataset.find_images(tmp_path)] == names
    assert "Not images, left out: 1 of the files in" in (told := capsys.readouterr().out), told
    assert [path.name for path in dataset.find_images(inside, deep=True)] == ["i.png"]
    assert len(dataset.load_images(tmp_path)) == 6
    assert len(dataset.find_images(tmp_path, deep=True)) == 7
    assert resize_folder(inside, tmp_path / "small")["resized"] == ["i.jpg"]


GREY = np.full((8, 8), 64, dtype=np.uint8)  # a left half of 25 % grey
GREY[:, 4:] = 255  # and a right half of white
ALPHA = np.stack([0 * GREY] * 3 + [255 - np.where(GREY == 255, 255, GREY)], axis=-1)
STORED = {
    "I;16": GREY.astype(np.uint16) * 257,
    "RGBA": ALPHA,  # black, and so transparent that white shows through
    "F": GREY.astype(np.float32) / 255,
    "I": GREY.astype(np.int32),
}


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "LA", "RGBA", "P", "CMYK", "1", "F", "I"])
def test_pixels_are_what_a_viewer_shows(mode, tmp_path):
    """Scored and trained on alike; a mode without a white is refused by name."""
    image = Image.fromarray(STORED.get(mode, GREY))
    image = image if mode in STORED else image.convert(mode)
    path = tmp_path / "in" / ("a.tif" if mode in ("CMYK", "F", "I") else "a.png")
    path.parent.mkdir()
    image.save(path)
    if mode in ("F", "I"):
        refused(f"cannot decode .*a.tif .*mode {mode}", dataset.load_images, path.parent, 8)
        refused("none of the 1 images .*a.tif", resize_folder, path.parent, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    image, _ = dataset.read_rgb(path)
    left, right = (image.getpixel((x, 4)) for x in (1, 6))
    assert image.mode == "RGB" and right == (255, 255, 255)
    assert mode == "1" or all(abs(value - 64) <= 1 for value in left), left
    (batch,) = fid.image_batches(dataset.find_images(path.parent))
    assert batch[0, :, 4, 1].tolist() == list(left)


def test_photographs_are_turned_as_their_camera_was(tmp_path):
    image = Image.new("RGB", (8, 4), "white")
    image.paste("black", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    image.save(tmp_path / "a.png", exif=exif)
    turned, _ = dataset.read_rgb(tmp_path / "a.png")
    assert turned.size == (4, 8) and turned.getpixel((2, 1)) == (0, 0, 0)


def test_a_run_owns_its_folder(birds, tmp_path, monkeypatch):
    """A second start is refused before any work, whatever it asks for; afterwards it may."""
    folder = tmp_path / "run"
    with Run(folder, LAYOUT):
        for how in ([], ["--overwrite"], ["--resume"]):
            refused("another run is at work in", start, folder, birds, *how)
    assert not folder.exists()
    start(folder, birds)
    with Run(folder, LAYOUT, resume=True), pytest.raises(InputError, match="at work"):
        start(folder, birds, "--resume")
    start(folder, birds, "--resume", "--num_iterations", 8)
    # A file system without locks is no obstacle.
    monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks")))
    start(folder, birds, "--resume", "--num_iterations", 9)


def test_a_lock_leaves_no_file_and_a_run_does_not_wait_for_itself(tmp_path, monkeypatch):
    """Its data, or the Inception weights, are fetched into the folder that it owns."""
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())
        with pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
            pass
    with Run(tmp_path, LAYOUT):
        with locked(tmp_path), locked(tmp_path):
            pass
        refused("at work", Run, tmp_path, LAYOUT)
        monkeypatch.setattr(download, "make", lambda folder, *rest: folder.mkdir())
        download.prepare_cub(tmp_path / "cub32")
    Run(tmp_path, LAYOUT).__exit__()


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    """A mounted volume, say; and one that was begun is gone on with."""
    volume = tmp_path / "volume"
    refused("no folder .*add --download", download.prepare_cub, volume, download=False)
    volume.mkdir()
    refused("nothing in .*add --download", download.prepare_cub, volume, download=False)
    tries = []

    def unpack(archive, md5, name, sources):
        tries.append(archive)
        if len(tries) == 1:
            raise OSError("the power went")
        archive.with_name(name).joinpath("images").mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(archive.with_name(name) / "images/bird.jpg")

    monkeypatch.setattr(download, "unpack", unpack)
    refused("the power went", download.prepare_cub, volume)
    assert download.prepare_cub(volume) == volume and len(tries) == 2
    assert [path.name for path in volume.iterdir()] == ["bird.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]
    download.prepare_cub(volume, download=False)


def test_nothing_is_written_beside_a_named_data_folder(bird_folder, tmp_path, tiny_features):
    options = ["--data_dir", bird_folder, "--fid", tiny_features, "--num_gen", 8, 8]
    before = {path.name for path in tmp_path.iterdir()}
    start(tmp_path / "run", None, *options, "--num_iterations", 1)
    assert {path.name for path in tmp_path.iterdir()} == {*before, "run"}
    assert list((tmp_path / "run").glob("fid_*.npz"))


def test_a_full_disk_keeps_the_last_state(birds, tmp_path, monkeypatch):
    start(tmp_path / "run", birds, "--num_iterations", 3)
    before, write = (tmp_path / "run/state.pt").read_bytes(), Path.write_bytes

    def no_space(path, data):
        write(path, bytes(data)[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "write_bytes", no_space)
        start(tmp_path / "run", birds, "--resume", "--num_iterations", 6)
    assert (tmp_path / "run/state.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".unfinished*"))
    start(tmp_path / "run", birds, "--resume", "--num_iterations", 6)


def test_weights_in_other_wrappings_are_read(tmp_path):
    """Below `state_dict`, or of DataParallel."""
    weights, path = TINY[0]().state_dict(), tmp_path / "generator.pt"
    of_parallel = {f"module.{name}": value for name, value in weights.items()}
    for wrapped in ({"state_dict": weights}, of_parallel, {"state_dict": of_parallel}):
        save_tensors(wrapped, path)
        load_weights(gen := TINY[0](), path, "--evaluate")
        assert torch.equal(gen.dense.weight, weights["dense.weight"])
    save_tensors({"other": torch.zeros(1)}, path)
    refused("weights of TinyGenerator$", load_weights, TINY[0](), path, "--evaluate")


def test_a_run_is_evaluated_from_any_folder(bird_folder, tmp_path, tiny_features, monkeypatch):
    """Its config.json names files as seen from there; who names data asks for a score."""
    save_tensors(TINY[0]().state_dict(), tmp_path / "generator.pt")
    (tmp_path / "config.json").write_text('{"dataset": "synthetic", "fid": "off"}')
    options = ["--evaluate", tmp_path, "--data_dir", bird_folder, "--inception_weights", "nowhere"]
    named = get_args("", list(map(str, options)))
    refused("--inception_weights: no folder nowhere", evaluate, TINY[0](), named)
    places = {"data_dir": bird_folder, "fid": tiny_features}
    config = {name: os.path.relpath(path, tmp_path) for name, path in places.items()}
    config |= {"dataset": "cub", "num_gen": [4, 4]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(bird_folder.parent.parent)
    with pytest.raises(SystemExit):
        evaluate(TINY[0](), get_args("", ["--evaluate", str(tmp_path)]))
    assert (tmp_path / "generator_score_train.json").exists()


@pytest.fixture
def default_signals():
    """As at a terminal, whatever the tests were started under."""
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1")]
    before = {kind: signal.signal(kind, signal.SIG_DFL) for kind in kinds}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_every_signal_that_asks_for_an_end_saves(
    name, birds, tmp_path, monkeypatch, default_signals
):
    number = getattr(signal, name)
    stopped = stopped_at(monkeypatch, 2, tmp_path / "run", birds, number=number)
    assert f"{name} at iteration 2 of 7; go on with: " in str(stopped)
    assert stopped.exit_code == 128 + number
    assert torch.load(tmp_path / "run/state.pt", weights_only=True)["step"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # given back


def test_a_second_signal_does_what_it_does_elsewhere(birds, tmp_path, monkeypatch, default_signals):
    twice = lambda *args: [signal.raise_signal(signal.SIGINT) for _ in "12"]
    monkeypatch.setattr(train, "discriminator_step", twice)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", birds)


def test_a_signal_after_all_is_done_is_no_interruption(birds, tmp_path, monkeypatch):
    monkeypatch.setattr(train.Logger, "finish", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    start(tmp_path / "run", birds)


def test_signals_that_a_shell_had_ignored(birds, tmp_path, monkeypatch, default_signals):
    """Under nohup a closed terminal stays ignored; a script's background job can be interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopped_at(monkeypatch, 2, tmp_path / "one", birds, number=signal.SIGINT)
    signal_at(monkeypatch, 2, signal.SIGHUP)
    start(tmp_path / "other", birds)


@pytest.mark.parametrize(
    "error, code, words",
    [
        (OSError(errno.ENOSPC, "full", "some/path"), 2, "free the space"),
        (OSError(errno.EACCES, "denied", "some/path"), 2, "mend the permission"),
        (InputError("what, got"), 2, "error: what, got"),
        (NonFiniteError("NaN"), 3, "error: NaN"),
        (Interrupted(15, "stopped"), 143, "stopped"),
        (KeyboardInterrupt(), 130, "what was saved is whole"),
    ],
)
def test_how_a_program_ends_early(error, code, words, capsys):
    with pytest.raises(SystemExit) as stop:
        common.end_in_one_line(type(error), error, None)
    told = capsys.readouterr().err
    assert stop.value.code == code and len(told.splitlines()) == 1 and words in told
    common.end_in_one_line(KeyError, KeyError("x"), None)  # a fault of the program
    assert "KeyError" in capsys.readouterr().err


def test_only_clean_fids_own_file_gives_a_fid(tiny_inception, capsys):
    assert fid.Features("inception", "cpu", tiny_inception).name != "FID"
    assert "is not clean-fid's file" in capsys.readouterr().out


def test_a_gpu_that_torch_was_not_built_for_is_refused(monkeypatch):
    no_kernel = RuntimeError("CUDA error: no kernel image is available\nand more lines")
    monkeypatch.setattr(torch, "ones", mock.Mock(side_effect=no_kernel))
    refused(r"computes here \(CUDA error: no kernel image is avail", resolve_device, "cuda")


def test_a_start_says_where_and_how_it_computes(birds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    start(tmp_path / "run", birds)
    out = capsys.readouterr().out
    assert "Computing on the CPU, " in out and "in float32; without fast bfloat16" in out
