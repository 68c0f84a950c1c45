"""Images on their way in: decoded once, odd files named, batches without repetition."""

from pathlib import Path

import dataset
import pytest
import torch
from dataset import draw_birds
from PIL import Image
from train import build_transforms

from common import InputError
from common.files import fingerprint


def test_images_are_the_files_in_name_order(bird_folder):
    from torchvision.transforms.functional import pil_to_tensor

    images = dataset.load_images(bird_folder)
    assert images.shape == (20, 3, 32, 32) and images.dtype == torch.uint8
    files = dataset.Dataset(bird_folder, pil_to_tensor)
    paths = sorted(bird_folder.iterdir())
    assert len(files) == 20
    assert torch.equal(images[5], pil_to_tensor(dataset.read_rgb(paths[5])[0]))
    opened = torch.stack([files[index] for index in range(20)])
    assert torch.equal(images, opened) and torch.equal(files.pixels, images)
    assert dataset.Dataset(bird_folder)[0].size == (32, 32)  # without a transform a PIL image
    assert torch.equal(dataset.Dataset(images, pil_to_tensor)[3], images[3])


def test_the_transforms_that_chance_has_no_part_in():
    from torchvision import transforms as t

    known = t.Compose([t.CenterCrop(32), t.Compose([t.ToTensor()]), t.Normalize(0.5, 0.5)])
    assert dataset.is_without_chance(known)
    for step in (t.RandomHorizontalFlip(), lambda x: x, t.RandomChoice([t.ToTensor()]), None):
        assert not dataset.is_without_chance(t.Compose([t.ToTensor(), step]))


def test_an_own_getitem_may_have_chance_in_it(bird_folder):
    """Then it runs for each image in each epoch, whatever the transform is."""
    from torchvision import transforms as t

    class Own(dataset.Dataset):
        def __getitem__(self, index):
            return super().__getitem__(index) * torch.rand(1)

    scale = t.Compose([t.ToTensor(), t.Normalize((0.5,) * 3, (0.5,) * 3)])
    once = dataset.Batches(dataset.Dataset(bird_folder, scale), 4, torch.Generator())
    assert once.images is not None
    assert dataset.Batches(Own(bird_folder, scale), 4, torch.Generator()).images is None


def test_greyscale_is_converted_and_named(bird_folder, capsys):
    Image.new("L", (32, 32), 77).save(bird_folder / "grey.jpg")
    images = dataset.load_images(bird_folder)
    assert len(images) == 21 and (images[-1] == 77).all()
    assert "1 of 21" in (out := capsys.readouterr().out) and "grey.jpg (L)" in out


@pytest.mark.parametrize(
    "break_it, message",
    [
        (
            lambda folder: (folder / "bird_03.jpg").write_bytes(
                (folder / "bird_03.jpg").read_bytes()[:300]
            ),
            "cannot decode.*bird_03",
        ),
        (lambda folder: (folder / "bird_04.jpg").write_bytes(b"hello"), "cannot decode.*bird_04"),
        (
            lambda folder: Image.new("RGB", (64, 48)).save(folder / "large.jpg"),
            "large.jpg is 64x48, expected 32x32",
        ),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no images in"),
    ],
)
def test_unusable_folders_are_refused(bird_folder, break_it, message):
    break_it(bird_folder)
    with pytest.raises(InputError, match=message):
        dataset.load_images(bird_folder)


def test_missing_and_unreadable_folders_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        dataset.load_images(tmp_path / "missing")

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match="cannot read.*Permission denied"):
        dataset.load_images(tmp_path)


def numbered(count):
    """Images that can be told apart by their value."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 32, 32)
    return dataset.Dataset(images, build_transforms())


def values(batch):
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_an_epoch_is_a_permutation_without_its_tail():
    batches = dataset.Batches(numbered(10), 4, torch.Generator().manual_seed(0))
    epochs = [values(batches.next()) + values(batches.next()) for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 8  # 10 = 2 * 4 + 2
    assert epochs[0] != epochs[1] != epochs[2]
    batch = batches.next()
    assert batch.is_contiguous(memory_format=torch.channels_last) and batch.shape == (4, 3, 32, 32)
    assert batch.dtype == torch.float32 and -1 <= batch.min() and batch.max() <= 1


def test_batches_go_on_from_a_saved_place():
    rng = torch.Generator().manual_seed(0)
    batches = dataset.Batches(numbered(10), 3, rng)
    batches.next()
    place, rng_state = batches.state_dict(), rng.get_state()
    expected = [values(batches.next()) for _ in range(6)]
    again = dataset.Batches(numbered(10), 3, torch.Generator())
    again.load_state_dict(place)
    again.generator.set_state(rng_state)
    assert [values(again.next()) for _ in range(6)] == expected


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_larger_than_the_data_is_refused(batch_size):
    with pytest.raises(InputError, match="expected 1 to 10"):
        dataset.Batches(numbered(10), batch_size, torch.Generator())


def test_fingerprint_names_the_pixels(birds):
    assert fingerprint(birds) == fingerprint(birds.clone())
    changed = birds.clone()
    changed[0, 0, 0, 0] ^= 1
    assert fingerprint(changed) != fingerprint(birds) != fingerprint(birds[:-1])


def test_drawn_birds_are_seeded_endless_and_various():
    rng = torch.Generator().manual_seed(5)
    first, second = draw_birds(600, rng), draw_birds(3, rng)
    assert first.shape == (600, 3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(first, draw_birds(600, torch.Generator().manual_seed(5)))
    assert not torch.equal(first[:3], second)
    assert not torch.equal(first[:3], draw_birds(3, torch.Generator().manual_seed(6)))
    assert first.unique(dim=0).shape[0] == 600
    # A bird and a background: pixels vary within an image, and images among themselves.
    assert first.float().std(dim=(2, 3)).mean() > 20 and first.float().std(dim=0).mean() > 30
