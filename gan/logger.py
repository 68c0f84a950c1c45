"""What a GAN run writes at a log line: scores, pictures, plots, weights, state."""

import math
import time

import torch
from tqdm import tqdm

from fid import measuring
from files import save_grid, save_plot
from networks import LATENT_DIM
from run_log import save_weights
from utils import interpolate_latent_space

STATE_FORMAT = "gan-state-1"
# What --evaluate writes beside a run's generator, after its name.
EVALUATIONS = ("_score_*.json", "_samples.png", "_interpolations*.png")
# What a run leaves behind; --overwrite removes these and nothing else.
RESULTS = (
    "config.json", "metrics.csv", "state.pt", "generator.pt", "generator_best.pt", "discriminator.pt",
    "fid_vs_iterations.png", "losses_vs_iterations.png", "samples_*.png", "interpolations_*.png",
    "events.out.tfevents.*", *(name + kind for name in ("generator", "generator_best") for kind in EVALUATIONS),
)  # fmt: skip
TERMS = ("discriminator_loss", "gradient_penalty", "real_score", "fake_score", "generator_loss")
COLUMNS = (
    "iteration", "kind", *TERMS, "lr_discriminator", "lr_generator", "score", "score_name", "num_gen", "fid_mode",
    "fid_batch", "features", "seconds",
)  # fmt: skip


class Logger:
    """What happens at a log line. It measures and writes; it never changes what is trained."""

    def __init__(self, run, trainer, scorer, num_gen, same_run, seconds):
        self.run, self.trainer, self.scorer, self.same_run = run, trainer, scorer, same_run
        self.num_gen = dict(zip(("log", "final"), num_gen))
        self.started = time.monotonic() - seconds
        self.saved = self.shown = time.monotonic()
        fixed = torch.Generator(trainer.device).manual_seed(trainer.seed + 2)
        self.fixed_latents = torch.randn(100, LATENT_DIM, generator=fixed, device=trainer.device)

    def log_once(self, kind, check_stop):
        """The row of this iteration, unless a resumed run has it already; then save the state."""
        trainer, run = self.trainer, self.run
        if any(row["iteration"] == trainer.iteration and row["kind"] == kind for row in run.rows):
            return
        if kind == "final" and self.scorer is None:
            return
        trainer.check_finite()
        row = {"iteration": trainer.iteration, "kind": kind}
        if kind == "log":
            row |= trainer.losses.means()
            row |= {"lr_discriminator": trainer.sched_disc.get_last_lr()[0],
                    "lr_generator": trainer.sched_gen.get_last_lr()[0]}  # fmt: skip
            self.save_pictures()
        if self.scorer:
            self.save()  # scoring may take longer than training since the last save
            row |= self.scorer.score_row(trainer.gen, self.num_gen[kind], check_stop)
            if kind == "log" and row["score"] < min(
                (old["score"] for old in self.rows_like(row)), default=math.inf
            ):
                self.replace_generator("generator_best")
        row["seconds"] = round(time.monotonic() - self.started, 1)
        run.add_row(row)
        if kind == "log":
            trainer.losses.clear()
        self.save_plots()
        tqdm.write(describe(row))
        self.save()

    def rows_like(self, row):
        """Earlier log lines whose scores compare with this one's."""
        same = ("kind", "score_name", "features", "fid_mode", "num_gen")
        return [old for old in self.run.rows if all(old.get(key) == row[key] for key in same)]

    def save_pictures(self):
        run, trainer = self.run, self.trainer
        with measuring(trainer.gen) as gen:  # running statistics: each picture depends on its own latent
            samples = gen.forward_given_samples(self.fixed_latents)
        grid = save_grid(samples, run.folder / f"samples_{trainer.iteration}.png")
        run.events.add_image("samples", grid, trainer.iteration)
        interpolate_latent_space(trainer.gen, run.folder / f"interpolations_{trainer.iteration}.png")
        self.replace_generator("generator")
        save_weights(trainer.disc, run.folder / "discriminator.pt")

    def replace_generator(self, name):
        """Save the weights; what `--evaluate` wrote of those before goes."""
        for path in [path for kind in EVALUATIONS for path in self.run.folder.glob(name + kind)]:
            path.unlink()
        save_weights(self.trainer.gen, self.run.folder / f"{name}.pt")

    def save_plots(self):
        rows = [row for row in self.run.rows if row["kind"] == "log"]
        steps = [row["iteration"] for row in rows]
        # A log period shorter than five iterations may hold no generator step: a gap in its curve.
        losses = {name.replace("_", " "): [row.get(name, math.nan) for row in rows]
                  for name in ("discriminator_loss", "generator_loss")}  # fmt: skip
        save_plot(steps, losses, "iterations", "loss (mean since the last point)", "Losses",
                  self.run.folder / "losses_vs_iterations.png")  # fmt: skip
        if rows and "score" in rows[-1]:
            scored = self.rows_like(rows[-1])
            name = f"{scored[-1]['score_name']}, {scored[-1]['num_gen']:,} samples"
            save_plot([row["iteration"] for row in scored], [row["score"] for row in scored], "iterations", name,
                      f"{scored[-1]['score_name']} vs iterations", self.run.folder / "fid_vs_iterations.png")  # fmt: skip

    def save(self):
        self.trainer.check_finite()  # a bad state never replaces a good one
        state = self.trainer.state_dict() | {"run": self.same_run, "seconds": time.monotonic() - self.started}
        self.run.save_state(state, STATE_FORMAT)
        self.saved = time.monotonic()

    def seconds_since_saved(self):
        return time.monotonic() - self.saved

    def seconds_since_shown(self):
        return time.monotonic() - self.shown

    def postfix(self):
        """Losses since the last log line and the last score, for the progress bar."""
        self.shown = time.monotonic()
        means = self.trainer.losses.means()
        shown = {"D": means["discriminator_loss"], "G": means.get("generator_loss", float("nan"))}
        shown |= {row["score_name"]: row["score"] for row in self.run.rows if "score" in row}
        return {name: f"{value:.3g}" for name, value in shown.items()}


def describe(row):
    """A log line for people: iteration, losses, score."""
    losses = ", ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in TERMS if name in row)
    return f"[{row['iteration']} {row['kind']}] " + "; ".join(filter(None, [losses, describe_score(row)]))


def describe_score(row):
    """A score with all that it depends on; empty where there is none."""
    if "score" not in row:
        return ""
    statistics = (
        f"statistics of batches of {row['fid_batch']}" if row["fid_mode"] == "train" else "running statistics"
    )
    return f"{row['score_name']} = {row['score']:.2f} ({row['num_gen']:,} samples, {statistics}, {row['features']})"
