"""What --evaluate does: a saved model is validated and drawn again; nothing is trained."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import torch
from losses import Autoencoder
from pictures import check_new_folder, save_pictures
from presets import build, losses_of
from utils import get_dataloaders, vis_recons, vis_samples

from common import InputError
from common.device import choose_precision, prepare, resolve_device
from common.files import atomic, fingerprint, is_writable, load_weights
from common.measure import measuring
from common.run import as_options, check_data, check_paths, recorded_settings


def evaluate(args: Namespace, get_val_metrics: Callable) -> None:
    """With its run's settings. The results go beside its file, or to --out_dir. InputError."""
    path = Path(args.evaluate)
    path = path if path.is_file() or path.suffix == ".pt" else path / "model.pt"
    folder, given = path.parent, dict(args.given)
    recorded = recorded_settings(folder, "--evaluate")
    if "loss_mode" not in recorded:
        what = "is not that of a run of train.py" if recorded else "is missing"
        raise InputError(
            f"--evaluate: {folder / 'config.json'} {what}; give a run's folder, or its model.pt "
            "beside its config.json"
        )
    if recorded["loss_mode"] not in ("ae", "vae"):
        raise InputError(
            f"--evaluate: the run in {folder} has a loss of its own ({recorded['loss_mode']}); "
            "call vis_samples and get_val_metrics from its file"
        )
    out = Path(given.get("out_dir", folder))
    if not is_writable(out):
        raise InputError(f"--evaluate: {out} cannot be written; give another --out_dir")
    if "data_dir" in given:
        given = {"dataset": "cifar10"} | given
    names = (*args.parser.defaults(), "network")
    known = {name: recorded[name] for name in names if recorded.get(name) is not None}
    known = as_options(known, args.parser, folder)
    options = Namespace(**vars(args) | known | given)
    if options.dataset == "unnamed":
        raise InputError(f"--evaluate: the run in {folder} does not name its data; give --data_dir")
    check_paths(folder, options, given)
    options.device = resolve_device(given.get("device"))
    amp_enabled = not args.disable_amp and recorded.get("number_format") != "float32"
    precision = choose_precision(options.device, amp_enabled)
    model = build(options.loss_mode, options.latent_size, options.base_channels, options)
    load_weights(model, path, "--evaluate")  # before the data, which take a while
    model = model.to(options.device).to(memory_format=torch.channels_last)
    if args.num_samples:
        check_new_folder(out / "samples", args.overwrite, "--num_samples")
    train_loader, val_loader = get_dataloaders(options.batch_size, options)
    data = fingerprint(train_loader.images, val_loader.images)
    check_data(folder, recorded, data)
    prepare(precision)
    _, loss = losses_of(options.loss_mode, options)
    losses = get_val_metrics(model, loss, val_loader, precision=precision)
    row = {"model": path.name} | {f"val_{name}": value for name, value in losses.items()}
    row |= {"images": len(val_loader.images), "data": data, "number_format": precision.name}
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed + 1)  # the latents of the run's own pictures
    vis_samples(model, out / path.stem)
    vis_recons(model, val_loader.images[:36], out / path.stem)
    if args.num_samples:
        save_samples(model, args.num_samples, options.seed, out / "samples")
    with atomic(out / f"{path.stem}_score.json") as unfinished:
        unfinished.write_text(json.dumps(row, indent=2) + "\n")
    shown = ", ".join(f"{name.replace('_', ' ')} {losses[name]:.2f}" for name in losses)
    print(f"{path}: validation: {shown}; pictures are in {out}")


def save_samples(model: Autoencoder, count: int, seed: int, folder: Path) -> None:
    """Decoded latents from N(0, I) as PNGs, for gan/fid.py."""
    with measuring(model, seed=seed + 2) as device:  # other latents than those of the pictures
        # (count, latent_size), drawn on the CPU: the same on every device.
        z = torch.randn(count, model.latent_size).to(device)
        images = torch.cat([model.decoder(part).float().cpu() for part in z.split(500)])
    save_pictures(images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8), folder)
