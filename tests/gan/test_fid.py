"""Frechet distances against SciPy's matrix root, and the Inception path against clean-fid's own."""

import cleanfid.fid
import fid
import numpy as np
import pytest
import readme
import scipy.linalg
import torch
from cleanfid.features import InceptionV3W
from cleanfid.resize import build_resizer
from helpers import TinyGenerator, refused
from networks import reestimate_statistics
from PIL import Image
from torch import nn
from torch.testing import assert_close

from common import NonFiniteError
from common.files import fingerprint


def command(*argv):
    readme.run(pytest.MonkeyPatch(), "gan/fid.py", *argv)


@pytest.fixture
def features(tiny_features):
    return fid.Features(str(tiny_features))


@pytest.mark.parametrize("samples", [200, 12])  # more and fewer than the 24 features
def test_distance_equals_the_textbooks(samples):
    """With SciPy's general matrix square root."""
    rng = np.random.default_rng(0)
    both = rng.normal(size=(samples, 24)) @ rng.normal(size=(24, 24)) + 1e4 + 3
    both = both, rng.normal(size=(samples, 24)) * 2 + 1e4
    (mean1, cov1), (mean2, cov2) = ((f.mean(axis=0), np.cov(f, rowvar=False)) for f in both)
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    expected = float(((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root))
    ours = [fid.moments(torch.from_numpy(f).split(7))[:2] for f in both]
    assert fid.frechet_distance(*ours[0], *ours[1]) == pytest.approx(expected, abs=1e-4)
    assert 0 <= fid.frechet_distance(*ours[0], *ours[0]) < 1e-4  # equal sets: not below 0
    np.testing.assert_allclose(ours[0][1], cov1, rtol=1e-8, atol=1e-8)  # far from 0 as well
    refused("at least 2", fid.moments, [torch.zeros(1, 5).double()])


def test_resizing_equals_clean_fids(birds):
    resize, rng = build_resizer("clean"), torch.Generator().manual_seed(0)
    images = [*birds[:4].float(), *(torch.rand(2, 3, 32, 32, generator=rng) * 255)]
    images.append(torch.rand(3, 400, 400, generator=rng) * 255)  # shrinking needs the antialiasing
    for image in images:
        ours = fid.resize_like_pil(image[None])[0].permute(1, 2, 0)
        np.testing.assert_allclose(ours, resize(image.permute(1, 2, 0).numpy()), atol=0.01)


def test_inception_path_equals_clean_fids(tiny_inception, bird_folder):
    """Features of a folder, ours against clean-fid's own reading, resizing and network."""
    how = {"num_workers": 0, "device": torch.device("cpu"), "mode": "clean", "verbose": False}
    network = InceptionV3W(str(tiny_inception), download=False)
    theirs = cleanfid.fid.get_folder_features(str(bird_folder), network, **how)
    batches = fid.image_batches(fid.find_images(bird_folder))
    ours = torch.cat([*map(fid.Features("inception", "cpu", tiny_inception), batches)])
    assert ours.shape == (20, 2048)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).mean())


class Counter(nn.Linear):
    """A generator whose n-th image is the grey level n / 200 - 1, whatever the latents."""

    latents = ()

    def forward_given_samples(self, z):
        self.latents = (*self.latents, z)
        grey = torch.arange(sum(map(len, self.latents)))[-len(z) :] / 200 - 1
        return grey.view(-1, 1, 1, 1).expand(-1, 3, 32, 32)


class Recorder(list):
    """Features that keep the images that they are given."""

    name, key, device = "FD (recorder)", "recorder-0", torch.device("cpu")

    def __call__(self, images):
        self.append(images)
        return images.float().mean(dim=(2, 3)).double() + torch.tensor([0.0, 1.0, 2.0])


def test_score_sends_each_image_once_in_order_and_range(birds):
    features, gen = Recorder(), Counter(1, 1)
    reference = fid.Reference(birds, features)
    order = torch.cat(features)  # in random order, so that the first are of every kind
    assert not torch.equal(order, birds) and len(order.unique(dim=0)) == len(birds)
    features.clear()
    score = fid.score(gen, reference, 300)["score"]
    assert len(gen.latents) == 2  # whole batches, whatever is left over
    rng = torch.Generator().manual_seed(1)  # not that of any picture
    for z in gen.latents:
        assert torch.equal(z, torch.randn(256, 128, generator=rng))
    images = torch.cat(features)
    expected = torch.arange(300) / 200 * 127.5  # [-1, 1] -> [0, 255]
    assert_close(images[:, 0, 0, 0], expected, rtol=1e-5, atol=1e-4)
    mean, cov, _ = fid.moments([Recorder()(images)])
    distance = fid.frechet_distance(reference.mean, reference.cov, mean, cov)
    assert score == pytest.approx(distance, rel=1e-6)


def test_scoring_leaves_the_generator_as_it_was(birds, features):
    torch.manual_seed(0)
    gen, reference, first = TinyGenerator(), fid.Reference(birds, features), {}
    before, rng = [value.clone() for value in gen.state_dict().values()], torch.get_rng_state()
    for mode in ("train", "eval"):
        first[mode] = fid.score(gen, reference, 20, mode)
        assert gen.training and torch.equal(torch.get_rng_state(), rng)
        assert all(map(torch.equal, gen.state_dict().values(), before))
        assert fid.score(gen, reference, 20, mode) == first[mode]  # the same latents each time
        assert fid.score(gen, reference, 20, mode, seed=1) != first[mode]  # those of the seed
    assert abs(first["train"]["score"] - first["eval"]["score"]) > 1e-3
    gen.norm.running_mean.fill_(9.0)  # what training left behind says nothing
    assert fid.score(gen, reference, 20, "eval") == first["eval"]
    nn.init.constant_(gen.dense.bias, float("nan"))
    with pytest.raises(NonFiniteError, match="NaN"):
        fid.score(gen, reference, 10)


def test_running_statistics_are_of_enough_latents():
    """A second estimate agrees: 64 latents were too few by 5 per cent of a score."""
    torch.manual_seed(0)
    gen = TinyGenerator()
    reestimate_statistics(gen, fid.ESTIMATE)
    with torch.no_grad():
        dense = gen.dense(torch.randn(100_000, 128)).view(-1, 1, 4, 4)
    assert_close(gen.norm.running_mean, dense.mean((0, 2, 3)), atol=0.01, rtol=0)
    assert_close(gen.norm.running_var, dense.var((0, 2, 3)), atol=0, rtol=0.02)


def test_statistics_are_kept_and_found_by_data_and_features(birds, features, tmp_path, monkeypatch):
    read_only, run = tmp_path / "data", tmp_path / "run"
    read_only.mkdir(mode=0o555), run.mkdir()
    first = fid.Reference(birds, features, (read_only, run))
    assert not list(read_only.iterdir())  # left alone
    (stored,) = run.iterdir()
    assert fingerprint(birds) in stored.name and features.key in stored.name
    with monkeypatch.context() as patch:
        patch.setattr(fid, "moments", lambda *args: pytest.fail("computed again"))
        assert torch.equal(fid.Reference(birds, features, (run,)).cov, first.cov)
    stored.write_bytes(stored.read_bytes()[:100])  # damaged: made again
    assert torch.equal(fid.Reference(birds, features, (run,)).cov, first.cov)


def test_no_network_for_inception_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "inception_url", "http://127.0.0.1:9/inception-2015-12-05.pt")
    refused("no download .*--inception_weights", fid.Features, "inception", "cpu", tmp_path)
    assert not (tmp_path / "inception-2015-12-05.pt").exists()


def test_a_folder_that_cannot_be_scored(tiny_features, tmp_path, bird_folder):
    (tmp_path / "narrow").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "narrow/small.png")  # for this network's pooling
    given = bird_folder, tmp_path / "narrow", "--features", tiny_features
    refused(r"fails on images of shape \(1, 3, 8, 8", command, *given)


def test_folders_against_each_other(bird_folder, tiny_features, tmp_path, capsys):
    other = tmp_path / "other" / "below"
    other.mkdir(parents=True)
    for index in range(3):
        Image.new("L", (32 + index // 2, 32), 40 * index).save(other / f"{index}.png")
    how = "--features", tiny_features, "--device", "cpu"
    command(bird_folder, other.parent, *how)
    line = capsys.readouterr().out
    assert line.startswith("FD (tiny.pt) = ") and "20 images" in line and "against 3 of" in line
    command(bird_folder, bird_folder, *how)
    assert abs(float(capsys.readouterr().out.split(" = ")[1].split(":")[0])) < 1e-3


def test_a_folders_kid_and_recall_are_of_images_of_every_kind(tiny_features, tmp_path, monkeypatch):
    """Sorted by kind, and more than are compared: black, then white."""
    for index in range(60):
        path = tmp_path / ("black" if index < 40 else "white") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), path.parent.name).save(path)
    kept = []
    monkeypatch.setattr(fid, "COMPARED", 20)
    monkeypatch.setattr(fid, "sample_quality", lambda *sides: kept.extend(sides) or {})
    fid.compare_folders([str(tmp_path)], str(tmp_path), str(tiny_features), None, "cpu")
    assert len(kept) == 2
    for side in kept:
        kinds, counts = side.unique(dim=0, return_counts=True)
        assert len(kinds) == 2 and counts.sum() == 20 and counts.min() >= 3


def test_kid_equals_clean_fids():
    """Where the subsets are the whole sets, theirs are no longer random."""
    rng = np.random.default_rng(0)
    both = [rng.normal(size=(300, 40)).astype(np.float32) + shift for shift in (0, 0.3)]
    ours, deviation = fid.kernel_distance(*map(torch.from_numpy, both), 5)
    theirs = cleanfid.fid.kernel_distance(*both, num_subsets=5)
    assert ours == pytest.approx(theirs, rel=1e-4) and deviation < 1e-5
    # Smaller subsets of larger sets: the same up to their spread, and the same at every call.
    both = [np.concatenate([half] * 4) for half in both]
    many = [fid.kernel_distance(*map(torch.from_numpy, both), size=200) for _ in "12"]
    np.random.seed(0)
    theirs = cleanfid.fid.kernel_distance(*both, max_subset_size=200)
    assert many[0] == many[1] and many[0][1] > 0
    assert many[0][0] == pytest.approx(theirs, abs=4 * many[0][1] / 10)


def test_precision_and_recall_of_more_points_than_are_taken_at_a_time():
    """By the third neighbour; what lies among them is counted at once."""
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(1200, 4, generator=rng), 2 * torch.randn(1100, 4, generator=rng)

    def share(points, others):
        radius = torch.cdist(others, others).sort(dim=1)[0][:, 3]
        return (torch.cdist(points, others) <= radius).any(1).double().mean().item()

    expected = pytest.approx((share(fake, real), share(real, fake)), abs=2e-3)
    assert fid.precision_and_recall(real, fake) == expected
    assert fid.precision_and_recall(real, real) == (1.0, 1.0)


def test_quality_is_of_the_same_images(birds, features):
    reference, gen = fid.Reference(birds, features), TinyGenerator()
    row, plain = (fid.score(gen, reference, 40, quality=quality) for quality in (True, False))
    assert 0 <= row["precision"] <= 1 and 0 <= row["recall"] <= 1 and row["kid"] > 0
    assert plain == {"score": row["score"]} and fid.describe_quality({}) == ""
    assert "+- 0.2500" in fid.describe_quality(row | {"kid_std": 0.25})
    assert "one subset: no deviation" in fid.describe_quality(row | {"kid_std": 0.0})
