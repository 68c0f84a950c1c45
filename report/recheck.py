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
from dataclasses import dataclass
from pathlib import Path

from run_folder import Run, numbered

ROOT = Path(__file__).resolve().parents[1]
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


def measure_again(run: Run, row: dict, places: Places) -> tuple[float, str]:
    """How far the number of a row of a run's log is off what its saved weights give, and that.

    NotMeasured where there is no such number here.
    """
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
            before, now = measure(run, row, copy, places)
            # Statistics of the reference take minutes: measured once for a class.
            for path in copy.glob("*.npz"):
                shutil.copy(path, places.cache)
        except OSError as error:
            raise NotMeasured(f"not measured again: {error}") from None
    off = abs(now / before - 1) if before else abs(now)
    note = f"measured again from {weights}: {now:.2f}"
    return off, note + (f", {off:.1%} off {before:.2f}" if off > OFF else "")


def _gan(run: Run, row: dict, copy: Path, places: Places) -> tuple[float, float]:
    if "score" not in row:
        raise NotMeasured("no score to measure again")
    if row["score_name"] == "FID":
        features = ["inception", "--inception_weights", places.inception_weights]
        option = "--inception_weights FOLDER"
    else:
        features, option = [places.fid], f"--fid FILE, the network of {row['features']}"
    if not features[-1]:
        raise NotMeasured(f"not measured again: give {option}")
    data = _data(run, places.birds, "cub", "gan/datasets/CUB_200_2011_32", "--birds")
    options = ["--fid_mode", row["fid_mode"], "--num_gen", "2", str(row["num_gen"]), *data]
    script = SCRIPTS.get(run.config["loss"], "gan/q1_5.py")
    score = _evaluate(script, copy, "--fid", *features, *options)
    # A file of the same name may hold other weights; the key has their digest.
    if score["features"] != row["features"]:
        raise NotMeasured(f"its features were {row['features']}, here are {score['features']}")
    return row["score"], score["score"]


def _vae(run: Run, row: dict, copy: Path, places: Places) -> tuple[float, float]:
    default = "vae/data/cifar-10-batches-py"
    data = _data(run, places.cifar10, "cifar10", default, "--cifar10")
    return row["val_recon_loss"], _evaluate("vae/train.py", copy, *data)["val_recon_loss"]


def _data(run: Run, given: str | None, name: str, default: str, option: str) -> list[str]:
    """What --evaluate is told of the data; a grading does not begin with a download."""
    if run.config["dataset"] != name:
        return []
    recorded = run.config.get("data_dir")
    place = Path(given or (recorded if isinstance(recorded, str) else ROOT / default))
    if not given and (run.folder / place).exists():  # recorded as seen from the run's folder
        place = run.folder / place
    if not place.exists():
        raise NotMeasured(f"its data ({place}) are not here; give {option} FOLDER")
    return ["--data_dir", str(place)]


def _evaluate(script: str, copy: Path, *options: str | None) -> dict:
    """The JSON that --evaluate leaves in the copy of a run."""
    done = _start(ROOT / script, "--evaluate", copy, *options)
    results = list(copy.glob("*_score*.json"))  # the copy had none before
    if done.returncode or len(results) != 1:
        told = (done.stderr.strip().splitlines() or ["no result"])[-1]
        raise NotMeasured(f"not measured again: {told.replace(str(copy), 'its folder')}")
    return json.loads(results[0].read_text())


def _start(*command: object) -> subprocess.CompletedProcess:
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False)
