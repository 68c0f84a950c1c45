"""What a GAN run writes at a log line: scores, pictures, plots, weights, state."""

import math
import shutil
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fid import Features, Reference, describe_quality
from networks import reestimate_statistics
from torch import Tensor, nn
from tqdm import tqdm
from utils import draw, interpolate_latent_space, picture_latents, save_plot, score_row

from common.files import atomic, save_film, save_grid, save_weights
from common.measure import preserved
from common.run import Layout, Run

LOSSES = ("discriminator_loss", "generator_loss")
TERMS = {  # of a row, and their short names beside the bar
    **{"discriminator_loss": "D", "gradient_norm": "|grad|", "gradient_penalty": "penalty"},
    **{"real_score": "D(x)", "fake_score": "D(G(z))", "generator_loss": "G"},
}
SCORE = ("score", "score_ema", "score_name", "num_gen", "fid_mode", "fid_batch", "features")
QUALITY = ("kid", "kid_std", "precision", "recall")  # of the images of a final score
WEIGHTS = ("generator", "generator_ema", "generator_best")
PICTURES = ("samples", "interpolations", "around_a_sample", "between_samples")
# What --evaluate writes beside a run's generator, after its name.
EVALUATIONS = ("_score_*.json", *(f"_{name}.png" for name in PICTURES))
RATES = ("lr_discriminator", "lr_generator")
LAYOUT = Layout(
    state_format="gan-state-3",
    columns=("iteration", "kind", *TERMS, *RATES, *SCORE, *QUALITY, "seconds"),
    results=(
        *("config.json", "metrics.csv", "state.pt", "discriminator.pt", "samples.gif"),
        *("fid_vs_iterations.png", "losses_vs_iterations.png", "events.out.tfevents.*"),
        *(f"{name}_*.png" for name in PICTURES),
        *(name + kind for name in WEIGHTS for kind in (".pt", *EVALUATIONS)),
    ),
    may_change=(
        *("num_iterations", "log_period", "score_period", "save_minutes", "dataset", "data_dir"),
        *("fid", "fid_mode", "num_gen", "inception_weights"),
    ),
)


class Logger:
    """What happens at a log line. It measures and writes; it never changes what is trained."""

    def __init__(
        self,
        run: Run,
        parts: dict[str, Any],
        options: Namespace,
        images: Tensor,
        stats_folders: Sequence[Path],
    ):
        """images: uint8 (N, 3, 32, 32), what is scored against. parts: what `run` keeps."""
        self.run, self.parts, self.options = run, parts, options
        names = ("generator", "generator_ema")
        self.generators = {name: parts[name] for name in names if name in parts}
        self.gen, self.means = parts["generator"], parts["means"]
        device = next(self.gen.parameters()).device
        self.latents = picture_latents(options.seed, device)
        self.reference: Any = None  # a Reference, unless --fid is off
        if options.fid != "off":
            features = Features(options.fid, device, options.inception_weights)
            self.reference = Reference(images, features, stats_folders)
        self.features = self.reference.features.key if self.reference else None
        self.shown = time.monotonic()

    def begin(self) -> None:
        """For a state from elsewhere: it, and what belongs to it, stand here too."""
        run = self.run
        if run.step > 0:
            run.save()
        if run.rows and not (run.folder / "generator.pt").exists():
            self.save_pictures(run.step)
            self.save_plots()
            best = run.resumed_from / "generator_best.pt"
            if best.is_file():
                with atomic(run.folder / best.name) as unfinished:
                    shutil.copy(best, unfinished)

    def has(self, iteration: int, kind: str = "log") -> bool:
        """Whether a resumed run has that row already."""
        rows = self.run.rows
        return any((row["iteration"], row["kind"]) == (iteration, kind) for row in rows)

    def log(self, iteration: int, scored: bool) -> None:
        """The row of this iteration, pictures and weights; then the state."""
        row: dict = {"iteration": iteration, "kind": "log"} | self.means.means()
        for name, scheduler in zip(RATES, ("sched_disc", "sched_gen"), strict=True):
            row[name] = self.parts[scheduler].get_last_lr()[0]
        self.save_pictures(iteration)
        if scored and self.reference:
            row |= self.score(self.options.num_gen[0])
            earlier = [old for old in self.run.rows if "score" in old and old["kind"] == "log"]
            if earlier and earlier[0] not in self.rows_like(row):
                tqdm.write("generator_best.pt stays: this score does not compare with its own")
            elif all(row["score"] < old["score"] for old in self.rows_like(row)):
                self.replace_weights("generator_best", self.gen)
        self.run.add_row(row)
        self.means.clear()  # the next line's means begin here
        self.save_plots()
        tqdm.write(describe(row))
        self.run.save()

    def finish(self, iteration: int) -> None:
        """At the end: the score of more samples, and a film of the fixed ones."""
        if self.reference and not self.has(iteration, "final"):
            row = {"iteration": iteration, "kind": "final"}
            row |= self.score(self.options.num_gen[1], quality=True)
            self.run.add_row(row, "final/")
            tqdm.write(describe(row))
            self.run.save()
        folder = self.run.folder
        save_film(folder, "samples_[0-9]*.png", folder / "samples.gif", seconds=0.3)
        print(f"Results are in {folder}")

    def score(self, num_gen: int, quality: bool = False) -> dict:
        """The scores of generator and average with all that they depend on."""
        self.run.save()  # scoring may take longer than training since the last save
        found: dict = {}
        for name, gen in self.generators.items():
            own = gen is self.gen
            how = (self.options, num_gen, quality and own, self.run.check_signal)
            row = score_row(gen, self.reference, *how)
            found |= row if own else {name.replace("generator", "score"): row["score"]}
        return found

    def rows_like(self, row: dict) -> list[dict]:
        """Earlier log lines whose scores compare with this one's."""
        same = ("kind", "score_name", "features", "fid_mode", "num_gen")
        return [old for old in self.run.rows if all(old.get(key) == row[key] for key in same)]

    def save_pictures(self, iteration: int) -> None:
        """Samples, interpolations and weights, unless something is not finite."""
        self.run.check_finite()
        folder = self.run.folder
        for name, gen in self.generators.items():
            kind = name.removeprefix("generator")  # "" or "_ema"
            # Training moves the generator's own statistics, and they stay; the average has these.
            with preserved(gen) if gen is self.gen else nullcontext():
                reestimate_statistics(gen)
                interpolate_latent_space(
                    gen, folder / f"interpolations{kind}_{iteration}.png", False
                )
                for picture, images in draw(gen, self.latents, False).items():
                    grid = save_grid(images, folder / f"{picture}{kind}_{iteration}.png")
                    if picture == "samples":
                        self.run.events.add_image(f"samples{kind}", grid, iteration)
            self.replace_weights(name, gen)
        save_weights(self.parts["discriminator"], folder / "discriminator.pt")

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
        losses = {n.replace("_", " "): [row.get(n, math.nan) for row in rows] for n in LOSSES}
        path = self.run.folder / "losses_vs_iterations.png"
        save_plot(steps, losses, "iterations", "loss (mean since the last point)", "Losses", path)
        if last := next((row for row in reversed(rows) if "score" in row), None):
            scored = self.rows_like(last)
            steps, scores = ([row[key] for row in scored] for key in ("iteration", "score"))
            name = last["score_name"]
            measure = f"{name}, {last['num_gen']:,} samples"
            path = self.run.folder / "fid_vs_iterations.png"
            save_plot(steps, scores, "iterations", measure, f"{name} vs iterations", path)

    def show_in_tensorboard(self, terms: dict[str, Tensor], iteration: int) -> None:
        """The losses of one iteration."""
        values = {name: float(term) for name, term in terms.items()}
        self.run.add_scalars(values, iteration, "iteration/")

    def show(self, bar: tqdm) -> None:
        """One iteration more; every two seconds also its losses and the last score."""
        bar.update()
        if time.monotonic() - self.shown < 2:
            return
        self.shown = time.monotonic()
        # Reading a mean waits for the device: not in every step.
        shown = {TERMS[name]: mean for name, mean in self.means.means().items()}
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
