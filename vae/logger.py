"""What a run writes at the end of an epoch: losses, plots, films."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

from common import NonFiniteError
from common.files import save_film, save_plot
from common.measure import progress_bar
from common.run import Layout, Run

# What `--evaluate` writes of a model.
EVALUATIONS = ("model_recons.png", "model_samples.png", "model_score.json")
CURVES = {  # term: title and unit of its plot
    "loss": ("Total loss", "loss per image (validation: beta 1)"),
    "recon_loss": ("Reconstruction loss", "squared error per image"),
    "kl_loss": ("KL loss", "nats per image"),
}
LAYOUT = Layout(
    state_format="vae-state-3",
    columns=(
        *("epoch", "beta"),
        *(f"{part}_{term}" for part in ("train", "val") for term in CURVES),
        *("active_latents", "seconds"),
    ),
    results=(
        *("config.json", "metrics.csv", "state.pt", "model.pt", *EVALUATIONS),
        *("epoch_*_recons.png", "epoch_*_samples.png", "recons.gif", "samples.gif"),
        *("*_vs_epochs.png", "events.out.tfevents.*"),
    ),
    may_change=(*("num_epochs", "eval_interval", "save_minutes", "dataset", "data_dir"),),
)


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
    rows, sides = run.rows, {"training": "train", "validation": "val"}
    curves = {
        side: [row.get(f"{part}_{term}", math.nan) for row in rows] for side, part in sides.items()
    }
    title, unit = CURVES.get(term, (term.replace("_", " "), ""))
    mode = run.settings.get("loss_mode")  # a loss of one's own has a unit of its own
    unit = "squared error per pixel" if mode is None else unit * (mode in ("ae", "vae"))
    path = run.folder / f"{term}_vs_epochs.png"
    steps = [row["epoch"] for row in rows]
    save_plot(steps, curves, "epochs", unit, f"{title}, {run.folder.name}", path)


def is_drawn(run: Run) -> bool:
    """Whether the pictures of the last epoch are there."""
    return (run.folder / f"epoch_{run.step - 1}_samples.png").exists()


def epochs(
    run: Run, loader: Any, eval_interval: int, save_pictures: Callable[[int], None]
) -> Iterator[tuple[int, tqdm]]:
    """The epochs that are left, with a bar of their steps; each is drawn and saved after it.

    Whoever asks trains, validates and adds the row. loader: of training, as `run` keeps it.
    """
    if run.step > 0:
        run.save()  # a state from elsewhere stands here too
    if run.step == run.total and not is_drawn(run):
        save_pictures(run.step - 1)  # a longer run, which is ended here after all
    steps, how = len(loader), {"unit": "step", "desc": run.folder.name}
    done = run.step * steps + loader.taken
    with progress_bar(initial=done, total=run.total * steps, **how) as bar:
        while run.step < run.total:
            yield run.step, bar
            run.step += 1
            if run.step == run.total or run.step % eval_interval == 0:
                save_pictures(run.step - 1)
            run.parts["means"].clear()  # the next epoch's begin here
            run.save()
            if run.step < run.total:
                run.check_signal()  # one that came during validation or pictures
    for kind in ("recons", "samples"):
        film = run.folder / f"{kind}.gif"
        save_film(run.folder, f"epoch_[0-9]*_{kind}.png", film, seconds=0.7)
    print(f"Results are in {run.folder}")
