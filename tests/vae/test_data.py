"""CIFAR-10 from a folder, an archive or a server; epochs of batches; pictures."""

import hashlib
import pickle
import tarfile
from pathlib import Path

import dataset
import numpy as np
import pytest
import torch
import utils
from dataset import load_cifar10
from helpers import refused
from model import AEModel
from PIL import Image
from torch import nn


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


@pytest.fixture
def archive(tiny_cifar, tmp_path, monkeypatch):
    """The same packed, in a folder of its own."""
    assert dataset.ARCHIVE_MD5 == "c58f30108f718f92721af3b95e74349a"
    archive = tmp_path / "archives" / dataset.ARCHIVE
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny_cifar[0], dataset.FOLDER)
    monkeypatch.setattr(dataset, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def test_folder_and_archive_are_accepted(tiny_cifar, archive):
    folder, pixels = tiny_cifar
    for place in (folder.parent, folder, archive, archive.parent):
        train, validation = load_cifar10(place, download=False)
        assert torch.equal(train, pixels[:3]) and torch.equal(validation, pixels[3:])
        assert train.dtype == torch.uint8
    assert not list(archive.parent.glob(".unfinished*"))


@pytest.mark.shared
def test_the_real_cifar10(shared):
    train, validation = load_cifar10(shared / "datasets", download=False)
    assert train.shape == (50_000, 3, 32, 32) and validation.shape == (10_000, 3, 32, 32)
    # Published channel means of the training set: 0.4914, 0.4822, 0.4465.
    means = train.float().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4, rtol=0)


def test_download_tries_the_mirror_first_and_falls_back(tiny_cifar, archive, tmp_path, monkeypatch):
    """Through what fetches CUB, whose tests cut connections."""
    asked, answers = [], [b"a page", b"a page", b"a page", archive.read_bytes()]

    def download(url, output, resume):
        asked.append(url)
        return Path(output).write_bytes(answers.pop(0))

    monkeypatch.setattr("gdown.download", download)
    refused("mirror: .*md5.*Toronto: .*--dataset synthetic", load_cifar10, tmp_path / "new")
    train, _ = load_cifar10(tmp_path / "new")
    assert torch.equal(train, tiny_cifar[1][:3])
    mirror, university = asked[:2]  # the first is not the slow host
    assert "brainchip" in mirror and "toronto" in university and asked[2:] == [mirror, university]


def test_folders_that_cannot_be_used(tiny_cifar, tmp_path):
    folder = tiny_cifar[0]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / dataset.ARCHIVE).write_bytes(b"half")
    (folder / "data_batch_1").write_bytes(b"x")
    refused("damaged", load_cifar10, tmp_path / "half", download=False)
    refused("data_batch_1 is damaged", load_cifar10, folder.parent, download=False)
    (folder / "data_batch_1").unlink()
    refused("data_batch_1 is missing", load_cifar10, folder.parent)


def numbered(count):
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


def values(batches):
    return [x[:, 0, 0, 0].tolist() for x, _ in batches]


def test_an_epoch_holds_every_image_once_and_the_tail():
    batches, tail = utils.get_dataloaders(4, images=(numbered(10), numbered(5)))
    epochs = [values(batches) for _ in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 2]
        assert sorted(sum(epoch, [])) == list(range(10))
    assert epochs[0] != epochs[1] and len(batches) == 3
    next(iter(batches)), next(iter(tail))  # as the handout looks at a batch before it validates
    assert sorted(sum(values(batches), [])) == list(range(10))
    assert values(tail) == [[0, 1, 2, 3], [4]]


def test_drawn_shapes_are_seeded_and_endless():
    rng = torch.Generator().manual_seed(3)
    first, second = dataset.draw_shapes(50, rng), dataset.draw_shapes(50, rng)
    assert torch.equal(first, dataset.draw_shapes(50, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, second) and first.unique(dim=0).shape[0] == 50
    assert first.shape == (50, 3, 32, 32) and first.dtype == torch.uint8


class Minus(nn.Linear):
    encoder, decoder = lambda self, x: x, lambda self, z: -z


def test_reconstructions_stand_beside_their_images(tmp_path, real_pictures):
    x = torch.ones(36, 3, 32, 32)  # as a loader gives them: 1 is white
    utils.vis_recons(Minus(1, 1), x, tmp_path / "recons.png")
    picture = np.asarray(Image.open(tmp_path / "recons.png"))
    cell = 32 * utils.ZOOM + 2 * 6 + 2  # with its frame, and the line to the next
    assert picture.shape == (6 * cell + 2, 12 * cell + 2, 3)
    tiles = picture[2:, 2:].reshape(6, cell, 12, cell, 3).swapaxes(1, 2)[:, :, :-2, :-2].copy()
    inside = np.s_[:, :, 6:-6, 6:-6]
    assert (tiles[inside][:, 0::2] == 255).all() and (tiles[inside][:, 1::2] == 0).all()
    tiles[inside] = tiles[:, :, :1, :1]  # leaves the frames
    assert (tiles[:, 0::2] == (255, 140, 0)).all() and (tiles[:, 1::2] == 0).all()


def test_samples_are_a_seven_by_seven_grid_in_range(tmp_path, real_pictures):
    """The handout calls with ".../epoch_4", in a folder that may have a dot in its name."""
    torch.manual_seed(0)
    model, seen, folder = AEModel(True, 4), [], tmp_path / "beta0.8"
    folder.mkdir()
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grid = utils.vis_samples(model, f"{folder}/epoch_4")
    assert seen[0].shape == (49, 4) and seen[0].abs().max() > 2
    moments = torch.stack([seen[0].mean(), seen[0].std(), (seen[0].abs() < 1).float().mean()])
    torch.testing.assert_close(moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.2, rtol=0)
    assert 0 <= grid.min() and grid.max() <= 1 and model.training
    cell = 32 * utils.ZOOM + 2
    assert Image.open(folder / "epoch_4_samples.png").size == (7 * cell + 2, 7 * cell + 2)


def test_preprocessing_of_bytes_and_floats_gives_the_same_bits():
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(utils.preprocess_data(grey), utils.preprocess_data(grey.float() / 255))
    assert torch.equal(utils.preprocess_data(grey), grey.float().div(127.5).sub(1))
