"""The assignment's questions, their references, and what a run's number is worth beside them.

A number is only called met or not met where it compares with the reference: the same data,
features, sample count, hyper-parameters and length of training. Data are known by name and number
of images; which pixels they were, `data` in a run's config.json says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recheck import Measured
from run_folder import OF_THE_ASSIGNMENT, Run


@dataclass(frozen=True)
class Question:
    """A number that the assignment asks for, and the settings of the run that answers it."""

    number: str
    title: str
    settings: dict
    reference: str = ""  # the handout's, as people read it
    limit: float | None = None  # and as a number: FID <= limit, reconstruction loss < limit
    reports_best: float | None = None  # the best of three public reports on this assignment
    band: tuple | None = None  # what public answers report where the handout has no reference
    setup: dict = field(default_factory=dict)  # the other settings that a number depends on


GAN_SETUP = {"batch_size": 256, "lamb": 10}
VAE_SETUP = {"batch_size": 256, "lr": 1e-3, "grad_clip": 1}


def _gan(
    number: str, title: str, loss: str, limit: float | None = None, best: float | None = None
) -> Question:
    reference = "" if limit is None else f"<= {limit}"
    settings = {"loss": loss, "variant": None}
    if loss != "mlp_gan":  # that one has other networks, rates and steps than the assignment's
        settings |= OF_THE_ASSIGNMENT["gan"]
    return Question(number, title, settings, reference, limit, best, setup=GAN_SETUP)


def _vae(
    number: str,
    title: str,
    loss_mode: str,
    latent: int,
    beta: float = 1,
    mode: str = "constant",
    **rest: Any,
) -> Question:
    """rest: more of a Question; `more` are settings that the assignment does not have."""
    settings = OF_THE_ASSIGNMENT["vae"] | {"loss_mode": loss_mode, "latent_size": latent}
    settings |= rest.pop("more", {})
    if loss_mode == "vae":  # an autoencoder's run has a beta too, which it does not use
        settings |= {"target_beta_val": beta, "beta_mode": mode}
    rest = {"setup": VAE_SETUP} | rest
    if "limit" in rest:
        rest["reference"] = f"< {rest['limit']}"
    return Question(number, title, settings, **rest)


QUESTIONS = (
    _gan("1.3", "GAN", "q1_3", 150, 60.97),
    _gan("1.4", "LSGAN", "q1_4", 90, 55.23),
    _gan("1.5", "WGAN-GP", "q1_5", 50, 32.41),
    _vae("2.1", "AE, 16 latents", "ae", 16, band=(202, 206)),
    _vae("2.1", "AE, 128 latents", "ae", 128, band=(54, 58)),
    _vae("2.1", "AE, 1024 latents", "ae", 1024, band=(25, 31)),
    _vae("2.2", "VAE", "vae", 1024, limit=145, reports_best=135.35),
    _vae("2.3.1", "beta-VAE, 0.8", "vae", 1024, 0.8, limit=130, reports_best=125.14),
    _vae("2.3.1", "beta-VAE, 1.2", "vae", 1024, 1.2, limit=155, reports_best=147.32),
    _vae("2.3.2", "VAE, linear beta", "vae", 1024, 1, "linear", limit=125, reports_best=119.43),
)
# Models of other reports, which have no reference: a row each where there is a run.
NEIGHBOURS = (
    _gan("more", "MLP GAN", "mlp_gan"),
    _vae("more", "VAE, 16 latents", "vae", 16),
    _vae("more", "VAE, 128 latents", "vae", 128),
    _vae("more", "AE, small", "ae", 2048, more={"network": "small"}),
    _vae("more", "VAE, 4 planar flows", "vae", 128, more={"flows": 4}),
    _vae("more", "VAE, annealed", "vae", 128, mode="anneal", setup=VAE_SETUP | {"batch_size": 64}),
    _vae("more", "VAE, cyclical", "vae", 128, mode="cyclical"),
    _vae("more", "VAE, free bits", "vae", 128, more={"free_bits": 0.5}),
    Question("more", "DDPM, v", {"model": "ddpm", "predict": "v"}, setup={}),
    Question("more", "DDPM, noise", {"model": "ddpm", "predict": "noise"}, setup={}),
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
    again: Measured | None = None  # the number from the run's weights
    note: str = ""  # of that

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

    @property
    def verdict(self) -> str:
        """For people: met, not met, not comparable, ..."""
        if self.run is None:
            return "not run"
        if self.reasons:
            return "not comparable"
        limit, band = self.question.limit, self.question.band
        if limit is None and band is None:
            return "no reference"
        if limit is None:
            low, high = band or (0, 0)
            place = "within" if low <= self.measured <= high else "outside"
            return f"no reference ({place} the public band {low}-{high})"
        # As the handout puts them: FIDs of "about" a number, losses "below" one.
        met = self.measured <= limit if self.run.kind == "gan" else self.measured < limit
        return "met" if met else "not met"


def grade_gan(question: Question, run: Run) -> Grade:
    """A score, and what keeps it from comparing with an FID of the reports.

    Of the scores at 30,000 iterations, where the assignment ends, the one that compares best; else
    the last one.
    """
    rows = [row for row in run.rows if "score" in row]
    at_end = [row for row in rows if row["iteration"] == 30_000]  # a run may go on behind it
    row: dict = min(
        reversed(at_end or rows[-1:]), key=lambda row: len(_not_the_reports_fid(row)), default={}
    )
    reasons = []
    if run.config["dataset"] != "cub":
        reasons.append(f"{run.config['dataset']} data")
    elif run.config["images"] != 11_780:
        reasons.append(f"{run.config['images']:,} images instead of the 11,780 of CUB")
    reasons += _not_the_reports_fid(row)
    done = row.get("iteration", run.steps)
    if done != 30_000:
        reasons.append(f"{done:,} iterations instead of 30,000")  # more are no better answer
    reasons += _other_setup(run, question.setup)
    return Grade(question, run, row.get("score"), row, reasons)


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
    if row["fid_mode"] != "train":
        reasons.append("running instead of batch statistics")
    return reasons


def grade_vae(question: Question, run: Run) -> Grade:
    """The validation reconstruction loss at epoch 19, and what keeps it from comparing."""
    reasons = []
    if run.config["dataset"] != "cifar10" or run.config["images"] != [50_000, 10_000]:
        training, validation = run.config["images"]
        reasons.append(
            f"{run.config['dataset']} data, {training:,} training and {validation:,} validation "
            "images instead of 50,000 and 10,000"
        )
    # A longer run is graded where the assignment ends.
    row = next((row for row in run.rows if row["epoch"] == 19), run.rows[-1] if run.rows else {})
    if row.get("epoch") != 19:
        reasons.append(f"{run.steps} epochs instead of 20")
    elif run.config["beta_mode"] == "linear" and run.config["num_epochs"] != 20:
        # Its beta at epoch 19 is another one.
        reasons.append(f"a slope for {run.config['num_epochs']} epochs instead of 20")
    reasons += _other_setup(run, question.setup)
    return Grade(question, run, row.get("val_recon_loss"), row, reasons)


def grade_ddpm(question: Question, run: Run) -> Grade:
    """The validation loss at the last epoch: the squared error of the predicted noise or v."""
    row = run.rows[-1] if run.rows else {}
    reasons = [] if run.config["dataset"] == "cifar10" else [f"{run.config['dataset']} data"]
    reasons += [] if row else ["no epoch done"]
    return Grade(question, run, row.get("val_loss"), row, reasons)


GRADERS = {"gan": grade_gan, "vae": grade_vae, "ddpm": grade_ddpm}


def _other_setup(run: Run, setup: dict) -> list[str]:
    return [
        f"{name} {run.config[name]} instead of {value}"
        for name, value in setup.items()
        if run.config[name] != value
    ]


def asks_for(question: Question, run: Run) -> bool:
    """Whether the run has the settings of the question."""
    return all(run.config.get(key) == value for key, value in question.settings.items())


def grade_all(runs: Sequence[Run]) -> list[Grade]:
    """The Grades of each question: of all runs that compare, the best first.

    Where none does, of the longest run; where there is none, without one.
    """
    grades = []
    for question in QUESTIONS + NEIGHBOURS:
        answers = [GRADERS[run.kind](question, run) for run in runs if asks_for(question, run)]
        # Best first is for the reader; a verdict does not depend on it: each has its own row.
        comparable = [grade for grade in answers if not grade.reasons]
        longest = max(answers, key=lambda grade: grade.run.steps, default=Grade(question))
        if answers or question in QUESTIONS:
            grades += sorted(comparable, key=lambda grade: grade.measured) or [longest]
    return grades


def describe(grade: Grade) -> list[str]:
    """For people: question, run, measured, done, data, handout, reports, verdict."""
    question, run = grade.question, grade.run
    shown = [f"{question.number} {question.title}"]
    if run is None:
        shown += ["-", "-", "-", "-"]
    else:
        unit = "iterations" if run.kind == "gan" else "epochs"
        images = run.config["images"] if run.kind == "gan" else run.config["images"][0]
        number = (
            "no number"
            if grade.measured is None
            else f"{grade.metric} {grade.measured:.{4 if run.kind == 'ddpm' else 2}f}"
        )
        shown += [run.name, number, f"{run.steps:,} {unit}", f"{run.config['dataset']}, {images:,}"]
    best = "-" if question.reports_best is None else f"{question.reports_best:.2f}"
    return [*shown, question.reference or "-", best, grade.verdict]
