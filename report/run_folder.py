"""What the commands of report/ share: run folders, checked while they are read; files; options."""

import argparse
import contextlib
import csv
import json
import math
import os
import sys
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

    def path(self, name: str, metavar: str, help: str, **more: Any) -> None:
        """An argument that is not empty, as an unset variable of a shell would be."""
        self.add_argument(name, metavar=metavar, help=help, type=some_path, **more)


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

    def column(self, name: str) -> dict:
        """{step: value} of the log lines that have a value there."""
        step = "iteration" if self.kind == "gan" else "epoch"
        return {row[step]: row[name] for row in self.log if name in row}


# Settings that make a run another than the assignment's; an older config.json lacks them.
OF_THE_ASSIGNMENT: dict[str, dict] = {
    "gan": {
        **{"generator_every": 5, "networks": ["Generator", "Discriminator"]},
        "optimizers": "train.get_optimizers_and_schedulers",
    },
    "vae": {"flows": 0, "free_bits": 0, "network": "assignment"},
    "ddpm": {"predict": "noise"},
}
Columns = dict[str, tuple[type, str]]  # name -> type, marks


def _columns(**names: str) -> Columns:
    """Columns of a type each: "?" may be empty, "-" below 0, "*" not there at all."""
    kinds = {"int": int, "str": str, "float": float}
    words = [(word, kinds[kind]) for kind, those in names.items() for word in those.split()]
    return {word.rstrip("?-*"): (kind, word) for word, kind in words}


QUALITY = {"kid", "kid_std", "precision", "recall"}
# What is read of metrics.csv and samplers.csv. Older files lack some columns, and logs of a loss of
# one's own others; KID is unbiased, so around 0 for equal sets.
_LOSSES = "seconds train_loss- val_loss-"
COLUMNS = {
    "gan": _columns(
        int="iteration num_gen?",
        str="kind score_name? fid_mode? features?",
        float="seconds discriminator_loss?- generator_loss?- real_score?- fake_score?- "
        "gradient_penalty? score? score_ema?* kid?-* kid_std?* precision?* recall?*",
    ),
    "vae": _columns(
        int="epoch active_latents?*",
        float=f"{_LOSSES} beta train_recon_loss?* val_recon_loss?* train_kl_loss?-* val_kl_loss?-*",
    ),
    "ddpm": _columns(int="epoch", float=_LOSSES),
}
SAMPLER_COLUMNS = _columns(
    str="sampler score_name",
    int="steps images until?*",
    float="eta seconds score kid?-* saturated?*",
)
# The settings that are read of config.json; the first tells what kind of run it is.
NUMBER = (int, float)
_BOTH = {"batch_size": int, "seed": int, "dataset": str, "number_format": str}
_CIFAR = {"lr": NUMBER, "num_epochs": int, "images": list} | _BOTH
KEYS: dict[str, dict] = {
    "gan": {"loss": str, "lamb": NUMBER, "num_iterations": int, "images": int} | _BOTH,
    "vae": {"loss_mode": str, "beta_mode": str, "latent_size": int, "target_beta_val": NUMBER}
    | {"grad_clip": NUMBER}
    | _CIFAR,
    "ddpm": {"model": str} | _CIFAR,
}
TOLD_BY = {kind: next(iter(keys)) for kind, keys in KEYS.items()}


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
    place, log = folder / "config.json", folder / "metrics.csv"
    config = _read_config(place)
    kind = next(kind for kind, key in TOLD_BY.items() if key in config)
    # What an older program did not record was as the assignment says.
    config = OF_THE_ASSIGNMENT[kind] | config
    for key, type_ in KEYS[kind].items():
        # To Python True is a number.
        if not isinstance(config.get(key), type_) or isinstance(config[key], bool):
            raise damaged(f"{place}: {key} is {config.get(key)!r}")
    # One number for GANs, training and validation for the others.
    counts = [config["images"], 1] if kind == "gan" else config["images"]
    if len(counts) != 2 or not all(type(count) is int and count > 0 for count in counts):
        raise damaged(f"{place}: images is {config['images']!r}")
    rows, before = _read_rows(log, COLUMNS[kind]), dict[str, Any]()
    for line, row in enumerate(rows, start=2):  # as an editor counts them, the header is line 1
        for fault in _faults(row, before, kind, config):
            raise damaged(f"{log}, line {line}: {fault}")
        before = row
    return Run(folder, kind, config, rows)


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs, and (folder, why) of those that cannot be read: each costs its own row alone."""
    runs: list[Run] = []
    broken: list[tuple[Path, str]] = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except RunError as error:
            print(f"{Path(sys.argv[0]).name}: error: left out: {error}", file=sys.stderr)
            broken.append((folder, str(error)))
    return runs, broken


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))  # an editor may add a BOM
    except FileNotFoundError:
        raise damaged(f"{path}: missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(config, dict) or not {*TOLD_BY.values()} & config.keys():
        raise RunError(
            f"{path}: none of loss, loss_mode and model in it; "
            "expected the config.json of a run of gan/ or vae/"
        )
    # A run that was started from a program need not say what its data are.
    return {"dataset": "unnamed"} | config


def _read_rows(path: Path, columns: Columns) -> list[dict]:
    """The rows as dicts, without the cells that are empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, table = reader.fieldnames or (), list(reader)
    except FileNotFoundError:
        raise damaged(f"{path}: missing") from None
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(f"{path}: not readable ({error})") from None
    for name, (_, marks) in columns.items():
        if name not in header and "*" not in marks:
            raise damaged(f"{path}: no column {name}")
    rows: list[dict] = []
    for line, row in enumerate(table, start=2):
        cells = {name: row.get(name) or "" for name in columns}
        told = {n: text for n, text in cells.items() if text or "?" not in columns[n][1]}
        rows.append({n: _cell(f"{path}, line {line}", n, told[n], *columns[n]) for n in told})
    return rows


def _cell(where: str, name: str, text: str, kind: Any, marks: str) -> Any:
    """A cell as its type."""
    signed = kind is str or "-" in marks
    try:
        value = kind(text)
        # "nan" and "inf" are floats to Python; no run writes them.
        if not (value if kind is str else math.isfinite(value) and (signed or value >= 0)):
            raise ValueError
    except ValueError:
        expected = {int: "a whole number", float: "a finite number", str: "a word"}[kind]
        expected += "" if signed else " >= 0"
        raise damaged(f"{where}: {name} is {text!r}, expected {expected}") from None
    return value


def _faults(row: dict, before: dict, run_kind: str, config: dict) -> Iterator[str]:
    """What is wrong with a row, by itself and after the one before it."""
    if run_kind == "gan":
        step, length, kind = "iteration", config["num_iterations"], row["kind"]
    else:
        step, length, kind = "epoch", config["num_epochs"] - 1, "log"
    if kind not in ("log", "final"):
        yield f"kind is {kind!r}, expected log or final"
    now, last = row[step], before.get(step, -1)
    # Iterations have log lines at any period; an epoch that is cut out is not there.
    rising = now > last if run_kind == "gan" else now == last + 1
    final = now == last and (before.get("kind"), kind) == ("log", "final")
    if not (rising or final) or now > length:
        yield f"{step} is {now} after {before.get(step)} in a run of {length}"
    if "score" in row and not {"score_name", "num_gen", "fid_mode", "features"} <= row.keys():
        yield "a score without score_name, num_gen, fid_mode or features"
    quality = QUALITY & row.keys()
    if len(quality) not in (0, 4) or (quality or "score_ema" in row) and "score" not in row:
        yield "score, kid, precision or recall is missing"
    terms = {"ae": ["recon"], "vae": ["recon", "kl"]}.get(config.get("loss_mode", ""), [])
    for name in (f"{part}_{term}_loss" for term in terms for part in ("val", "train")):
        if name not in row:
            yield f"{name} is '', expected a finite number"
    if terms:  # validation has beta 1; training the run's, which a schedule by step changes on the
        sums = {"val": 1.0}  # way, and free bits count for more than the KL term
        if config["beta_mode"] in ("constant", "linear") and not config["free_bits"]:
            sums["train"] = row["beta"]
        for part, beta in sums.items():
            total = row[f"{part}_loss"]
            found = row[f"{part}_recon_loss"] + beta * row.get(f"{part}_kl_loss", 0.0)
            # Each is a mean by itself, rounded by float32.
            if abs(found - total) > 1e-3 * max(1, abs(total)):
                terms_ = f"{part}_recon_loss + beta * {part}_kl_loss"
                yield f"{part}_loss is {total:.2f}, but {terms_} is {found:.2f}"
    critic = {"discriminator_loss", "gradient_penalty", "real_score", "fake_score"}
    if config.get("loss") == "q1_5" and critic <= row.keys():
        penalty, told = config["lamb"] * row["gradient_penalty"], row["discriminator_loss"]
        loss = row["fake_score"] - row["real_score"] + penalty  # a difference of large numbers
        if abs(loss - told) > 1e-2 * max(1, abs(loss), penalty):
            sum_ = "fake_score - real_score + lambda * gradient_penalty"
            yield f"discriminator_loss is {told:.3f}, but {sum_} is {loss:.3f}"
    if row["seconds"] < before.get("seconds", 0):
        yield f"seconds is {row['seconds']} after {before['seconds']}"


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """(N, path) of files such as samples_N.png, sorted; pattern: samples_*.png."""
    before, after = pattern.split("*")
    paths = {path.name[len(before) : -len(after)]: path for path in folder.glob(pattern)}
    return sorted((int(number), path) for number, path in paths.items() if number.isdecimal())


def read_samplers(path: Path) -> list[dict]:
    """The rows that samplers.py writes; older files go down to time 1."""
    if rows := _read_rows(path, SAMPLER_COLUMNS):
        return [{"until": 1} | row for row in rows]
    raise damaged(f"{path}: no rows")


def read_score(path: Path) -> tuple[float, str]:
    """The score in the JSON that `--evaluate` writes, and a string of what was measured."""
    try:
        row = json.loads(path.read_text())
        if not math.isfinite(row["score"]):
            raise ValueError(f"{row['score']} is not finite")
        return float(row["score"]), f"{row['score_name']}, {int(row['num_gen']):,} samples"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(f"{path}: not a score ({error})") from None


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path` with `write(unfinished)`, then move into place."""
    unfinished = path.with_name(f".unfinished.{os.getpid()}.{path.name}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
