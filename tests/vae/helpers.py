"""Short runs, for the tests of whole runs."""

import os
import signal

import pytest
import train
from evaluate import evaluate
from options import get_args

from common import InputError, Interrupted

SHORT = {"latent_size": 4, "batch_size": 10, "eval_interval": 2}


def start(folder, images, *argv, epochs=2, **arguments):
    """A short run by `main`; argv: its other options. Returns the rows without their seconds."""
    argv = ["--log_dir", "run", "--device", "cpu", *map(str, argv)]
    arguments = SHORT | {"num_epochs": epochs} | arguments
    rows = train.main(folder, images=images, options=get_args("", argv), **arguments)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def same(*folders):
    return len({(folder / "model.pt").read_bytes() for folder in folders}) == 1


def refused(words, call, *args, **options):
    """The call raises an InputError with these words (a pattern)."""
    with pytest.raises(InputError, match=words):
        call(*args, **options)


def stopped_after(monkeypatch, steps, call, *arguments, **options):
    """The Interrupted of a call; training steps and validation batches count alike."""
    add, count = train.RunningMeans.add, iter(range(1, 1000))
    signal_there = lambda: next(count) == steps and os.kill(os.getpid(), signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
        patch.setattr(train.RunningMeans, "add", lambda *args: add(*args) or signal_there())
        call(*arguments, **options)
    return stopped.value


def command(*argv):
    """What `python vae/train.py` does."""
    args = get_args("", [*map(str, argv), "--device", "cpu"])
    if args.evaluate:
        evaluate(args, train.get_val_metrics)
    else:
        train.run_presets(args)
