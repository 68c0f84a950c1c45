"""Images on their way in: decoded once, odd files named, batches without repetition."""

import os
import random

import dataset
import numpy as np
import pytest
import torch
from dataset import Batches, Dataset, draw_birds, load_images
from helpers import refused
from PIL import Image
from torchvision import transforms as t
from torchvision.transforms.functional import pil_to_tensor
from train import build_transforms


def test_images_are_the_files_in_name_order(bird_folder, capsys):
    """And greyscale ones are converted and named."""
    images, files = load_images(bird_folder), Dataset(bird_folder, pil_to_tensor)
    assert images.shape == (20, 3, 32, 32) and images.dtype == torch.uint8 and len(files) == 20
    for index, path in enumerate(sorted(bird_folder.iterdir())):
        assert torch.equal(images[index], pil_to_tensor(dataset.read_rgb(path)[0]))
        assert torch.equal(images[index], files[index])
    assert torch.equal(files.pixels, images)
    assert Dataset(bird_folder)[0].size == (32, 32)  # without a transform a PIL image
    assert torch.equal(Dataset(images, pil_to_tensor)[3], images[3])
    Image.new("L", (32, 32), 77).save(bird_folder / "grey.jpg")
    images = load_images(bird_folder)
    assert len(images) == 21 and (images[-1] == 77).all()
    assert "1 of 21" in (out := capsys.readouterr().out) and "grey.jpg (L)" in out


def test_whatever_may_have_chance_in_it_runs_for_each_image(bird_folder, monkeypatch):
    known = t.Compose([t.CenterCrop(32), t.Compose([t.ToTensor()]), t.Normalize(0.5, 0.5)])
    assert dataset.is_without_chance(known)
    for step in (t.RandomHorizontalFlip(), lambda x: x, t.RandomChoice([t.ToTensor()]), None):
        assert not dataset.is_without_chance(t.Compose([t.ToTensor(), step]))

    class Own(Dataset):
        def __getitem__(self, index):
            return super().__getitem__(index) * torch.rand(1, generator=rng)

    rng = torch.Generator()  # of its own: nobody can look into it

    for kind, once in ((Dataset, True), (Own, False)):
        batches = Batches(kind(bird_folder, build_transforms()), 4, rng)
        assert (batches.images is not None) == once
    get = Dataset.__getitem__
    for draw in (torch.rand, np.random.rand, lambda n: random.random()):  # a flip of one's own
        flip = lambda data, at, draw=draw: draw(1) and get(data, at)
        monkeypatch.setattr(Dataset, "__getitem__", flip)
        assert Batches(Dataset(bird_folder, build_transforms()), 4, rng).images is None


BREAKS = {
    "cannot decode.*bird_03": lambda at: os.truncate(at / "bird_03.jpg", 300),
    "cannot decode.*bird_04": lambda at: (at / "bird_04.jpg").write_bytes(b"hello"),
    "is 64x48, expected 32x32": lambda at: Image.new("RGB", (64, 48)).save(at / "large.jpg"),
    "no images in": lambda at: [path.unlink() for path in at.iterdir()],
    "cannot read .*No such file": lambda at: at.rename(f"{at}_elsewhere"),
}


@pytest.mark.parametrize("message", BREAKS)
def test_unusable_folders_are_refused(bird_folder, message):
    BREAKS[message](bird_folder)
    refused(message, load_images, bird_folder)


def numbered(count):
    """Images that can be told apart by their value."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 32, 32)
    return Dataset(images, build_transforms())


def values(batch):
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_an_epoch_is_a_permutation_without_its_tail():
    batches = Batches(numbered(10), 4, torch.Generator().manual_seed(0))
    epochs = [values(batches.next()) + values(batches.next()) for _ in range(3)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)  # 10 = 2 * 4 + 2
    assert epochs[0] != epochs[1] != epochs[2]
    even = Batches(numbered(8), 4, torch.Generator())
    for _ in range(3):
        assert sorted(values(even.next()) + values(even.next())) == [*range(8)]  # no tail to drop
    batch = batches.next()
    assert batch.is_contiguous(memory_format=torch.channels_last) and batch.shape == (4, 3, 32, 32)
    assert batch.dtype == torch.float32 and -1 <= batch.min() and batch.max() <= 1
    for batch_size in (0, 11):
        refused("expected 1 to 10", Batches, numbered(10), batch_size, torch.Generator())


def test_drawn_birds_are_seeded_endless_and_various():
    rng = torch.Generator().manual_seed(5)
    first, second = draw_birds(600, rng), draw_birds(3, rng)
    assert first.shape == (600, 3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(first, draw_birds(600, torch.Generator().manual_seed(5)))
    for other in (second, draw_birds(3, torch.Generator().manual_seed(6))):
        assert not torch.equal(first[:3], other)
    assert first.unique(dim=0).shape[0] == 600
    # A bird and a background: pixels vary within an image, and images among themselves.
    assert first.float().std(dim=(2, 3)).mean() > 20 and first.float().std(dim=0).mean() > 30
