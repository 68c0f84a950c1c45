"""What a run writes at the end of an epoch: losses, plots, films."""

import math
from collections.abc import Mapping

from common import NonFiniteError
from common.files import save_film, save_plot
from common.run import Layout, Run

# What `--evaluate` writes of a model.
EVALUATIONS = ("model_recons.png", "model_samples.png", "model_score.json")
TERMS = ("loss", "recon_loss", "kl_loss")
LAYOUT = Layout(
    state_format="vae-state-3",
    columns=(
        *("epoch", "beta"),
        *(f"{part}_{term}" for part in ("train", "val") for term in TERMS),
        *("active_latents", "seconds"),
    ),
    results=(
        *("config.json", "metrics.csv", "state.pt", "model.pt", *EVALUATIONS),
        *("epoch_*_recons.png", "epoch_*_samples.png", "recons.gif", "samples.gif"),
        *("*_vs_epochs.png", "events.out.tfevents.*"),
    ),
    may_change=(
        *("num_epochs", "eval_interval", "patience", "save_minutes", "dataset", "data_dir"),
    ),
)
TITLES = {"loss": "Total loss", "recon_loss": "Reconstruction loss", "kl_loss": "KL loss"}
UNITS = {
    "loss": "loss per image",
    "recon_loss": "squared error per image",
    "kl_loss": "nats per image",
}


def log_epoch(run: Run, row: dict, train_metrics: Mapping, val_metrics: Mapping) -> str:
    """The row of an epoch, and the curves so far; returns it for people."""
    run.check_finite()
    if not all(map(math.isfinite, val_metrics.values())):
        raise NonFiniteError(f"a validation loss is not finite: {dict(val_metrics)}")
    row = row | {f"train_{name}": value for name, value in train_metrics.items()}
    run.add_row(row | {f"val_{name}": value for name, value in val_metrics.items()})
    for term in train_metrics:
        save_curves(run, term)
    shown = ", ".join(
        f"{name.replace('_', ' ')} {value:.{2 if value > 1 else 5}f}"
        for name, value in val_metrics.items()
    )
    return f"{run.folder.name}: validation at epoch {row['epoch']}: {shown}"


def save_curves(run: Run, term: str) -> None:
    """Training and validation curve of a loss term."""
    rows = run.rows
    weighted = term == "loss" and "train_kl_loss" in rows[-1]
    labels = (
        ("training (its beta)", "validation (beta 1)") if weighted else ("training", "validation")
    )
    curves = {
        label: [row.get(f"{part}_{term}", math.nan) for row in rows]
        for part, label in zip(("train", "val"), labels, strict=True)
    }
    title = TITLES.get(term, term.replace("_", " "))
    unit = UNITS.get(term, "") if "train_recon_loss" in rows[-1] else "squared error per pixel"
    path = run.folder / f"{term}_vs_epochs.png"
    epochs = [row["epoch"] for row in rows]
    save_plot(epochs, curves, "epochs", unit, f"{title}, {run.folder.name}", path)


def save_films(run: Run) -> None:
    """At the end: the reconstructions and samples through the training."""
    for kind in ("recons", "samples"):
        film = run.folder / f"{kind}.gif"
        save_film(run.folder, f"epoch_*_{kind}.png", film, seconds=0.7)


def stopped_improving(rows: list[dict], patience: int | None) -> bool:
    """Whether `patience` epochs have brought no better validation loss; None: never."""
    if patience is None or not rows:
        return False
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) >= patience  # the first of equal ones
