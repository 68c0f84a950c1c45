"""Tiny networks, and short runs that are started as the scripts start them."""

import csv
import os
import signal

import pytest
import q1_5
import torch
import train
from tiny import TinyDiscriminator, TinyGenerator
from utils import get_args

from common import InputError, Interrupted

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
    names = ("num_iterations", "batch_size", "lamb", "prefix", "log_period")
    how = {name: getattr(args, name) for name in names} | {"amp_enabled": not args.disable_amp}
    how["gen_loss_fn"] = question.compute_generator_loss
    how["disc_loss_fn"] = question.compute_discriminator_loss
    train.train_model(gen, disc, options=args, images=images, **how, **more)
    return {f"{net}.{n}": v for net in ("generator", "discriminator") for n, v in load(folder, net)}


def load(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True).items()


def rows(folder):
    table = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table]


def files(folder):
    return {path.name for path in folder.iterdir() if "tfevents" not in path.name}


def same(one, other):
    return one.keys() == other.keys() and all(map(torch.equal, one.values(), other.values()))


def refused(words, call, *args, **options):
    """The call raises an InputError with these words (a pattern)."""
    with pytest.raises(InputError, match=words):
        call(*args, **options)


def signal_at(monkeypatch, iteration, number=signal.SIGTERM):
    """The signal arrives in the discriminator step of this iteration, counted from 1 here."""
    step, count = train.discriminator_step, iter(range(1, 10**6))
    stop = lambda *args: next(count) == iteration and os.kill(os.getpid(), number) or step(*args)
    monkeypatch.setattr(train, "discriminator_step", stop)


def stopped_at(monkeypatch, iteration, *arguments, number=signal.SIGTERM, **options):
    """The Interrupted of a run that is stopped there."""
    with monkeypatch.context() as patch:
        signal_at(patch, iteration, number)
        with pytest.raises(Interrupted) as stopped:
            start(*arguments, **options)
    return stopped.value
