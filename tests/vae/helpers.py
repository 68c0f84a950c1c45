"""Short runs, for the tests of whole runs."""

import inspect
import os
import signal

import pytest
import torch
import train
from settings import Settings, get_args


def start(folder, images, epochs=2, **options):
    """A short run by `main`; options that it does not take itself go into the settings."""
    short = {"latent_size": 4, "batch_size": 10, "device": "cpu", "eval_interval": 2}
    own = inspect.signature(train.main).parameters
    doors = short | {name: value for name, value in options.items() if name in own}
    more = {name: value for name, value in options.items() if name not in own}
    more = Settings(**more, loss_mode=options.get("loss_mode", "vae")) if more else Settings()
    rows = train.main(folder, num_epochs=epochs, images=images, settings=more, **doors)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def same(folder1, folder2):
    first, second = weights(folder1), weights(folder2)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def interrupt_after(monkeypatch, steps, number=signal.SIGTERM):
    add, count = train.RunningMeans.add, iter(range(1, 1000))

    def add_and_signal(self, *args):
        add(self, *args)
        if next(count) == steps:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(train.RunningMeans, "add", add_and_signal)


def command(*argv):
    with train.exit_codes():
        args = get_args(argv=[*argv, "--device", "cpu"])
        train.evaluate(args) if args.evaluate else train.run_all(args)


def assert_refused(argv, message, folder, capsys):
    """One line on stderr with `message` in it, exit code 2, and nothing written."""
    with pytest.raises(SystemExit) as stop:
        command(*argv, "--out_dir", str(folder / "out"))
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not (folder / "out").exists()
