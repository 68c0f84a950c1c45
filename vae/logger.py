"""What a run writes at the end of an epoch: losses, plots, pictures, weights, state."""

import math
from typing import TYPE_CHECKING

from common import NonFiniteError
from common.files import save_film, save_plot
from common.run import Layout, RunFolder

if TYPE_CHECKING:
    from train import Trainer

# What `--evaluate` writes of a model.
EVALUATIONS = ("model_recons.png", "model_samples.png", "model_score.json")
TERMS = ("loss", "recon_loss", "kl_loss")
LAYOUT = Layout(
    state_format="vae-state-2",
    columns=(
        *("epoch", "beta"),
        *(f"{part}_{term}" for part in ("train", "val") for term in TERMS),
        *("active_latents", "seconds"),
    ),
    results=(
        "config.json",
        "metrics.csv",
        "state.pt",
        "model.pt",
        *EVALUATIONS,
        "epoch_*_recons.png",
        "epoch_*_samples.png",
        "recons.gif",
        "samples.gif",
        "*_vs_epochs.png",
        "events.out.tfevents.*",
    ),
)
TITLES = {"loss": "Total loss", "recon_loss": "Reconstruction loss", "kl_loss": "KL loss"}
UNITS = {
    "loss": "loss per image",
    "recon_loss": "squared error per image",
    "kl_loss": "nats per image",
}


class Logger:
    """What happens at the end of an epoch. It measures and writes; it changes nothing trained."""

    def __init__(self, run: RunFolder, trainer: "Trainer"):
        self.run, self.trainer = run, trainer

    def log(self, train_means: dict, val_means: dict, extra: dict) -> None:
        """The row of an epoch, and the curves so far."""
        self.trainer.check_finite()
        if not all(map(math.isfinite, val_means.values())):
            raise NonFiniteError(f"a validation loss is not finite: {dict(val_means)}")
        row = {"epoch": self.trainer.epoch} | extra
        row |= {f"train_{name}": value for name, value in train_means.items()}
        row |= {f"val_{name}": value for name, value in val_means.items()}
        self.run.add_row(row)
        for term in train_means:
            self.save_plot(term)

    def save_plot(self, term: str) -> None:
        """Training and validation curve of a loss term."""
        rows, name = self.run.rows, self.run.folder.name
        weighted = term == "loss" and "train_kl_loss" in rows[-1]
        labels = (
            ("training (its beta)", "validation (beta 1)")
            if weighted
            else ("training", "validation")
        )
        curves = {
            label: [row[f"{part}_{term}"] for row in rows]
            for part, label in zip(("train", "val"), labels, strict=True)
        }
        epochs = [row["epoch"] for row in rows]
        unit = (UNITS | self.trainer.units)[term]
        path = self.run.folder / f"{term}_vs_epochs.png"
        save_plot(epochs, curves, "epochs", unit, f"{TITLES[term]}, {name}", path)

    def save_pictures(self) -> None:
        """Also to TensorBoard. What was measured of the weights before goes with them."""
        for name in EVALUATIONS:
            (self.run.folder / name).unlink(missing_ok=True)
        for tag, grid in self.trainer.save_pictures(self.run.folder).items():
            self.run.events.add_image(tag, grid, self.trainer.epoch)

    def animate(self) -> None:
        """At the end: the reconstructions and samples through the training."""
        for kind in ("recons", "samples"):
            film = self.run.folder / f"{kind}.gif"
            save_film(self.run.folder, f"epoch_*_{kind}.png", film, seconds=0.7)
