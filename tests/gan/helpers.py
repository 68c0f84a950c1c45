"""Tiny networks, and short runs that are started as the scripts start them."""

import csv
import os
import signal
import warnings

import pytest
import q1_5
import torch
import train
from tiny import TinyDiscriminator, TinyFeatures, TinyGenerator  # noqa: F401
from torch import nn
from utils import get_args

from common import Interrupted

TINY = TinyGenerator, TinyDiscriminator
DEFAULTS = {"--fid": "off", "--batch_size": "4", "--log_period": "3", "--num_iterations": "7"}


def start(folder, images, *argv, question=q1_5, networks=TINY, **more):
    """A short run into `folder`, by its command line; returns all weights at its end."""
    argv = [*map(str, argv)]
    if "--resume" not in argv:
        argv += [w for pair in DEFAULTS.items() if pair[0] not in argv for w in pair]
    args = get_args("", ["--out_dir", str(folder), *argv])
    torch.manual_seed(args.seed)
    gen, disc = (network() for network in networks)
    train.train_model(
        gen,
        disc,
        num_iterations=args.num_iterations,
        batch_size=args.batch_size,
        lamb=args.lamb,
        prefix=args.prefix,
        gen_loss_fn=question.compute_generator_loss,
        disc_loss_fn=question.compute_discriminator_loss,
        log_period=args.log_period,
        amp_enabled=not args.disable_amp,
        options=args,
        images=images,
        **more,
    )
    return {f"{net}.{n}": v for net in ("generator", "discriminator") for n, v in load(folder, net)}


def load(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True).items()


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


def files(folder):
    return {path.name for path in folder.iterdir() if "tfevents" not in path.name}


def same(weights1, weights2):
    return weights1.keys() == weights2.keys() and all(
        torch.equal(value, weights2[name]) for name, value in weights1.items()
    )


def signal_at(monkeypatch, iteration, number=signal.SIGTERM):
    """The signal arrives in the discriminator step of this iteration, counted from 1 here."""
    step, count = train.discriminator_step, iter(range(1, 10**6))

    def step_and_signal(*args):
        if next(count) == iteration:
            os.kill(os.getpid(), number)
        return step(*args)

    monkeypatch.setattr(train, "discriminator_step", step_and_signal)


def stopped_at(monkeypatch, iteration, *arguments, number=signal.SIGTERM, **options):
    """The Interrupted of a run that is stopped there."""
    with monkeypatch.context() as patch:
        signal_at(patch, iteration, number)
        with pytest.raises(Interrupted) as stopped:
            start(*arguments, **options)
    return stopped.value


class TinyInception(nn.Module):
    """The interface of clean-fid's file: `.layers` maps (B, 3, 299, 299) to (B, 2048)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(768, 2048))

    def forward(self, x):
        return self.layers(x)


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))
    return path
