"""What a hand-in's numbers rest on: its code tried, its scores measured again from its weights.

Both start this project's own commands as processes of their own, on copies: nothing is imported
from gan/ and vae/, and nothing is written to a hand-in. A model's numbers are measured by this
project's code, with the networks of the assignment.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from run_folder import Run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIRDS, CIFAR10 = ROOT / "gan/datasets/CUB_200_2011_32", ROOT / "vae/data/cifar-10-batches-py"
OFF = 0.005  # share of a number by which another machine's may differ
SCRIPTS = {"q1_3": "gan/q1_3.py", "q1_4": "gan/q1_4.py", "mlp_gan": "gan/mlp_gan.py"}


class NotMeasured(Exception):
    """A number cannot be measured again here; the message says why."""


@dataclass(frozen=True)
class Places:
    """Where data and feature networks are here, where the runs' own words do not lead to them."""

    birds: str | None = None
    cifar10: str | None = None
    fid: str | None = None


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


def check_code(folder: Path) -> list[dict]:
    """The rows of check.py for a hand-in; none where there is no code."""
    with tempfile.TemporaryDirectory() as place:
        rows = Path(place, "rows.json")
        _start(HERE / "check.py", folder.resolve(), "--json", rows)
        return json.loads(rows.read_text()) if rows.is_file() else []


def measure_again(run: Run, places: Places) -> Measured:
    """The score or reconstruction loss of a run's saved weights; NotMeasured where it cannot be."""
    if run.kind == "ddpm":
        raise NotMeasured("a diffusion model's loss is not measured again")
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        measure = _gan if run.kind == "gan" else _vae
        weights = "generator.pt" if run.kind == "gan" else "model.pt"
        if not (run.folder / weights).is_file():
            raise NotMeasured(f"no {weights} to measure again")
        for name in (weights, "config.json"):
            shutil.copy(run.folder / name, copy)
        return Measured(weights, *measure(run, copy, places))


def _gan(run: Run, copy: Path, places: Places) -> tuple[float, float]:
    row = run.scored[-1] if run.scored else {}
    if not row:
        raise NotMeasured("no score to measure again")
    data = _data_options(run, places.birds, BIRDS, "cub", "--birds")
    fid, recorded = places.fid, run.config.get("fid")
    if fid is None and row["score_name"] != "FID" and not Path(recorded or "").is_file():
        raise NotMeasured(f"its features ({recorded}) are not here; give --fid FILE")
    score = _evaluate(
        ROOT / SCRIPTS.get(run.config["loss"], "gan/q1_5.py"),
        copy,
        *data,
        *(("--fid", fid) if fid and row["score_name"] != "FID" else ()),
        *("--fid_mode", row["fid_mode"], "--num_gen", "2", str(row["num_gen"])),
    )
    if score["features"] != row["features"]:
        raise NotMeasured(f"its features were {row['features']}, here are {score['features']}")
    return row["score"], score["score"]


def _vae(run: Run, copy: Path, places: Places) -> tuple[float, float]:
    interval = run.config.get("eval_interval", 1)
    saved = [r for r in run.rows if (r["epoch"] + 1) % interval == 0]  # with their weights
    if run.rows and run.rows[-1]["epoch"] + 1 == run.config["num_epochs"]:
        saved.append(run.rows[-1])
    if not saved:
        raise NotMeasured("no epoch whose weights were saved")
    data = _data_options(run, places.cifar10, CIFAR10, "cifar10", "--cifar10")
    score = _evaluate(ROOT / "vae/train.py", copy, *data)
    return saved[-1]["val_recon_loss"], score["val_recon_loss"]


def _data_options(
    run: Run, given: str | None, default: Path, name: str, option: str
) -> Sequence[str]:
    """What --evaluate is told of the data; a grading does not begin with a download."""
    if run.config["dataset"] != name:
        return ()
    recorded = run.config.get("data_dir")
    place = Path(given or recorded or default)
    if not place.exists():
        raise NotMeasured(f"its data ({place}) are not here; give {option} FOLDER")
    return "--data_dir", str(place)


def _evaluate(script: Path, copy: Path, *options: str) -> dict:
    """The JSON that --evaluate leaves in the copy of a run."""
    done = _start(script, "--evaluate", copy, *options)
    results = list(copy.glob("*_score*.json"))
    if done.returncode or len(results) != 1:
        last = (done.stderr.strip().splitlines() or ["no result"])[-1]
        raise NotMeasured(f"not measured again: {last.replace(str(copy), 'its folder')}")
    return json.loads(results[0].read_text())


def _start(*command: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )
