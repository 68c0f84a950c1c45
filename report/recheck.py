"""A run's numbers measured again from its weights.

This project's own commands are started as processes of their own, on copies: nothing is imported
from gan/ and vae/, nothing is written to a hand-in, and nothing is downloaded. A model's numbers
are measured by this project's code, with the networks of the assignment.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from run_folder import Run, numbered

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIRDS, CIFAR10 = ROOT / "gan/datasets/CUB_200_2011_32", ROOT / "vae/data/cifar-10-batches-py"
OFF = 0.005  # share of a number by which another machine's may differ
SCRIPTS = {"q1_3": "gan/q1_3.py", "q1_4": "gan/q1_4.py", "mlp_gan": "gan/mlp_gan.py"}


class NotMeasured(Exception):
    """A number cannot be measured again here; the message says why."""


@dataclass(frozen=True)
class Places:
    """Where data and feature networks are here, and where their statistics may be kept.

    A network of a hand-in's own is a program, and is not run: `fid` names one that is trusted.
    """

    cache: Path
    birds: str | None = None
    cifar10: str | None = None
    fid: str | None = None
    inception_weights: str | None = None


@dataclass(frozen=True)
class Measured:
    """A number of a run's log, and the same from its weights."""

    weights: str
    before: float
    now: float

    @property
    def off(self) -> float:
        """By what share they differ."""
        return abs(self.now / self.before - 1) if self.before else abs(self.now)

    def __str__(self) -> str:
        found = f"measured again from {self.weights}: {self.now:.2f}"
        return found + (f", {self.off:.1%} off {self.before:.2f}" if self.off > OFF else "")


def measure_again(run: Run, row: dict, places: Places) -> Measured:
    """The number of a row of a run's log from its saved weights; NotMeasured where it cannot be."""
    if run.kind == "ddpm":
        raise NotMeasured("a diffusion model's loss is not measured again")
    weights, step, picture, measure = {
        "gan": ("generator.pt", "iteration", "samples_*.png", _gan),
        "vae": ("model.pt", "epoch", "epoch_*_samples.png", _vae),
    }[run.kind]
    if not (run.folder / weights).is_file():
        raise NotMeasured(f"no {weights} to measure again")
    drawn = numbered(run.folder, picture)  # together with the weights
    if not row or (drawn and drawn[-1][0] != row[step]):
        of = f"{step} {drawn[-1][0]:,}" if drawn else "no log line"
        raise NotMeasured(f"not measured again: {weights} is of {of}")
    with tempfile.TemporaryDirectory() as place:  # --evaluate writes beside the weights
        copy = Path(place)
        try:
            own = (run.folder / weights, run.folder / "config.json")
            for path in (*own, *places.cache.glob("*.npz")):
                shutil.copy(path, copy)
            measured = Measured(weights, *measure(run, row, copy, places))
            # Statistics of the reference take minutes: measured once for a class.
            for path in copy.glob("*.npz"):
                shutil.copy(path, places.cache)
        except OSError as error:
            raise NotMeasured(f"not measured again: {error}") from None
    return measured


def _gan(run: Run, row: dict, copy: Path, places: Places) -> tuple[float, float]:
    if "score" not in row:
        raise NotMeasured("no score to measure again")
    if row["score_name"] == "FID":
        if not places.inception_weights:
            raise NotMeasured("not measured again: give --inception_weights FOLDER")
        features = ["--fid", "inception", "--inception_weights", places.inception_weights]
    elif places.fid:
        features = ["--fid", places.fid]
    else:
        raise NotMeasured(f"not measured again: give --fid FILE, the network of {row['features']}")
    score = _evaluate(
        ROOT / SCRIPTS.get(run.config["loss"], "gan/q1_5.py"),
        copy,
        *_data_options(run, places.birds, BIRDS, "cub", "--birds"),
        *features,
        *("--fid_mode", row["fid_mode"], "--num_gen", "2", str(row["num_gen"])),
    )
    # A file of the same name may hold other weights; the key has their digest.
    if score["features"] != row["features"]:
        raise NotMeasured(f"its features were {row['features']}, here are {score['features']}")
    return row["score"], score["score"]


def _vae(run: Run, row: dict, copy: Path, places: Places) -> tuple[float, float]:
    data = _data_options(run, places.cifar10, CIFAR10, "cifar10", "--cifar10")
    score = _evaluate(ROOT / "vae/train.py", copy, *data)
    return row["val_recon_loss"], score["val_recon_loss"]


def _data_options(
    run: Run, given: str | None, default: Path, name: str, option: str
) -> Sequence[str]:
    """What --evaluate is told of the data; a grading does not begin with a download."""
    if run.config["dataset"] != name:
        return ()
    recorded = run.config.get("data_dir")
    place = Path(given or (recorded if isinstance(recorded, str) else default))
    if not given and (run.folder / place).exists():  # recorded as seen from the run's folder
        place = run.folder / place
    if not place.exists():  # and no download: a grading has no time for one
        raise NotMeasured(f"its data ({place}) are not here; give {option} FOLDER")
    return "--data_dir", str(place)


def _evaluate(script: Path, copy: Path, *options: str) -> dict:
    """The JSON that --evaluate leaves in the copy of a run."""
    done = _start(script, "--evaluate", copy, *options)
    results = list(copy.glob("*_score*.json"))  # the copy had none before
    if done.returncode or len(results) != 1:
        raise NotMeasured(
            f"not measured again: {_last_line(done).replace(str(copy), 'its folder')}"
        )
    return json.loads(results[0].read_text())


def _start(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )


def _last_line(done: subprocess.CompletedProcess) -> str:
    return (done.stderr.strip().splitlines() or ["no result"])[-1]
