"""What the commands of report/ share: run folders, checked while they are read; files; options."""

import argparse
import contextlib
import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

RUNS = Path(__file__).resolve().parent / "runs"


class OneLineParser(argparse.ArgumentParser):
    """Keeps the line breaks of its description; an error is one line, and exit code 2."""

    def __init__(self, description: str | None):
        how = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=how, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say it and end."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def some_path(text: str) -> str:
    """An argparse type: not empty, as an unset variable of a shell would be."""
    if not text:
        raise argparse.ArgumentTypeError("got an empty path")
    return text


class RunError(ValueError):
    """A run folder that cannot be used: one line saying what, got, expected, how to mend."""


def damaged(what: str) -> RunError:
    """The error for a file that is not as the run wrote it."""
    return RunError(f"{what}; restore the file that the run wrote")


@dataclass(frozen=True)
class Run:
    """One training run. `rows` are its log lines as dicts, without the cells that are empty."""

    folder: Path
    kind: str  # "gan", "vae" or "ddpm"
    config: dict
    rows: list

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.name

    @property
    def log(self) -> list[dict]:
        """The rows of the curves: no score at the end of a GAN run, no stop on the way."""
        rows = [row for row in self.rows if row.get("kind", "log") == "log"]
        # A run that was stopped and ended elsewhere may have a line between two periods.
        period = self.config.get("log_period") or 1
        return [r for r in rows if r.get("iteration", 0) % period == 0 or r is rows[-1]]

    @property
    def steps(self) -> int:
        """Iterations or epochs done."""
        last = self.log[-1] if self.log else {}
        return last.get("iteration", last.get("epoch", -1) + 1)

    @property
    def scored(self) -> list[dict]:
        """The rows of a GAN run whose scores compare with its last one, "final" ones included."""
        rows = [row for row in self.rows if "score" in row]
        # A resumed run may have changed the network that scores.
        return [
            row
            for row in rows
            if all(row[key] == rows[-1][key] for key in ("score_name", "features", "fid_mode"))
        ]

    def score_curve(self, name: str = "score") -> tuple[dict, str]:
        """({iteration: score}, what was measured) of the log lines that compare with the last.

        name: "score_ema" for those of the average of the weights.
        """
        kept = [id(row) for row in self.log]
        rows = [row for row in self.scored if id(row) in kept]
        # A distance falls as the samples get more: one count a curve.
        rows = [row for row in rows if row["num_gen"] == rows[-1]["num_gen"]]
        measure = f"{rows[-1]['score_name']}, {rows[-1]['num_gen']:,} samples" if rows else ""
        return {row["iteration"]: row[name] for row in rows if name in row}, measure

    def column(self, name: str) -> tuple[list, list]:
        """(steps, values) of the log lines that have a value there."""
        step = "iteration" if self.kind == "gan" else "epoch"
        rows = [row for row in self.log if name in row]
        return [row[step] for row in rows], [row[name] for row in rows]


# Settings that make a run another than the assignment's; an older config.json lacks them.
OF_THE_ASSIGNMENT: dict[str, dict] = {
    "gan": {
        **{"generator_every": 5, "networks": ["Generator", "Discriminator"]},
        "optimizers": "train.get_optimizers_and_schedulers",
    },
    "vae": {"flows": 0, "free_bits": 0, "network": "assignment"},
    "ddpm": {"predict": "noise"},
}
# What is read of each file: column or key -> type. The first column is the step; "?" may be empty.
LOSSES = ("discriminator_loss", "generator_loss", "real_score", "fake_score")
QUALITY = ("kid", "kid_std", "precision", "recall")
GAN_COLUMNS: dict[str, Any] = {"iteration": int, "kind": str, "seconds": float, "num_gen": "int?"}
GAN_COLUMNS |= dict.fromkeys((*LOSSES, "gradient_penalty", "score", "score_ema"), "float?")
GAN_COLUMNS |= dict.fromkeys(QUALITY, "float?")
GAN_COLUMNS |= dict.fromkeys(("score_name", "fid_mode", "features"), "str?")
DDPM_COLUMNS: dict[str, Any] = {
    "epoch": int,
    "train_loss": float,
    "val_loss": float,
    "seconds": float,
}
VAE_COLUMNS = DDPM_COLUMNS | dict.fromkeys(("train_recon_loss", "val_recon_loss"), "float?")
VAE_COLUMNS |= {
    "beta": float,
    "train_kl_loss": "float?",
    "val_kl_loss": "float?",
    "active_latents": "int?",
}
SAMPLER_COLUMNS: dict[str, Any] = {
    "sampler": str,
    "steps": int,
    "until": "int?",
    "eta": float,
    "images": int,
}
SAMPLER_COLUMNS |= {"seconds": float, "score": float, "score_name": str, "kid": "float?"}
SAMPLER_COLUMNS |= {"saturated": "float?"}
# Older files lack them.
OPTIONAL_COLUMNS = {"active_latents", "score_ema", *QUALITY, "until", "saturated"}
# Not in the logs of a loss of one's own.
OPTIONAL_COLUMNS |= {f"{part}_{term}_loss" for part in ("train", "val") for term in ("recon", "kl")}
NUMBER = (int, float)
KEYS: dict[str, Any] = {"batch_size": int, "seed": int, "dataset": str, "number_format": str}
GAN_KEYS = KEYS | {"loss": str, "lamb": NUMBER, "num_iterations": int, "images": int}
DDPM_KEYS = KEYS | {"model": str, "lr": NUMBER, "num_epochs": int, "images": list}
VAE_KEYS = KEYS | {"loss_mode": str, "beta_mode": str, "latent_size": int, "lr": NUMBER}
VAE_KEYS |= {"target_beta_val": NUMBER, "grad_clip": NUMBER, "num_epochs": int, "images": list}
# kind of run -> the key of config.json that tells it, and what is read
KINDS: dict[str, tuple[str, dict, dict]] = {
    "gan": ("loss", GAN_KEYS, GAN_COLUMNS),
    "vae": ("loss_mode", VAE_KEYS, VAE_COLUMNS),
    "ddpm": ("model", DDPM_KEYS, DDPM_COLUMNS),
}
MAY_BE_NEGATIVE = {
    *(*LOSSES, "train_loss", "train_kl_loss", "val_loss", "val_kl_loss"),
    "kid",  # unbiased, so around 0 for equal sets
}


def find_runs(paths: Sequence) -> list[Path]:
    """Run folders among `paths` and below them at any depth, in order; other things are left alone.

    Raises RunError for a path that does not exist, and where there is no run at all.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise RunError(f"{path}: no such folder; give run folders, or a folder of run folders")
        found = [Path(place) for place in folders_below(path) if is_run(Path(place))]
        folders += [folder for folder in found if folder not in folders]
    if not folders:
        raise RunError(
            f"{', '.join(map(str, paths))}: no run in it, "
            "expected config.json and metrics.csv there or below"
        )
    return folders


def folders_below(path: Path | str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The folder and those below it, sorted, without hidden ones; through links, but not around."""
    real = os.path.realpath(path)
    if real in above:  # a link leads back
        return
    yield str(path)
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        names = sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
        for name in names:
            yield from folders_below(os.path.join(path, name), (*above, real))


def is_run(path: Path) -> bool:
    """Whether a run left its files there."""
    return path.is_dir() and ((path / "config.json").exists() or (path / "metrics.csv").exists())


def read_run(folder: Path | str) -> Run:
    """The run in `folder`. Raises RunError for a missing, damaged or tampered file."""
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    kind = next(kind for kind, (key, _, _) in KINDS.items() if key in config)
    # What an older program did not record was as the assignment says.
    config = OF_THE_ASSIGNMENT[kind] | config
    _, keys, columns = KINDS[kind]
    for key, type_ in keys.items():
        # To Python True is a number.
        if not isinstance(config.get(key), type_) or isinstance(config[key], bool):
            raise damaged(f"{folder / 'config.json'}: {key} is {config.get(key)!r}")
    rows = _read_rows(folder / "metrics.csv", columns)
    _check_order(folder / "metrics.csv", rows, kind, config)
    # One for GANs, training and validation for the others.
    counts = config["images"] if isinstance(config["images"], list) else [config["images"]]
    if len(counts) != (1 if kind == "gan" else 2) or not all(
        type(count) is int and count > 0 for count in counts
    ):
        raise damaged(f"{folder / 'config.json'}: images is {config['images']!r}")
    return Run(folder, kind, config, rows)


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))  # an editor may add a BOM
    except FileNotFoundError:
        raise damaged(f"{path}: missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(config, dict) or not {key for key, _, _ in KINDS.values()} & config.keys():
        raise RunError(
            f"{path}: none of loss, loss_mode and model in it; "
            "expected the config.json of a run of gan/ or vae/"
        )
    # A run that was started from a program need not say what its data are.
    return {"dataset": "unnamed"} | config


def _read_rows(path: Path, columns: dict) -> list[dict]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, table = reader.fieldnames or (), list(reader)
    except FileNotFoundError:
        raise damaged(f"{path}: missing") from None
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(f"{path}: not readable ({error})") from None
    if missing := [name for name in columns if name not in header and name not in OPTIONAL_COLUMNS]:
        raise damaged(f"{path}: no column {missing[0]}")
    return [
        {
            name: value
            for name, kind in columns.items()
            if (value := _cell(path, line, name, row.get(name), kind)) is not None
        }
        for line, row in enumerate(table, start=2)
    ]


def _cell(path: Path, line: int, name: str, text: str | None, kind: Any) -> Any:
    """A cell as its type, None where it is empty and may be."""
    optional = isinstance(kind, str) and kind.endswith("?")
    if optional:
        if not text:
            return None
        kind = {"float?": float, "int?": int, "str?": str}[kind]
    try:
        value = kind(text or "")
        # "nan" and "inf" are floats to Python; no run writes them.
        if kind is str and not value or kind is not str and not math.isfinite(value):
            raise ValueError
        if kind is not str and value < 0 and name not in MAY_BE_NEGATIVE:
            raise ValueError
    except ValueError:
        expected = {int: "a whole number", float: "a finite number", str: "a word"}[kind]
        if kind is not str and name not in MAY_BE_NEGATIVE:
            expected += " >= 0"
        raise damaged(f"{path}, line {line}: {name} is {text!r}, expected {expected}") from None
    return value


def _check_order(path: Path, rows: list[dict], run_kind: str, config: dict) -> None:
    """Log lines rise; a GAN run's final score comes last; no run goes beyond its own length."""
    step, length = (
        ("iteration", config["num_iterations"])
        if run_kind == "gan"
        else ("epoch", config["num_epochs"] - 1)
    )
    previous = None
    for line, row in enumerate(rows, start=2):  # as an editor counts them, the header is line 1
        kind = row.get("kind", "log")
        if kind not in ("log", "final"):
            raise damaged(f"{path}, line {line}: kind is {kind!r}, expected log or final")
        rising = previous is None or (
            row[step] > previous[step]
            or (kind == "final" and previous["kind"] == "log" and row[step] == previous[step])
        )
        # An epoch that is cut out is not there; iterations have log lines at any period.
        whole = run_kind == "gan" or row[step] == (previous[step] + 1 if previous else 0)
        if not rising or row[step] > length or not whole:
            raise damaged(
                f"{path}, line {line}: {step} is {row[step]} "
                f"after {previous and previous[step]} in a run of {length}"
            )
        if "score" in row and not {"score_name", "num_gen", "fid_mode", "features"} <= row.keys():
            raise damaged(
                f"{path}, line {line}: a score without score_name, num_gen, fid_mode or features"
            )
        quality = {"kid", "kid_std", "precision", "recall"} & row.keys()
        if len(quality) not in (0, 4) or (quality or "score_ema" in row) and "score" not in row:
            raise damaged(f"{path}, line {line}: score, kid, precision or recall is missing")
        terms = {"ae": ["recon"], "vae": ["recon", "kl"]}.get(config.get("loss_mode", ""), [])
        for name in (f"{part}_{term}_loss" for term in terms for part in ("val", "train")):
            if name not in row:
                raise damaged(f"{path}, line {line}: {name} is '', expected a finite number")
        if wrong := _contradiction(row, run_kind, config):
            raise damaged(f"{path}, line {line}: {wrong}")
        if previous and row["seconds"] < previous["seconds"]:
            raise damaged(
                f"{path}, line {line}: seconds is {row['seconds']} after {previous['seconds']}"
            )
        previous = row


def _contradiction(row: dict, run_kind: str, config: dict) -> str:
    """What a row says against itself: a sum that its terms do not give. Empty where it agrees."""
    if run_kind == "vae" and config["loss_mode"] in ("ae", "vae"):  # not a loss of one's own
        # Validation has beta 1; training the run's, which a schedule by step changes on the way,
        # and free bits count for more than the KL term.
        sums = {"val": 1.0}
        if config["beta_mode"] in ("constant", "linear") and not config["free_bits"]:
            sums["train"] = row["beta"]
        for part, beta in sums.items():
            recon, kl = row[f"{part}_recon_loss"], row.get(f"{part}_kl_loss", 0.0)
            total = row[f"{part}_loss"]
            # Each is a mean by itself, rounded by float32.
            if abs(recon + beta * kl - total) > 1e-3 * max(1, abs(total)):
                return (
                    f"{part}_loss is {total:.2f}, but {part}_recon_loss + beta * {part}_kl_loss "
                    f"is {recon + beta * kl:.2f}"
                )
    critic = {"discriminator_loss", "gradient_penalty", "real_score", "fake_score"}
    if run_kind == "gan" and config["loss"] == "q1_5" and critic <= row.keys():
        penalty = config["lamb"] * row["gradient_penalty"]
        loss = row["fake_score"] - row["real_score"] + penalty  # a difference of large numbers
        if abs(loss - row["discriminator_loss"]) > 1e-2 * max(1, abs(loss), penalty):
            return (
                f"discriminator_loss is {row['discriminator_loss']:.3f}, but fake_score - "
                f"real_score + lambda * gradient_penalty is {loss:.3f}"
            )
    return ""


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """(N, path) of files such as samples_N.png, sorted; pattern: samples_*.png."""
    before, after = pattern.split("*")
    paths = {path.name[len(before) : -len(after)]: path for path in folder.glob(pattern)}
    return sorted((int(number), path) for number, path in paths.items() if number.isdecimal())


def read_samplers(path: Path) -> list[dict]:
    """The rows that samplers.py writes."""
    rows = _read_rows(path, SAMPLER_COLUMNS)
    if not rows:
        raise RunError(f"{path}: no rows; restore the file that the benchmark wrote")
    return [{"until": 1} | row for row in rows]  # older files go down to time 1


def read_score(path: Path) -> dict:
    """The JSON that `--evaluate` writes: its score, and a string of what was measured."""
    try:
        row = json.loads(path.read_text())
        score, measure = (
            float(row["score"]),
            f"{row['score_name']}, {int(row['num_gen']):,} samples",
        )
        if not math.isfinite(score):
            raise ValueError(f"score is {score}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: not a score ({error}); restore the file that --evaluate wrote"
        ) from None
    return {"score": score, "measure": measure}


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path` with `write(unfinished)`, then move into place."""
    unfinished = path.with_name(f".unfinished.{os.getpid()}.{path.name}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
