"""What a run writes at the end of an epoch: losses, plots, pictures, weights, state."""

import math
import time

from errors import NonFiniteError
from files import save_plot

STATE_FORMAT = "vae-state-1"
# What a run leaves behind; --overwrite removes these and nothing else.
RESULTS = (
    "config.json", "metrics.csv", "state.pt", "model.pt", "epoch_*_recons.png", "epoch_*_samples.png",
    "*_vs_epochs.png", "events.out.tfevents.*",
)  # fmt: skip
TERMS = ("loss", "recon_loss", "kl_loss")
COLUMNS = (
    "epoch", "beta", *(f"{part}_{term}" for part in ("train", "val") for term in TERMS), "active_latents", "seconds",
)  # fmt: skip


class Logger:
    """What happens at the end of an epoch. It measures and writes; it changes nothing in training."""

    def __init__(self, run, trainer, same_run, save_minutes, seconds):
        self.run, self.trainer, self.same_run, self.save_minutes = run, trainer, same_run, save_minutes
        self.name = run.folder.name
        self.started = time.monotonic() - seconds
        self.saved = time.monotonic()

    def log(self, beta, train_means, val_means, count_latents):
        self.trainer.check_finite()
        if not all(map(math.isfinite, val_means.values())):
            raise NonFiniteError(f"a validation loss is not finite: {dict(val_means)}")
        row = {"epoch": self.trainer.epoch} | ({} if beta is None else {"beta": float(beta)})
        row |= {f"train_{name}": value for name, value in train_means.items()}
        row |= {f"val_{name}": value for name, value in val_means.items()}
        row |= self.trainer.active_latents() if count_latents else {}
        self.run.add_row(row | {"seconds": round(time.monotonic() - self.started, 1)})
        epochs = [row["epoch"] for row in self.run.rows]
        for term in train_means:
            betas = (" (its beta)", " (beta 1)") if term == "loss" and "kl_loss" in train_means else ("", "")
            curves = {label + beta_of: [row[f"{part}_{term}"] for row in self.run.rows]
                      for part, label, beta_of in zip(("train", "val"), ("training", "validation"), betas)}  # fmt: skip
            title = {"loss": "Total loss", "recon_loss": "Reconstruction loss", "kl_loss": "KL loss"}[term]
            unit = {
                "loss": self.trainer.loss_unit,
                "recon_loss": "squared error per image",
                "kl_loss": "nats per image",
            }[term]
            save_plot(
                epochs,
                curves,
                "epochs",
                unit,
                f"{title}, {self.name}",
                self.run.folder / f"{term}_vs_epochs.png",
            )

    def save_pictures(self):
        for tag, grid in self.trainer.save_pictures(self.run.folder).items():
            self.run.events.add_image(tag, grid, self.trainer.epoch)

    def save_if_due(self):
        if time.monotonic() - self.saved > 60 * self.save_minutes:
            self.save()

    def save(self):
        self.trainer.check_finite()  # a bad state never replaces a good one
        state = self.trainer.state_dict() | {"run": self.same_run, "seconds": time.monotonic() - self.started}
        self.run.save_state(state, STATE_FORMAT)
        self.saved = time.monotonic()
