"""CIFAR-10 from a folder, an archive or a server; epochs of batches; pictures."""

import hashlib
import http.server
import io
import pickle
import tarfile
import threading

import dataset
import numpy as np
import pytest
import torch
import utils
from dataset import Batches, load_cifar10
from model import AEModel
from PIL import Image
from torch import nn

from common import InputError


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """3 training and 2 validation images in the official format, with md5s of their own."""
    folder = tmp_path / "source" / dataset.FOLDER
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    parts = {"train": ("data_batch_1", pixels[:3]), "test": ("test_batch", pixels[3:])}
    for part, (name, values) in parts.items():
        content = pickle.dumps({"data": values, "labels": [0] * len(values)})
        (folder / name).write_bytes(content)
        listed = [[name, hashlib.md5(content).hexdigest()]]
        monkeypatch.setattr(dataset.CIFAR10, f"{part}_list", listed)
    return folder, torch.from_numpy(pixels).view(5, 3, 32, 32)


def pack(folder, archive, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, dataset.FOLDER)
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(buffer.getvalue())
    monkeypatch.setattr(dataset, "ARCHIVE_MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    return buffer.getvalue()


def test_folder_and_archive_are_accepted(tiny_cifar, tmp_path, monkeypatch):
    folder, pixels = tiny_cifar
    archives = tmp_path / "archives"
    pack(folder, archives / dataset.ARCHIVE, monkeypatch)
    for place in (folder.parent, folder, archives / dataset.ARCHIVE, archives):
        train, validation = load_cifar10(place, download=False)
        assert torch.equal(train, pixels[:3]) and torch.equal(validation, pixels[3:])
        assert train.dtype == torch.uint8
    assert not list(archives.glob(".unfinished*"))


def test_the_real_cifar10(shared):
    train, validation = load_cifar10(shared / "datasets", download=False)
    assert train.shape == (50_000, 3, 32, 32) and validation.shape == (10_000, 3, 32, 32)
    # Published channel means of the training set: 0.4914, 0.4822, 0.4465.
    means = train.float().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4, rtol=0)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        server.requests.append(self.path)
        if self.path == "/gone":
            self.send_error(503)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass


def test_download_tries_the_mirror_first_goes_on_and_falls_back(tiny_cifar, tmp_path, monkeypatch):
    folder, pixels = tiny_cifar
    urls = [source["url"] for source in dataset.SOURCES.values()]
    assert "brainchip" in urls[0] and "toronto" in urls[1]  # the first is not the slow host
    assert dataset.ARCHIVE_MD5 == "c58f30108f718f92721af3b95e74349a"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content = pack(folder, tmp_path / "packed", monkeypatch)
    server.requests, server.cuts = [], [100]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    sources = {"mirror": {"url": f"{url}/gone"}, "Toronto": {"url": f"{url}/file"}}
    monkeypatch.setattr(dataset, "SOURCES", sources)
    with pytest.raises(InputError, match="mirror: .*503.*Toronto: .*--dataset synthetic"):
        load_cifar10(tmp_path / "new")
    train, _ = load_cifar10(tmp_path / "new")
    assert torch.equal(train, pixels[:3]) and server.requests[0] == "/gone"
    server.shutdown()


def test_folders_that_cannot_be_used(tiny_cifar, tmp_path):
    folder = tiny_cifar[0]
    (tmp_path / "file").write_text("")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / dataset.ARCHIVE).write_bytes(b"half")
    (folder / "data_batch_1").write_bytes(b"x")
    for place, message in (
        (tmp_path / "missing", "correct the path or add --download"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "half", "damaged"),
        (folder.parent, "data_batch_1 is damaged"),
    ):
        with pytest.raises(InputError, match=message):
            load_cifar10(place, download=False)
    (folder / "data_batch_1").unlink()
    with pytest.raises(InputError, match="data_batch_1 is missing"):
        load_cifar10(folder.parent)


def numbered(count):
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


def values(batches):
    return [x[:, 0, 0, 0].tolist() for x, _ in batches]


def shuffled(batch_size, seed=0):
    return Batches(numbered(10), batch_size, "cpu", torch.Generator().manual_seed(seed))


def test_an_epoch_holds_every_image_once_and_the_tail():
    batches = shuffled(4)
    epochs = [values(batches) for _ in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 2]
        assert sorted(sum(epoch, [])) == list(range(10))
    assert epochs[0] != epochs[1] and len(batches) == 3
    assert values(Batches(numbered(5), 4, "cpu")) == [[0, 1, 2, 3], [4]]


def test_an_epoch_goes_on_from_a_saved_place_or_begins_anew():
    """The handout looks at `next(iter(val_loader))` before it validates."""
    batches = shuffled(3)
    iterator = iter(batches)
    next(iterator)
    place = batches.state_dict()
    place["order"] = place["order"].clone()
    rest, again = values(iterator), shuffled(3, seed=9)
    again.load_state_dict(place)
    assert values(again) == rest and len(rest) == 3
    for batches in (shuffled(4), Batches(numbered(10), 4, "cpu")):
        next(iter(batches))
        assert sorted(sum(values(batches), [])) == list(range(10))


def test_loaders_of_the_handout(monkeypatch):
    monkeypatch.setattr(utils, "open_data", lambda options: (numbered(10), numbered(4)))
    train_loader, val_loader = utils.get_dataloaders(batch_size=3)
    order = sum(values(train_loader), [])
    assert sorted(order) == list(range(10)) != order and len(train_loader) == 4
    assert sum(values(val_loader), []) == [0, 1, 2, 3]


def test_drawn_shapes_are_seeded_and_endless():
    rng = torch.Generator().manual_seed(3)
    first, second = dataset.draw_shapes(50, rng), dataset.draw_shapes(50, rng)
    assert torch.equal(first, dataset.draw_shapes(50, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, second) and first.unique(dim=0).shape[0] == 50
    assert first.shape == (50, 3, 32, 32) and first.dtype == torch.uint8


class Minus(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x):
        return self.weight * x


def test_reconstructions_stand_beside_their_images(tmp_path, real_pictures):
    model = AEModel(False, 4)
    model.encoder, model.decoder = nn.Identity(), Minus()
    x = torch.ones(36, 3, 32, 32)  # as a loader gives them: 1 is white
    utils.vis_recons(model, x, tmp_path / "recons.png")
    picture = np.asarray(Image.open(tmp_path / "recons.png"))
    cell = 32 * utils.ZOOM + 2 * 6 + 2  # with its frame, and the line to the next
    assert picture.shape == (6 * cell + 2, 12 * cell + 2, 3)
    tiles = picture[2:, 2:].reshape(6, cell, 12, cell, 3).swapaxes(1, 2)[:, :, :-2, :-2].copy()
    inside = np.s_[:, :, 6:-6, 6:-6]
    assert (tiles[inside][:, 0::2] == 255).all() and (tiles[inside][:, 1::2] == 0).all()
    tiles[inside] = tiles[:, :, :1, :1]  # leaves the frames
    assert (tiles[:, 0::2] == (255, 140, 0)).all() and (tiles[:, 1::2] == 0).all()


def test_samples_are_a_seven_by_seven_grid_in_range(tmp_path, real_pictures):
    torch.manual_seed(0)
    model, seen = AEModel(True, 4), []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grid = utils.vis_samples(model, tmp_path / "samples.png")
    assert seen[0].shape == (49, 4) and seen[0].abs().max() > 2
    moments = torch.stack([seen[0].mean(), seen[0].std(), (seen[0].abs() < 1).float().mean()])
    torch.testing.assert_close(moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.2, rtol=0)
    assert 0 <= grid.min() and grid.max() <= 1 and model.training
    cell = 32 * utils.ZOOM + 2
    assert Image.open(tmp_path / "samples.png").size == (7 * cell + 2, 7 * cell + 2)


def test_a_file_without_a_suffix_gets_one(tmp_path):
    """The handout calls both with ".../epoch_4", in a folder that may have a dot in its name."""
    folder, model = tmp_path / "beta0.8", AEModel(True, 4)
    folder.mkdir()
    utils.vis_samples(model, f"{folder}/epoch_4", 4)
    utils.vis_recons(model, torch.rand(2, 3, 32, 32), f"{folder}/epoch_4")
    utils.vis_samples(model, folder / "mine.png", 4)
    names = {path.name for path in folder.iterdir()}
    assert names == {"epoch_4_samples.png", "epoch_4_recons.png", "mine.png"}


def test_preprocessing_of_bytes_and_floats_gives_the_same_bits():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(utils.preprocess_data(grey), utils.preprocess_data(grey.float() / 255))
    assert torch.equal(utils.preprocess_data(grey), grey.float().div(127.5).sub(1))
