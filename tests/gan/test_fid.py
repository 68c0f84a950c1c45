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
from helpers import TinyGenerator
from torch import nn

from common import InputError, NonFiniteError
from common.files import fingerprint


def command(argv):
    readme.run(pytest.MonkeyPatch(), "gan/fid.py", *argv)


def sqrtm_distance(features1, features2):
    """The textbook formula, with SciPy's general matrix square root."""
    (mean1, cov1), (mean2, cov2) = (
        (f.mean(axis=0), np.cov(f, rowvar=False)) for f in (features1, features2)
    )
    root = scipy.linalg.sqrtm(cov1 @ cov2)
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root.real))


def our_distance(features1, features2, batch=7):
    statistics = [fid.moments(torch.from_numpy(f).split(batch))[:2] for f in (features1, features2)]
    return fid.frechet_distance(*statistics[0], *statistics[1])


@pytest.mark.parametrize("samples", [200, 12])  # more and fewer than the 24 features
def test_distance_equals_sqrtm(samples):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(24, 24))
    features1 = rng.normal(size=(samples, 24)) @ mix + 3
    features2 = rng.normal(size=(samples, 24)) * 2
    assert our_distance(features1, features2) == pytest.approx(
        sqrtm_distance(features1, features2), abs=1e-4
    )


def test_distance_of_known_gaussians():
    mean, cov = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert fid.frechet_distance(mean, cov, mean, cov) == pytest.approx(0, abs=1e-12)
    # |m|^2 + tr(I + 4I - 2 * 2I) = 4 * 3 + 3
    assert fid.frechet_distance(mean, cov, mean + 2, 4 * cov) == pytest.approx(15)


def test_moments_are_numpys_and_need_two_samples():
    features = np.random.default_rng(1).normal(size=(50, 5)) + 1e4
    mean, cov, count = fid.moments(torch.from_numpy(features).split(9))
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(features, rowvar=False), rtol=1e-8, atol=1e-10)
    assert count == 50
    with pytest.raises(InputError, match="at least 2"):
        fid.moments([torch.zeros(1, 5).double()])


def test_resizing_equals_clean_fids(birds):
    resize = build_resizer("clean")
    rng = torch.Generator().manual_seed(0)
    images = torch.cat([birds[:4].float(), torch.rand(2, 3, 32, 32, generator=rng) * 255])
    ours = fid.resize_like_pil(images)
    for image, resized in zip(images, ours):
        theirs = resize(image.permute(1, 2, 0).numpy())
        np.testing.assert_allclose(resized.permute(1, 2, 0), theirs, atol=0.01)
    large = torch.rand(1, 3, 400, 400, generator=rng) * 255  # shrinking needs the antialiasing
    np.testing.assert_allclose(
        fid.resize_like_pil(large)[0].permute(1, 2, 0),
        resize(large[0].permute(1, 2, 0).numpy()),
        atol=0.01,
    )


def check_inception_path(weights_folder, folder):
    """Features of a folder, ours against clean-fid's own reading, resizing and network."""
    network = InceptionV3W(str(weights_folder), download=False)
    theirs = cleanfid.fid.get_folder_features(
        str(folder), network, num_workers=0, device=torch.device("cpu"), mode="clean", verbose=False
    )
    features = fid.Features("inception", "cpu", weights_folder)
    ours = torch.cat([features(batch) for batch in fid.image_batches(fid.image_files(folder))])
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).mean())
    return ours


def test_inception_path_equals_clean_fids(tiny_inception, bird_folder):
    assert check_inception_path(tiny_inception, bird_folder).shape == (20, 2048)


def test_inception_path_with_the_shared_stand_in(shared, bird_folder, tmp_path):
    (tmp_path / "inception-2015-12-05.pt").symlink_to(shared / "features" / "inception_standin.pt")
    assert check_inception_path(tmp_path, bird_folder).shape == (20, 2048)


def test_shared_features_tell_birds_from_noise(shared):
    from dataset import Dataset
    from torchvision.transforms.functional import pil_to_tensor

    features = fid.Features(str(shared / "features" / "efficientnet_lite0.pt"))
    assert features.name == "FD (efficientnet_lite0.pt)"
    files = Dataset(shared / "datasets" / "CUB_200_2011_32", pil_to_tensor)
    birds = torch.stack([files[index] for index in range(0, 400, 2)])
    others = torch.stack([files[index] for index in range(1, 400, 2)])
    noise = torch.randint(0, 256, birds.shape, dtype=torch.uint8)
    reference = fid.Reference(birds, features)
    distances = [
        fid.frechet_distance(reference.mean, reference.cov, *fid.moments([features(x)])[:2])
        for x in (others, noise)
    ]
    assert (
        2 * distances[0] < distances[1]
    )  # the first falls with the sample count, the second hardly


class Counter(nn.Module):
    """A generator whose n-th image is the grey level n / 200 - 1, whatever the latents."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = []

    def forward_given_samples(self, z):
        start = sum(self.batches)
        self.latents = z if start == 0 else self.latents  # the first
        self.batches.append(len(z))
        assert z.shape[1:] == (128,) and z.dtype == torch.float32
        moments = torch.stack([z.mean(), z.std(), (z.abs() < 1).float().mean()])
        torch.testing.assert_close(
            moments, torch.tensor([0.0, 1.0, 0.6827]), atol=0.02, rtol=0
        )  # normal
        return (
            (torch.arange(start, start + len(z)) / 200 - 1).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
        )


class Recorder:
    """Features that keep what they are given."""

    name, key, device = "FD (recorder)", "recorder-0", torch.device("cpu")

    def __init__(self):
        self.images = []

    def __call__(self, images):
        self.images.append(images)
        return images.float().mean(dim=(2, 3)).double() + torch.tensor([0.0, 1.0, 2.0])


def test_score_sends_each_image_once_in_order_and_range(birds):
    features = Recorder()
    reference = fid.Reference(birds, features)
    order = torch.cat(features.images)  # in random order, so that the first are of every kind
    assert not torch.equal(order, birds) and len(order.unique(dim=0)) == len(birds)
    features.images.clear()
    gen = Counter()
    score = fid.score(gen, reference, 300)["score"]
    assert gen.batches == [256, 256]  # whole batches, whatever is left over
    of_seed = torch.randn(256, 128, generator=torch.Generator().manual_seed(1))
    assert torch.equal(gen.latents, of_seed)  # not those of any picture
    images = torch.cat(features.images)
    assert len(images) == 300
    expected = torch.arange(300) / 200 * 127.5  # [-1, 1] -> [0, 255]
    torch.testing.assert_close(images[:, 0, 0, 0], expected, rtol=1e-5, atol=1e-4)
    statistics = fid.moments([images.mean(dim=(2, 3)).double() + torch.tensor([0.0, 1.0, 2.0])])[:2]
    assert score == pytest.approx(
        fid.frechet_distance(reference.mean, reference.cov, *statistics), rel=1e-6
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_scoring_leaves_the_generator_as_it_was(birds, tiny_features, mode):
    torch.manual_seed(0)
    gen = TinyGenerator()
    before = {name: value.clone() for name, value in gen.state_dict().items()}
    global_rng = torch.get_rng_state()
    reference = fid.Reference(birds, fid.Features(str(tiny_features)))
    first = fid.score(gen, reference, 20, mode)
    assert gen.training and torch.equal(torch.get_rng_state(), global_rng)
    assert all(torch.equal(value, before[name]) for name, value in gen.state_dict().items())
    assert fid.score(gen, reference, 20, mode) == first  # the same latents each time
    assert fid.score(gen, reference, 20, mode, seed=1) != first  # those of the seed


def test_modes_give_different_scores_and_eval_ones_statistics_of_now(birds, tiny_features):
    torch.manual_seed(0)
    gen, reference = TinyGenerator(), fid.Reference(birds, fid.Features(str(tiny_features)))
    of_train, of_eval = (fid.score(gen, reference, 20, mode)["score"] for mode in ("train", "eval"))
    assert abs(of_train - of_eval) > 1e-3
    gen.norm.running_mean.fill_(9.0)  # what training left behind says nothing
    assert fid.score(gen, reference, 20, "eval")["score"] == of_eval


def test_running_statistics_are_of_enough_latents():
    """A second estimate agrees: 64 latents were too few by 5 per cent of a score."""
    from networks import reestimate_statistics

    torch.manual_seed(0)
    gen = TinyGenerator()
    reestimate_statistics(gen, fid.ESTIMATE)
    mean, var = gen.norm.running_mean.clone(), gen.norm.running_var.clone()
    with torch.no_grad():
        dense = gen.dense(torch.randn(100_000, 128)).view(-1, 1, 4, 4)
    torch.testing.assert_close(mean, dense.mean((0, 2, 3)), atol=0.01, rtol=0)
    torch.testing.assert_close(var, dense.var((0, 2, 3)), atol=0, rtol=0.02)
    gen.dense.bias.data += 1  # other weights: estimated again, not remembered
    reestimate_statistics(gen, fid.ESTIMATE)
    torch.testing.assert_close(gen.norm.running_mean, mean + 1, atol=1e-4, rtol=0)


def test_non_finite_images_are_reported(birds, tiny_features):
    gen = TinyGenerator()
    nn.init.constant_(gen.dense.bias, float("nan"))
    with pytest.raises(NonFiniteError, match="NaN"):
        fid.score(gen, fid.Reference(birds, fid.Features(str(tiny_features))), 10)


def test_statistics_are_kept_and_found_by_data_and_features(
    birds, tiny_features, tmp_path, monkeypatch
):
    features = fid.Features(str(tiny_features))
    first = fid.Reference(birds, features, (tmp_path,))
    (stored,) = tmp_path.iterdir()
    assert fingerprint(birds) in stored.name and features.key in stored.name
    monkeypatch.setattr(fid, "moments", lambda *args: pytest.fail("computed again"))
    assert torch.equal(fid.Reference(birds, features, (tmp_path,)).cov, first.cov)
    monkeypatch.undo()
    stored.write_bytes(stored.read_bytes()[:100])  # damaged: made again
    assert torch.equal(fid.Reference(birds, features, (tmp_path,)).cov, first.cov)


def test_a_read_only_folder_is_left_alone(birds, tiny_features, tmp_path):
    read_only, run = tmp_path / "data", tmp_path / "run"
    read_only.mkdir(), run.mkdir()
    read_only.chmod(0o555)
    fid.Reference(birds, fid.Features(str(tiny_features)), (read_only, run))
    assert not list(read_only.iterdir()) and len(list(run.iterdir())) == 1


def test_no_network_for_inception_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "inception_url", "http://127.0.0.1:9/inception-2015-12-05.pt")
    with pytest.raises(InputError, match="no download .*--inception_weights.*another network"):
        fid.Features("inception", "cpu", tmp_path)
    assert not (tmp_path / "inception-2015-12-05.pt").exists()


def test_unusable_features_are_refused(tmp_path, tiny_features):
    with pytest.raises(InputError, match="expected a TorchScript file, or inception"):
        fid.Features("no/such/file.pt")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(tiny_features.read_bytes()[:200])
    with pytest.raises(InputError, match="is not a TorchScript file .*; give another"):
        fid.Features(str(damaged))
    weights = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(2)}, weights)
    with pytest.raises(InputError, match="is not a TorchScript file .*; give another"):
        fid.Features(str(weights))


def test_features_that_fail_later_are_named(tiny_features, tmp_path, bird_folder, capsys):
    from PIL import Image

    (tmp_path / "wide").mkdir()
    Image.new("RGB", (8, 8)).save(
        tmp_path / "wide" / "small.png"
    )  # too small for this network's pooling
    with pytest.raises(InputError, match=r"fails on images of shape \(1, 3, 8, 8\)"):
        command([bird_folder, tmp_path / "wide", "--features", tiny_features])


def test_folders_against_each_other(bird_folder, tiny_features, tmp_path, capsys):
    from PIL import Image

    other = tmp_path / "other" / "below"
    other.mkdir(parents=True)
    for index in range(3):
        Image.new("L", (32 + index // 2, 32), 40 * index).save(other / f"{index}.png")
    command(
        [str(bird_folder), str(other.parent), "--features", str(tiny_features), "--device", "cpu"]
    )
    line = capsys.readouterr().out
    assert line.startswith("FD (tiny.pt) = ") and "20 images" in line and "against 3 of" in line
    command(
        [str(bird_folder), str(bird_folder), "--features", str(tiny_features), "--device", "cpu"]
    )
    assert abs(float(capsys.readouterr().out.split(" = ")[1].split(":")[0])) < 1e-3


def test_a_folders_kid_and_recall_are_of_images_of_every_kind(
    tiny_features, tmp_path, monkeypatch, capsys
):
    """Sorted by kind, and more than are compared: black, then white."""
    from PIL import Image

    for index in range(60):
        path = tmp_path / ("black" if index < 40 else "white") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "black" if index < 40 else "white").save(path)
    kept = []
    monkeypatch.setattr(fid, "COMPARED", 20)
    monkeypatch.setattr(fid, "sample_quality", lambda *sides: kept.extend(sides) or {})
    fid.compare_folders([str(tmp_path)], str(tmp_path), str(tiny_features), None, "cpu")
    assert len(kept) == 2
    for side in kept:
        kinds, counts = side.unique(dim=0, return_counts=True)
        assert len(kinds) == 2 and counts.sum() == 20 and counts.min() >= 3
    assert "FD (tiny.pt) = 0.0000: 60 images" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"not an image"])
def test_unusable_folders_are_refused(bird_folder, tiny_features, tmp_path, content, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    if content:
        (folder / "odd.png").write_bytes(content)
    with pytest.raises(InputError, match="no images in|cannot decode"):
        command([folder, bird_folder, "--features", tiny_features])


def test_kid_equals_clean_fids():
    """Where the subsets are the whole sets, theirs are no longer random."""
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(300, 40)).astype(np.float32) + shift for shift in (0, 0.3))
    ours, deviation = fid.kernel_distance(torch.from_numpy(first), torch.from_numpy(second), 5)
    theirs = cleanfid.fid.kernel_distance(first, second, num_subsets=5)
    assert ours == pytest.approx(theirs, rel=1e-4) and deviation < 1e-5
    # Smaller subsets of larger sets: the same up to their spread, and the same at every call.
    first, second = (np.concatenate([half] * 4) for half in (first, second))
    many = [fid.kernel_distance(*map(torch.from_numpy, (first, second)), size=200) for _ in "12"]
    np.random.seed(0)
    theirs = cleanfid.fid.kernel_distance(first, second, max_subset_size=200)
    assert many[0] == many[1] and many[0][1] > 0
    assert many[0][0] == pytest.approx(theirs, abs=4 * many[0][1] / 10)


def test_kid_does_not_depend_on_the_number_of_samples():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(4000, 20, generator=rng)
    fake = torch.randn(4000, 20, generator=rng) + 0.5
    few, many = (fid.kernel_distance(real, fake[:count])[0] for count in (250, 4000))
    assert few == pytest.approx(many, rel=0.1)
    same, deviation = fid.kernel_distance(real[:2000], real[2000:])
    assert abs(same) < deviation


def test_precision_and_recall_tell_blur_from_missing_kinds():
    rng = torch.Generator().manual_seed(0)
    kinds = 30 * torch.randn(10, 16, generator=rng)

    def draw(count, of):
        picked = torch.randint(of, (count,), generator=rng)
        return kinds[picked] + torch.randn(count, 16, generator=rng)

    real, other = draw(1200, 10), draw(1200, 10)
    assert fid.precision_and_recall(real, real) == (1.0, 1.0)
    precision, recall = fid.precision_and_recall(real, other)  # one half against the other
    assert precision > 0.7 and recall > 0.7
    few = fid.precision_and_recall(real, draw(1200, 3))  # three of ten kinds
    assert few[0] > 0.7 and 0.2 < few[1] < 0.4
    repeated = fid.precision_and_recall(real, real[:20].repeat(60, 1))
    assert repeated[0] == 1.0 and repeated[1] < 0.1
    blurred = fid.precision_and_recall(real, 0.5 * draw(1200, 10))
    assert blurred[0] < 0.1


def test_precision_and_recall_by_hand():
    """On a line: equation (1) counted with a pencil, k = 1."""
    real = torch.tensor([[0.0], [1.0], [10.0]])  # radii 1, 1, 9
    fake = torch.tensor([[1.5], [-1.5], [20.0], [2.5]])  # radii 1, 3, 17.5, 1
    # 1.5 is within 1 of 1, -1.5 and 20 within nothing's, 2.5 within 9 of 10.
    # 0 within 3 of -1.5, 1 within 1 of 1.5, 10 within 17.5 of 20.
    assert fid.precision_and_recall(real, fake, k=1) == (0.5, 1.0)


def test_quality_is_of_the_same_images(birds, tiny_features):
    reference, gen = fid.Reference(birds, fid.Features(tiny_features)), TinyGenerator()
    row, plain = (fid.score(gen, reference, 40, quality=quality) for quality in (True, False))
    assert 0 <= row["precision"] <= 1 and 0 <= row["recall"] <= 1 and row["kid"] > 0
    assert plain == {"score": row["score"]} and "kid" not in plain
    described = fid.describe_quality(row | {"kid_std": 0.25})
    assert "+- 0.2500" in described and fid.describe_quality({}) == ""
    assert "one subset: no deviation" in fid.describe_quality(row | {"kid_std": 0.0})
