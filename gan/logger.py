"""What a GAN run writes at a log line: scores, pictures, plots, weights, state."""

import math
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from fid import Scorer
from networks import LATENT_DIM, reestimate_statistics
from tqdm import tqdm
from utils import save_interpolation

from common.files import atomic, save_grid, save_plot, save_weights
from common.measure import measuring
from common.run import Layout, RunFolder

if TYPE_CHECKING:
    from train import Trainer

TERMS = ("discriminator_loss", "gradient_penalty", "real_score", "fake_score", "generator_loss")
SCORE = ("score", "score_name", "num_gen", "fid_mode", "fid_batch", "features")
# What --evaluate writes beside a run's generator, after its name.
EVALUATIONS = ("_score_*.json", "_samples.png", "_interpolations*.png")
LAYOUT = Layout(
    state_format="gan-state-2",
    columns=("iteration", "kind", *TERMS, "lr_discriminator", "lr_generator", *SCORE, "seconds"),
    results=(
        "config.json",
        "metrics.csv",
        "state.pt",
        "generator.pt",
        "generator_best.pt",
        "discriminator.pt",
        "fid_vs_iterations.png",
        "losses_vs_iterations.png",
        "samples_*.png",
        "interpolations_*.png",
        "events.out.tfevents.*",
        *(name + kind for name in ("generator", "generator_best") for kind in EVALUATIONS),
    ),
)


class Logger:
    """What happens at a log line. It measures and writes; it never changes what is trained."""

    def __init__(self, run: RunFolder, trainer: "Trainer", scorer: Scorer | None):
        self.run, self.trainer, self.scorer = run, trainer, scorer
        self.num_gen = dict(zip(("log", "final"), trainer.settings.num_gen, strict=True))
        self.shown = time.monotonic()
        seed, device = trainer.settings.seed + 2, trainer.device
        rng = torch.Generator(device).manual_seed(seed)
        self.latents = torch.randn(100, LATENT_DIM, generator=rng, device=device)  # of every grid

    def begin(self) -> None:
        """For a state from elsewhere: it, and what belongs to it, stand here too."""
        if self.trainer.iteration > 0:
            self.run.save(self.trainer)
        if self.trainer.iteration > 0 and not (self.run.folder / "generator.pt").exists():
            self.save_pictures()
            self.save_plots()
            best = self.run.resumed_from / "generator_best.pt"
            if best.is_file():
                with atomic(self.run.folder / best.name) as unfinished:
                    shutil.copy(best, unfinished)

    def log_once(self, kind: str, check_stop: Callable[[], None]) -> None:
        """The row of this iteration, unless a resumed run has it already; then save the state.

        kind: "log", or "final" for the score of more samples at the end. `check_stop` may raise.
        """
        trainer, run = self.trainer, self.run
        if any((row["iteration"], row["kind"]) == (trainer.iteration, kind) for row in run.rows):
            return
        if kind == "final" and self.scorer is None:
            return
        trainer.check_finite()
        row: dict = {"iteration": trainer.iteration, "kind": kind}
        if kind == "log":
            row |= trainer.means.means()
            row["lr_discriminator"] = trainer.sched_disc.get_last_lr()[0]
            row["lr_generator"] = trainer.sched_gen.get_last_lr()[0]
            self.save_pictures()
        if self.scorer:
            run.save(trainer)  # scoring may take longer than training since the last save
            row |= self.scorer.score_row(trainer.gen, self.num_gen[kind], check_stop)
            earlier = [old["score"] for old in self.rows_like(row)]
            if kind == "log" and all(row["score"] < score for score in earlier):
                self.replace_generator("generator_best")
        run.add_row(row)
        if kind == "log":
            trainer.means.clear()
        self.save_plots()
        tqdm.write(describe(row))
        run.save(trainer)

    def rows_like(self, row: dict) -> list[dict]:
        """Earlier log lines whose scores compare with this one's."""
        same = ("kind", "score_name", "features", "fid_mode", "num_gen")
        return [old for old in self.run.rows if all(old.get(key) == row[key] for key in same)]

    def save_pictures(self) -> None:
        """Samples, interpolations and weights."""
        run, trainer = self.run, self.trainer
        with measuring(trainer.gen):  # running statistics: each picture depends on its own latent
            reestimate_statistics(trainer.gen)
            samples = trainer.gen.forward_given_samples(self.latents)  # (100, 3, 32, 32) in [-1, 1]
            path = run.folder / f"interpolations_{trainer.iteration}.png"
            save_interpolation(trainer.gen, path)
        grid = save_grid(samples, run.folder / f"samples_{trainer.iteration}.png")
        run.events.add_image("samples", grid, trainer.iteration)
        self.replace_generator("generator")
        save_weights(trainer.disc, run.folder / "discriminator.pt")

    def replace_generator(self, name: str) -> None:
        """Save the weights; what `--evaluate` wrote of those before goes."""
        folder = self.run.folder
        for path in [path for kind in EVALUATIONS for path in folder.glob(name + kind)]:
            path.unlink()
        save_weights(self.trainer.gen, folder / f"{name}.pt")

    def save_plots(self) -> None:
        """The curves of losses and scores."""
        rows = [row for row in self.run.rows if row["kind"] == "log"]
        steps = [row["iteration"] for row in rows]
        # A log period shorter than five iterations may hold no generator step: a gap in its curve.
        losses = {
            name.replace("_", " "): [row.get(name, math.nan) for row in rows]
            for name in ("discriminator_loss", "generator_loss")
        }
        path = self.run.folder / "losses_vs_iterations.png"
        save_plot(steps, losses, "iterations", "loss (mean since the last point)", "Losses", path)
        if rows and "score" in rows[-1]:
            scored = self.rows_like(rows[-1])
            steps, scores = ([row[key] for row in scored] for key in ("iteration", "score"))
            name = scored[-1]["score_name"]
            measure = f"{name}, {scored[-1]['num_gen']:,} samples"
            path = self.run.folder / "fid_vs_iterations.png"
            save_plot(steps, scores, "iterations", measure, f"{name} vs iterations", path)

    def show(self, bar: tqdm) -> None:
        """One iteration more; every two seconds also its losses and the last score."""
        bar.update()
        if time.monotonic() - self.shown < 2:
            return
        self.shown = time.monotonic()
        means = self.trainer.means.means()
        names = {"D": "discriminator_loss", "G": "generator_loss"}
        shown = {short: means[name] for short, name in names.items() if name in means}
        shown |= {row["score_name"]: row["score"] for row in self.run.rows if "score" in row}
        bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)


def describe(row: dict) -> str:
    """A log line for people: iteration, losses, score."""
    losses = [f"{name.replace('_', ' ')} {row[name]:.4f}" for name in TERMS if name in row]
    parts = filter(None, [", ".join(losses), describe_score(row)])
    return f"[{row['iteration']} {row['kind']}] {'; '.join(parts)}"


def describe_score(row: dict) -> str:
    """A score with all that it depends on; empty where there is none."""
    if "score" not in row:
        return ""
    batches = f"statistics of batches of {row['fid_batch']}"
    how = batches if row["fid_mode"] == "train" else "running statistics"
    score = f"{row['score_name']} = {row['score']:.2f}"
    return f"{score} ({row['num_gen']:,} samples, {how}, {row['features']})"
