"""The assignment's questions, their references, and what a run's number is worth beside them.

A number is only called met or not met where it compares with the reference: the same data,
features, sample count, hyper-parameters and length of training. Data are known by name and number
of images; which pixels they were, `data` in a run's config.json says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from run_folder import OF_THE_ASSIGNMENT, Run


@dataclass(frozen=True)
class Question:
    """A number that the assignment asks for, and the settings of the run that answers it."""

    number: str
    title: str
    settings: dict
    limit: float | None = None  # the handout's: FID <= limit, reconstruction loss < limit
    reports_best: float | None = None  # the best of three public reports on this assignment
    band: tuple | None = None  # what public answers report where the handout has no reference
    setup: dict = field(default_factory=dict)  # other settings than SETUP's

    @property
    def reference(self) -> str:
        """The handout's, as people read it: FIDs of "about" a number, losses "below" one."""
        sign = "<=" if "loss" in self.settings else "<"
        return "" if self.limit is None else f"{sign} {self.limit}"


# The settings of a run that answers no other question than its own.
GAN = OF_THE_ASSIGNMENT["gan"] | {"variant": None}
AE = OF_THE_ASSIGNMENT["vae"] | {"loss_mode": "ae"}  # its run has a beta too, which it does not use
VAE = AE | {"loss_mode": "vae", "beta_mode": "constant", "target_beta_val": 1}
LARGE, SMALL = VAE | {"latent_size": 1024}, VAE | {"latent_size": 128}
# The other settings that a number depends on.
SETUP: dict[str, dict] = {
    "gan": {"batch_size": 256, "lamb": 10},
    "vae": {"batch_size": 256, "lr": 1e-3, "grad_clip": 1},
    "ddpm": {},
}
QUESTIONS = (
    Question("1.3", "GAN", GAN | {"loss": "q1_3"}, 150, 60.97),
    Question("1.4", "LSGAN", GAN | {"loss": "q1_4"}, 90, 55.23),
    Question("1.5", "WGAN-GP", GAN | {"loss": "q1_5"}, 50, 32.41),
    Question("2.1", "AE, 16 latents", AE | {"latent_size": 16}, band=(202, 206)),
    Question("2.1", "AE, 128 latents", AE | {"latent_size": 128}, band=(54, 58)),
    Question("2.1", "AE, 1024 latents", AE | {"latent_size": 1024}, band=(25, 31)),
    Question("2.2", "VAE", LARGE, 145, 135.35),
    Question("2.3.1", "beta-VAE, 0.8", LARGE | {"target_beta_val": 0.8}, 130, 125.14),
    Question("2.3.1", "beta-VAE, 1.2", LARGE | {"target_beta_val": 1.2}, 155, 147.32),
    Question("2.3.2", "VAE, linear beta", LARGE | {"beta_mode": "linear"}, 125, 119.43),
)
# Models of other reports, which have no reference: a row each where there is a run.
FLOWS, ANNEALED = {"flows": 4}, {"beta_mode": "anneal"}
NEIGHBOURS = (
    Question("more", "MLP GAN", {"loss": "mlp_gan", "variant": None}),
    Question("more", "VAE, 16 latents", VAE | {"latent_size": 16}),
    Question("more", "VAE, 128 latents", SMALL),
    Question("more", "AE, small", AE | {"latent_size": 2048, "network": "small"}),
    Question("more", "VAE, 4 planar flows", SMALL | FLOWS),
    Question("more", "VAE, annealed", SMALL | ANNEALED, setup={"batch_size": 64}),
    Question("more", "VAE, flows, annealed", SMALL | FLOWS | ANNEALED, setup={"batch_size": 64}),
    Question("more", "VAE, cyclical", SMALL | {"beta_mode": "cyclical"}),
    Question("more", "VAE, free bits", SMALL | {"free_bits": 0.5}),
    Question("more", "DDPM, v", {"model": "ddpm", "predict": "v"}),
    Question("more", "DDPM, noise", {"model": "ddpm", "predict": "noise"}),
)
# clean-fid's file and the first digits of its SHA-256: other weights of that name are others.
INCEPTION = "inception-2015-12-05-f58cb9b6"


@dataclass
class Grade:
    """One row: a question, a run that answers it, its number, and why that compares or not."""

    question: Question
    run: Any = None  # a Run, or None
    measured: Any = None
    row: dict = field(default_factory=dict)
    reasons: list = field(default_factory=list)  # why the number does not compare
    note: str = ""  # what the run's weights give

    @property
    def metric(self) -> str:
        """What the number is."""
        if self.run.kind == "ddpm":  # of what it predicts; the two do not compare
            return f"{self.run.config['predict']} error"
        return self.row.get("score_name", "score") if self.run.kind == "gan" else "recon"

    @property
    def remarks(self) -> list[str]:
        """Why its number does not compare, and what its weights give."""
        return list(dict.fromkeys([*self.reasons, *filter(None, [self.note])]))

    def cells(self) -> dict:
        """For programs: a row of JSON, or of a class's list."""
        row: dict = {"question": self.question.number, "title": self.question.title}
        row |= dict.fromkeys(("run", "metric", "measured", "done"))  # None where there is no run
        if run := self.run:
            row |= {"run": str(run.folder), "metric": self.metric, "measured": self.measured}
            row["done"] = run.steps
        row |= {"verdict": self.verdict, "reasons": self.reasons, "remarks": self.remarks}
        return row

    @property
    def verdict(self) -> str:
        """For people: met, not met, not comparable, ..."""
        if self.run is None:
            return "not run"
        if self.reasons:
            return "not comparable"
        limit, band = self.question.limit, self.question.band
        if band:
            place = "within" if band[0] <= self.measured <= band[1] else "outside"
            return f"no reference ({place} the public band {band[0]}-{band[1]})"
        if limit is None:
            return "no reference"
        met = self.measured <= limit if self.run.kind == "gan" else self.measured < limit
        return "met" if met else "not met"


def grade(question: Question, run: Run) -> Grade:
    """The number of a run that a reference is for, and what keeps it from comparing."""
    judges: dict[str, Any] = {"gan": _score, "vae": _reconstruction, "ddpm": _error}
    data, images = f"{run.config['dataset']} data", run.config["images"]
    measured, row, reasons = judges[run.kind](run, data, images)
    other = other_settings(question, run)
    return Grade(question, run, row.get(measured), row, reasons + other)


def other_settings(question: Question, run: Run) -> list[str]:
    """Those in which the run is not as the assignment says."""
    setup = (SETUP[run.kind] | question.setup).items()
    return [f"{k} {run.config[k]} instead of {v}" for k, v in setup if run.config[k] != v]


def _score(run: Run, data: str, images: int) -> tuple[str, dict, list[str]]:
    """Of the scores at 30,000 iterations, where the assignment ends, the one that compares best.

    Else the last one.
    """
    rows = [row for row in run.rows if "score" in row]
    at_end = [row for row in rows if row["iteration"] == 30_000]  # a run may go on behind it
    row: dict = min(
        reversed(at_end or rows[-1:]), key=lambda row: len(_not_the_reports_fid(row)), default={}
    )
    reasons = []
    if data != "cub data":
        reasons.append(data)
    elif images != 11_780:
        reasons.append(f"{images:,} images instead of the 11,780 of CUB")
    done = row.get("iteration", run.steps)  # more are no better answer
    short = [f"{done:,} iterations instead of 30,000"] * (done != 30_000)
    return "score", row, [*reasons, *_not_the_reports_fid(row), *short]


def _not_the_reports_fid(row: dict) -> list[str]:
    """What makes a score another measure than theirs."""
    if not row:
        return ["no score measured"]
    reasons = []
    if row["score_name"] != "FID":
        reasons.append(f"{row['score_name']} is not FID")
    elif row["features"] != INCEPTION:
        reasons.append(f"other Inception weights ({row['features']})")
    if row["num_gen"] != 50_000:  # fewer samples, a larger distance
        reasons.append(f"{row['num_gen']:,} samples instead of 50,000")
    return reasons + ["running instead of batch statistics"] * (row["fid_mode"] != "train")


def _reconstruction(run: Run, data: str, images: list) -> tuple[str, dict, list[str]]:
    """At epoch 19: a longer run is graded where the assignment ends."""
    reasons = []
    if (data, images) != ("cifar10 data", [50_000, 10_000]):
        counts = f"{images[0]:,} training and {images[1]:,} validation"
        reasons.append(f"{data}, {counts} images instead of 50,000 and 10,000")
    row = next((row for row in run.rows if row["epoch"] == 19), run.rows[-1] if run.rows else {})
    epochs = run.config["num_epochs"]
    if row.get("epoch") != 19:
        reasons.append(f"{run.steps} epochs instead of 20")
    elif run.config["beta_mode"] == "linear" and epochs != 20:  # its beta there is another one
        reasons.append(f"a slope for {epochs} epochs instead of 20")
    return "val_recon_loss", row, reasons


def _error(run: Run, data: str, images: list) -> tuple[str, dict, list[str]]:
    """The squared error of the predicted noise or v, validation, at the last epoch."""
    row = run.rows[-1] if run.rows else {}
    reasons = [data] * (data != "cifar10 data") + ["no epoch done"] * (not row)
    return "val_loss", row, reasons


def asks_for(question: Question, run: Run) -> bool:
    """Whether the run has the settings of the question."""
    return all(run.config.get(key) == value for key, value in question.settings.items())


def grade_all(runs: Sequence[Run]) -> list[Grade]:
    """The Grades of each question: of all runs that compare, the best first.

    Where none does, of that with the most of the assignment's settings, of several the longest;
    where there is none, without one.
    """
    grades = []
    near = lambda one: (-len(other_settings(one.question, one.run)), one.run.steps)  # noqa: E731
    for question in QUESTIONS + NEIGHBOURS:
        answers = [grade(question, run) for run in runs if asks_for(question, run)]
        # Best first is for the reader; a verdict does not depend on it: each has its own row.
        comparable = [one for one in answers if not one.reasons]
        nearest = max(answers, key=near, default=Grade(question))
        if answers or question in QUESTIONS:
            grades += sorted(comparable, key=lambda grade: grade.measured) or [nearest]
    return grades


def describe(grade: Grade) -> list[str]:
    """For people: question, run, measured, done, data, handout, reports, verdict."""
    question, run = grade.question, grade.run
    shown = [f"{question.number} {question.title}", "-", "-", "-", "-"]
    if run:
        unit, images = "epochs", run.config["images"]
        unit, images = ("iterations", images) if run.kind == "gan" else (unit, images[0])
        digits = 4 if run.kind == "ddpm" else 2
        # A longer run is measured where the assignment ends.
        measured_at = grade.row.get("iteration", grade.row.get("epoch", run.steps - 1) + 1)
        bare = grade.measured is None
        shown[1:] = [
            run.name,
            "no number" if bare else f"{grade.metric} {grade.measured:.{digits}f}",
            f"{measured_at:,} {unit}",
            f"{run.config['dataset']}, {images:,}",
        ]
    best = "-" if question.reports_best is None else f"{question.reports_best:.2f}"
    return [*shown, question.reference or "-", best, grade.verdict]
