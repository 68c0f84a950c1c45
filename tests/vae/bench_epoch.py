"""Seconds per training epoch of our loop and of a plain one, side by side in one run; peak memory.

    python tests/vae/bench_epoch.py --data_dir ../shared/datasets [--steps 20] [--rounds 3]

The plain loop is the usual hand-in: a DataLoader with two workers, ToTensor and Normalize for each
image, float32, contiguous tensors, unfused Adam, three `.item()` a step. Each round times `steps`
batches of 256 in both loops in turns, each in a process of its own; an epoch has 196.
"""

import argparse
import itertools
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vae"))
import train
from dataset import Batches, load_cifar10
from model import AEModel

from common.device import autocast_dtype, choose_precision, prepare
from common.measure import RunningMeans


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images.permute(0, 2, 3, 1).numpy()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), 0


def plain_loop(images):
    model = AEModel(True, 1024)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(
        Images(images), 256, shuffle=True, num_workers=2, persistent_workers=True
    )
    while True:
        for x, _ in loader:
            loss, terms = train.vae_loss(model, x)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
            optimizer.step()
            loss.item(), terms["recon_loss"].item(), terms["kl_loss"].item()
            yield


def our_loop(images, steps):
    precision = choose_precision(torch.device("cpu"), amp_enabled=True)
    prepare(precision)
    torch.manual_seed(0)
    model = AEModel(True, 1024).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    loader = Batches(images, 256, "cpu", torch.Generator().manual_seed(0))
    means = RunningMeans(torch.device("cpu"))
    while True:
        few = itertools.islice(loader, steps)
        train.run_train_epoch(model, "vae", few, optimizer, precision=precision, means=means)
        yield


def arithmetic(data_dir, threads):
    """(GFLOP of one training step, GFLOP/s of plain matrix products in its number format)."""
    torch.set_num_threads(threads)
    images, _ = load_cifar10(data_dir, download=False)
    loop = our_loop(images[:256], 1)
    next(loop)
    with FlopCounterMode(display=False) as counter:
        next(loop)
    a = torch.randn(2048, 2048, dtype=autocast_dtype(torch.device("cpu")) or torch.float32)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return counter.get_total_flops() / 1e9, 2 * 2048**3 / statistics.median(times) / 1e9


def worker(name, data_dir, steps, threads, connection):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images, _ = load_cifar10(data_dir, download=False)
    loop = plain_loop(images) if name == "plain" else our_loop(images, steps)
    while connection.recv():
        start = time.perf_counter()
        for _ in range(steps if name == "plain" else 1):
            next(loop)
        seconds = time.perf_counter() - start
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        connection.send((seconds * 196 / steps, own))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ends = {}
    for name in ("plain", "ours"):
        ends[name], other_end = spawn.Pipe()
        spawn.Process(
            target=worker, args=(name, args.data_dir, args.steps, args.threads, other_end)
        ).start()
    times, memory = {name: [] for name in ends}, {}
    for number in range(args.rounds + 1):  # in turns; the first round warms up
        for name, end in ends.items():
            end.send(True)
            seconds, memory[name] = end.recv()
            if number:
                times[name].append(seconds)
    for end in ends.values():
        end.send(False)
    median = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"torch {torch.__version__}, vae_latent1024, batch 256, {args.threads} threads, "
        f"median of {args.rounds}"
    )
    print(
        f"seconds per training epoch: plain {median['plain']:.1f}, ours {median['ours']:.1f}, "
        f"{median['plain'] / median['ours']:.1f}x"
    )
    step, peak = arithmetic(args.data_dir, args.threads)
    print(
        f"arithmetic: {step:.1f} GFLOP a step, ours {step * 196 / median['ours']:.0f} GFLOP/s "
        "over an epoch; "
        f"plain matrix products reach {peak:.0f} GFLOP/s"
    )
    print(
        f"peak memory of the process (without DataLoader workers): plain {memory['plain']:.2f} GiB"
        f", ours {memory['ours']:.2f} GiB"
    )


if __name__ == "__main__":
    main()
