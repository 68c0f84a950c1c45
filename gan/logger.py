"""What a GAN run writes at a log line: scores, pictures, plots, weights, state."""

import math
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fid import Scorer, describe_quality
from networks import reestimate_statistics
from torch import nn
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm
from utils import draw, picture_latents, walk

from common.files import atomic, grid_of, save_film, save_gif, save_grid, save_plot, save_weights
from common.run import Layout, RunFolder

if TYPE_CHECKING:
    from train import Trainer

TERMS = ("discriminator_loss", "gradient_penalty", "real_score", "fake_score", "generator_loss")
SCORE = ("score", "score_ema", "score_name", "num_gen", "fid_mode", "fid_batch", "features")
QUALITY = ("kid", "kid_std", "precision", "recall")  # of the images of a final score
WEIGHTS = ("generator", "generator_ema", "generator_best")
PICTURES = ("samples", "interpolations", "around_a_sample", "between_samples")
# What --evaluate writes beside a run's generator, after its name.
EVALUATIONS = ("_score_*.json", *(f"_{name}.png" for name in PICTURES))
LAYOUT = Layout(
    state_format="gan-state-2",
    columns=(
        "iteration",
        "kind",
        *TERMS,
        "lr_discriminator",
        "lr_generator",
        *SCORE,
        *QUALITY,
        "seconds",
    ),
    results=(
        "config.json",
        "metrics.csv",
        "state.pt",
        "discriminator.pt",
        "fid_vs_iterations.png",
        "losses_vs_iterations.png",
        "events.out.tfevents.*",
        "samples.gif",
        "interpolations.gif",
        *(f"{name}_*.png" for name in PICTURES),
        *(name + kind for name in WEIGHTS for kind in (".pt", *EVALUATIONS)),
    ),
)


class Logger:
    """What happens at a log line. It measures and writes; it never changes what is trained."""

    def __init__(self, run: RunFolder, trainer: "Trainer", scorer: Scorer | None):
        self.run, self.trainer, self.scorer = run, trainer, scorer
        self.num_gen = dict(zip(("log", "final"), trainer.settings.num_gen, strict=True))
        self.shown = time.monotonic()
        self.latents = picture_latents(trainer.settings.seed, trainer.device)

    def begin(self) -> None:
        """For a state from elsewhere: it, and what belongs to it, stand here too.

        A run that was stopped before its first log line has nothing to show yet.
        """
        if self.trainer.iteration > 0:
            self.run.save(self.trainer)
        if self.run.rows and not (self.run.folder / "generator.pt").exists():
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
            count, quality = self.num_gen[kind], kind == "final"
            row |= self.scorer.score_row(trainer.gen, count, check_stop, quality)
            if trainer.average is not None:
                row["score_ema"] = self.scorer.score(trainer.average, count, check_stop)
            earlier = [old["score"] for old in self.rows_like(row)]
            if kind == "log" and all(row["score"] < score for score in earlier):
                self.replace_weights("generator_best", trainer.gen)
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
        for name, gen in trainer.generators().items():
            kind = name.removeprefix("generator")  # "" or "_ema"
            if gen is trainer.average:
                reestimate_statistics(gen)  # its own: training moves the generator's only
            for picture, images in draw(gen, self.latents).items():
                grid = save_grid(images, run.folder / f"{picture}{kind}_{trainer.iteration}.png")
                if picture == "samples":
                    run.events.add_image(f"samples{kind}", grid, trainer.iteration)
            self.replace_weights(name, gen)
        save_weights(trainer.disc, run.folder / "discriminator.pt")

    def animate(self) -> None:
        """At the end: the fixed samples through the training, and a way between eight of them."""
        run, trainer = self.run, self.trainer
        save_film(run.folder, "samples_*.png", run.folder / "samples.gif", seconds=0.3)
        ways = walk(self.latents["samples"][:8], frames=6)  # (48, 8, 128)
        images = draw(trainer.gen, {"ways": ways.flatten(0, 1)})["ways"]
        strips = [to_pil_image(grid_of(strip, nrow=8, zoom=2)) for strip in images.split(8)]
        save_gif(strips, run.folder / "interpolations.gif", seconds=0.15, end=0.15)

    def replace_weights(self, name: str, gen: nn.Module) -> None:
        """Save the weights; what `--evaluate` wrote of those before goes."""
        folder = self.run.folder
        for path in [path for kind in EVALUATIONS for path in folder.glob(name + kind)]:
            path.unlink()
        save_weights(gen, folder / f"{name}.pt")

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
    if "score_ema" in row:
        score += f", {row['score_ema']:.2f} of the average"
    of = f"({row['num_gen']:,} samples, {how}, {row['features']})"
    return ", ".join(filter(None, [f"{score} {of}", describe_quality(row)]))
