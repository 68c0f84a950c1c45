"""Frechet distances between sets of images (Heusel et al. 2017, arXiv 1706.08500, equation 6).

    python gan/fid.py IMAGES REFERENCE                                FID, Inception features
    python gan/fid.py IMAGES MORE REFERENCE --features FILE.pt        FD in any other features

The Inception numbers are clean-fid's (Parmar et al. 2022, arXiv 2104.11222): its network, its
PIL-like bicubic resizing to 299x299, float images in [0, 255]. Only Inception scores are called
FID; the rest are "FD (FILE)". Every score names its sample count: it falls as the count grows.

Beside a distance stand KID, which does not depend on the count, and precision and recall, which
tell blurred images from missing kinds.
"""

import contextlib
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cleanfid.downloads_helper import inception_url
from cleanfid.inception_torchscript import InceptionV3W
from dataset import decode, find_images
from networks import LATENT_DIM, AnyGenerator, reestimate_statistics
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from common import InputError, NonFiniteError, Parser, first_line
from common import path as path_type
from common.device import resolve_device
from common.files import atomic, digest_of, fetch, fingerprint, is_writable, locked
from common.measure import measuring, progress_bar

INCEPTION_FILE = "inception-2015-12-05.pt"
WEIGHTS_FOLDER = Path(__file__).parent / "datasets"
GENERATOR_BATCH = 256  # batch normalisation in train mode sees this many images, whatever is asked
INCEPTION_SHA256 = "f58cb9b6"  # the first digits of clean-fid's file
ESTIMATE = 128  # batches of 128 latents behind the running statistics of a score
COMPARED = 10_000  # features a side, at most, for KID, precision and recall


def resize_like_pil(images: Tensor, size: int = 299) -> Tensor:
    """Bicubic resizing of (B, C, H, W) in [0, 255], as clean-fid does it image by image with PIL.

    `antialias=True` selects PIL's kernel (a = -0.5, support scaled with the shrinking factor);
    without it the result is off by up to 20 grey levels.
    """
    square = (size, size)
    images = F.interpolate(images, square, mode="bicubic", antialias=True, align_corners=False)
    return images.clamp(0, 255)


class Features:
    """An image embedding: (B, 3, H, W) in [0, 255] -> float64 (B, d).

    `source` is "inception" (clean-fid's InceptionV3 from `weights_folder`, downloaded there when
    missing) or a TorchScript file. `name` is what a distance in these features may be called;
    `key` tells different weights apart. Raises InputError where the network cannot be had.
    """

    def __init__(
        self,
        source: str | Path = "inception",
        device: torch.device | str = "cpu",
        weights_folder: str | Path | None = None,
    ):
        self.device = torch.device(device)
        self.is_inception = source == "inception"
        if self.is_inception:
            path, self.name = inception_weights(weights_folder), "FID"
        else:
            path, self.name = Path(source), f"FD ({Path(source).name})"
        try:
            with warnings.catch_warnings():
                # torch.jit.load is deprecated; the format is what it is.
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                if self.is_inception:
                    network = InceptionV3W(str(path.parent), download=False)
                else:
                    network = torch.jit.load(path, map_location=self.device)
        except (RuntimeError, AttributeError, ValueError) as error:
            again = "delete it, and it is fetched again" if self.is_inception else "give another"
            kind = type(error).__name__
            what = f"is not a TorchScript file ({kind})" if path.is_file() else "is not there"
            raise InputError(f"features: {path} {what}; {again}") from None
        self.network = network.to(self.device).eval()
        digest = digest_of(path, "sha256")
        self.key = f"{path.stem}-{digest[:8]}"
        if self.is_inception and not digest.startswith(INCEPTION_SHA256):
            print(f"{path} is not clean-fid's file: its scores are called FD, not FID")
            self.name = f"FD ({path.name}, another one)"
        probe = self(torch.zeros(2, 3, 32, 32))  # a wrong file is told now, not at the first score
        if probe.ndim != 2 or len(probe) != 2:
            raise InputError(
                f"features: {path} returns shape {tuple(probe.shape)} for 2 images, expected (2, d)"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 255] -> float64 (B, d)."""
        # Small pieces: 256 images at 299x299 would need gigabytes of activations.
        pieces = []
        for piece in images.to(self.device).float().split(64):
            try:
                pieces.append(self.network(resize_like_pil(piece) if self.is_inception else piece))
            except Exception as error:  # whatever a foreign TorchScript program raises
                what = f"fails on images of shape {tuple(piece.shape)} ({first_line(error)})"
                raise InputError(f"features: {self.key} {what}") from None
        features = torch.cat(pieces).double()
        if not torch.isfinite(features).all():
            raise InputError(
                f"features: {self.key} gives NaN or infinite features; give another file"
            )
        return features


def inception_weights(named: str | Path | None = None) -> Path:
    """Path of clean-fid's Inception file in a folder; downloaded whole or not at all."""
    folder = Path(named or WEIGHTS_FOLDER)
    path = folder / INCEPTION_FILE
    if path.is_file():
        return path
    if named and not folder.is_dir():
        raise InputError(
            f"--inception_weights: no folder {folder}; make it, or leave the option out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            if not path.is_file():  # another program may have been there first
                source = {"clean-fid's host": {"url": inception_url}}
                fetch(path, f"sha256:{INCEPTION_SHA256}", source)
    except (OSError, InputError) as error:
        raise InputError(
            f"FID: no {INCEPTION_FILE} in {folder} and no download ({error}); put the file there, "
            "name its folder with --inception_weights, or take another network (--fid FILE.pt; "
            "--features FILE.pt of fid.py) or none (--fid off)"
        ) from None
    return path


def moments(
    features: Iterable[Tensor], first: list[Tensor] | None = None
) -> tuple[Tensor, Tensor, int]:
    """Mean (d,), unbiased covariance (d, d) and count of (B, d) float64 batches.

    `first` is filled with the first COMPARED features in float32, for KID and the like.
    """
    count, total, outer, shift = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for batch in features:
        if count == 0:
            # Sums run around the first batch's mean: nothing large is subtracted at the end.
            shift = batch.mean(0)
        if first is not None and count < COMPARED:
            first.append(batch[: COMPARED - count].float().cpu())
        centred = batch - shift  # (B, d)
        count += len(batch)
        total, outer = total + centred.sum(0), outer + centred.T @ centred
    if count < 2:
        raise InputError(f"a Frechet distance needs at least 2 images on each side, got {count}")
    mean = total / count
    return shift + mean, (outer - count * torch.outer(mean, mean)) / (count - 1), count


def matrix_sqrt(matrix: Tensor) -> Tensor:
    """Square root of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)  # (d,), (d, d)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(
    mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, sqrt_cov1: Tensor | None = None
) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) in float64.

    tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is
    symmetric: no complex square root, and no trouble with fewer samples than features.
    """
    # On the CPU: float64 eigenvalues are slow on most GPUs, and less robust there.
    mean1, cov1, mean2, cov2 = (value.cpu() for value in (mean1, cov1, mean2, cov2))
    sqrt_cov1 = matrix_sqrt(cov1) if sqrt_cov1 is None else sqrt_cov1
    product = sqrt_cov1 @ cov2 @ sqrt_cov1  # (d, d), symmetric but for rounding
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    trace = eigenvalues.clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * trace
    return max(0.0, float(distance))  # rounding may leave less than nothing of equal sets


def kernel_distance(
    first: Tensor, second: Tensor, subsets: int = 100, size: int = 1000
) -> tuple[float, float]:
    """KID of features (N, d) and (M, d): mean and standard deviation over random subsets.

    Binkowski et al. 2018, arXiv 1801.01401: the unbiased squared MMD, its kernel (x.y / d + 1)^3.
    The mean is clean-fid's `kernel_distance`. The same subsets at every call. Of sets no larger
    than a subset there is one subset, the whole, and the deviation is 0.
    """
    first, second = first.float().cpu(), second.float().cpu()
    rng, count = torch.Generator().manual_seed(0), min(len(first), len(second), size)
    values = []
    for _ in range(subsets):
        x, y = (f[torch.randperm(len(f), generator=rng)[:count]] for f in (first, second))
        of_x, of_y, across = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        pairs = of_x.sum() - of_x.trace() + of_y.sum() - of_y.trace()
        # Without i = j, which would bias it, among equals; across the sets all pairs count.
        values.append(pairs / (count * (count - 1)) - 2 * across.mean())
    each = torch.stack(values).double()  # (subsets,)
    whole = count == max(len(first), len(second))  # then the subsets are one and the same
    return each.mean().item(), 0.0 if whole else each.std().item()


def precision_and_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Share of fakes among the real features, and of real ones among the fakes; (N, d), (M, d).

    Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991, equations 1 and 2):
    a point is among others if it is no farther from one of them than that one's k-th neighbour.
    """
    centre = real.float().mean(0)  # distances by products are exact only near 0
    real, fake = (features.float() - centre for features in (real, fake))
    return _share_among(fake, real, k), _share_among(real, fake, k)


def neighbour_distances(points: Tensor, k: int) -> Tensor:
    """(N, d) -> (N,), from each point to its k-th neighbour beside itself."""
    k = min(k, len(points) - 1)
    # k + 1: the nearest is the point itself.
    nearest = [torch.cdist(part, points).kthvalue(k + 1)[0] for part in points.split(1000)]
    return torch.cat(nearest)


def _share_among(points: Tensor, others: Tensor, k: int) -> float:
    radius = neighbour_distances(others, k)  # (M,)
    inside = [(torch.cdist(part, others) <= radius).any(1) for part in points.split(1000)]
    return torch.cat(inside).double().mean().item()


def sample_quality(real: Tensor, fake: Tensor) -> dict[str, float]:
    """KID, its deviation, precision and recall of features (N, d) and (M, d)."""
    kid, kid_std = kernel_distance(real, fake)
    precision, recall = precision_and_recall(real, fake)
    return {"kid": kid, "kid_std": kid_std, "precision": precision, "recall": recall}


class Reference:
    """Statistics of reference images in one feature space, for the scores of generators.

    images: uint8 (N, 3, H, W). They are kept under a name that holds data and features, in the
    first writable one of `folders`. Making one is the preflight: whatever could fail at the first
    score fails here.
    """

    def __init__(self, images: Tensor, features: Features, folders: Sequence[Path] = ()):
        self.features = features
        file_name = f"fid_{fingerprint(images)}_{features.key}.npz"
        found = self._read(folders, file_name) or self._measure(images, folders, file_name)
        self.mean, self.cov, self.real = map(torch.from_numpy, found)  # (d,), (d, d), (N, d)
        self.sqrt_cov = matrix_sqrt(self.cov)

    @staticmethod
    def _read(folders: Sequence[Path], file_name: str) -> tuple[np.ndarray, ...]:
        for folder in folders:
            with contextlib.suppress(Exception):  # missing, or damaged: made again
                with np.load(Path(folder) / file_name) as stored:
                    return stored["mean"], stored["cov"], stored["features"]
        return ()

    def _measure(
        self, images: Tensor, folders: Sequence[Path], file_name: str
    ) -> tuple[np.ndarray, ...]:
        what = f"{self.features.name}: statistics of {len(images)} images"
        # In a fixed random order, so that the first ones, which are kept, are of every kind.
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        batches = progress_bar(order.split(64), desc=what, leave=False)
        first: list[Tensor] = []
        mean, cov, _ = moments((self.features(images[part]) for part in batches), first)
        found = tuple(value.cpu().numpy() for value in (mean, cov, torch.cat(first)))
        # Where none can be written they are measured again the next time.
        for folder in filter(is_writable, folders):
            with contextlib.suppress(OSError), atomic(Path(folder) / file_name) as unfinished:
                np.savez(unfinished, mean=found[0], cov=found[1], features=found[2])
                break
        return found


def score(
    gen: AnyGenerator,
    reference: Reference,
    num_gen: int,
    mode: str = "train",
    seed: int = 0,
    quality: bool = False,
    after_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Distance of `num_gen` images of `gen` from the reference, always from the seed's latents.

    mode: "train" normalises by the statistics of each batch, as every published number of this
    assignment did; "eval" by the running ones. quality: also `sample_quality`, of the same images.
    The generator's mode and buffers are as before afterwards. `after_batch` may raise to stop.
    Raises NonFiniteError before a broken image reaches the feature network.
    """
    features, batch = reference.features, GENERATOR_BATCH

    def batches() -> Iterator[Tensor]:
        rng = torch.Generator().manual_seed(seed + 1)  # not the latents of training
        what = f"{features.name} of {num_gen}"
        for start in progress_bar(range(0, num_gen, batch), desc=what, leave=False):
            z = torch.randn(batch, LATENT_DIM, generator=rng).to(device)  # the same on every device
            # A whole batch also at the end: its statistics normalise it.
            images = gen.forward_given_samples(z)[: num_gen - start]
            images = images.add(1).mul(127.5)  # (B, 3, 32, 32) in [0, 255], not rounded
            if not torch.isfinite(images).all():
                raise NonFiniteError(
                    "the generator makes NaN or infinite images; they cannot be scored"
                )
            yield features(images)
            after_batch()

    first: list[Tensor] = []
    with measuring(gen, train=mode == "train") as device:
        if mode == "eval":
            reestimate_statistics(gen, ESTIMATE)
        mean, cov, _ = moments(batches(), first if quality else None)
    distance = frechet_distance(reference.mean, reference.cov, mean, cov, reference.sqrt_cov)
    row = {"score": distance}
    return row | (sample_quality(reference.real, torch.cat(first)) if quality else {})


def image_batches(files: Sequence[Path], size: int = 64) -> Iterator[Tensor]:
    """uint8 batches (B, 3, H, W) of these images; neighbours of one size together."""
    batch: list[Tensor] = []
    for path in progress_bar(files, desc="images", leave=False):
        pixels = pil_to_tensor(decode(path)[0])
        if batch and (len(batch) == size or batch[0].shape != pixels.shape):
            yield torch.stack(batch)
            batch = []
        batch.append(pixels)
    yield torch.stack(batch)


def compare_folders(
    images: Sequence[str],
    reference: str,
    features: str = "inception",
    inception_weights: str | None = None,
    device: str | None = None,
) -> None:
    """Print the scores of folders of images against another one."""
    folders = (reference, *images)
    files = [find_images(folder, deep=True) for folder in folders]  # before a network is loaded
    network = Features(features, resolve_device(device), inception_weights)
    real: tuple = ()
    for folder, paths in zip(folders, files, strict=True):
        first: list[Tensor] = []
        # In a fixed random order, so that the first ones, which are kept, are of every kind.
        mixed = random.Random(0).sample(paths, len(paths))
        found = *moments(map(network, image_batches(mixed)), first), torch.cat(first)
        if not real:
            real = found
            continue
        distance = frechet_distance(*found[:2], *real[:2])
        print(
            f"{network.name} = {distance:.4f}: {found[2]} images of {folder} "
            f"against {real[2]} of {reference}, {network.key}"
        )
        print(describe_quality(sample_quality(real[3], found[3])), flush=True)


def describe_quality(row: dict) -> str:
    """KID, precision and recall for people; empty where they were not measured."""
    if "kid" not in row:
        return ""
    spread = f"+- {row['kid_std']:.4f}" if row["kid_std"] else "(one subset: no deviation)"
    return (
        f"KID = {row['kid']:.4f} {spread}, "
        f"precision {row['precision']:.3f}, recall {row['recall']:.3f}"
    )


if __name__ == "__main__":
    parser = Parser(__doc__)
    add = parser.add_argument
    add("images", nargs="+", type=path_type, help="folders to score, searched to any depth")
    add("reference", type=path_type, help="folder of images to score against")
    network = "inception (default) or a TorchScript file: a program, which is run"
    add("--features", metavar="FILE", help=network)
    holder = "folder that holds inception-2015-12-05.pt"
    add("--inception_weights", type=path_type, metavar="FOLDER", help=holder)
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    compare_folders(**parser.parse_given())
