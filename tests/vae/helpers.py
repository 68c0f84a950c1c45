"""Short runs, for the tests of whole runs."""

import os
import signal

import pytest
import torch
import train
from evaluate import evaluate
from options import get_args
from run_presets import run_presets

from common import Interrupted

SHORT = {"latent_size": 4, "batch_size": 10, "eval_interval": 2}


def start(folder, images, *argv, epochs=2, **arguments):
    """A short run by `main`; argv: its other options. Returns the rows without their seconds."""
    argv = ["--log_dir", "run", "--device", "cpu", *map(str, argv)]
    arguments = SHORT | {"num_epochs": epochs} | arguments
    rows = train.main(folder, images=images, options=get_args("", argv), **arguments)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def same(folder1, folder2):
    first, second = weights(folder1), weights(folder2)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def stopped_after(monkeypatch, steps, call, *arguments, **options):
    """The Interrupted of a call; training steps and validation batches count alike."""
    add, count = train.RunningMeans.add, iter(range(1, 1000))

    def add_and_signal(self, *args):
        add(self, *args)
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train.RunningMeans, "add", add_and_signal)
        with pytest.raises(Interrupted) as stopped:
            call(*arguments, **options)
    return stopped.value


def command(*argv):
    """What `python vae/train.py` does."""
    args = get_args("", [*map(str, argv), *([] if "--device" in argv else ["--device", "cpu"])])
    if args.evaluate:
        evaluate(args, train.get_val_metrics)
    else:
        run_presets(args, train.main)
