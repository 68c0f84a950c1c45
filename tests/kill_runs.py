"""Kill runs at random moments, as a power cut would, and compare how they end with runs left alone.

    python tests/kill_runs.py [--kills 100] [--seed 0]

`kill -9` is spread over the GANs, an autoencoder, the diffusion model's training and sampling, and
the set-up of CUB from a small archive. After each kill the same command is started again, with
--resume where there is a state. At the end weights and metrics (but for the seconds) must be those
of the run that was left alone, bit for bit. Not collected by pytest: it takes about ten minutes.
"""

import argparse
import csv
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
GAN = [
    "--dataset",
    "synthetic",
    "--batch_size",
    "8",
    "--num_iterations",
    "40",
    "--log_period",
    "10",
]
VAE = ["--dataset", "synthetic", "--batch_size", "500"]
OFTEN = ["--save_minutes", "0.0001"]  # a state after nearly every step
SET_UP = """
import hashlib, sys
sys.path.insert(0, {gan!r})
import download
download.ARCHIVE_MD5 = {md5!r}
download.prepare_cub({folder!r})
"""


def training(script, *options):
    """A command that trains into a folder, and goes on there once it has a state."""

    def command(folder):
        begun = (folder / "run" / "state.pt").exists()  # then --resume says the rest
        command, *rest = options if options[0] == "train" else ("", *options)
        how = ["--resume"] if begun else [*rest, *OFTEN]
        place = ["--out_dir", str(folder / "run")]
        return [sys.executable, str(ROOT / script), *filter(None, [command]), *how, *place]

    return command


def autoencoder(folder):
    begun = (folder / "run_synthetic" / "state.pt").exists()
    own = ["--latent_size", "8", "--num_epochs", "4", *VAE[2:], *OFTEN]
    where = ["--log_dir", "run", "--out_dir", str(folder), *VAE[:2]]
    how = ["--resume"] if begun else own
    return [sys.executable, str(ROOT / "vae/train.py"), *where, *how]


def sampling(folder):
    model = folder.parent / "model.pt"
    if not model.exists():
        sys.path.insert(0, str(ROOT / "vae"))
        from diffusion.unet import UNet

        torch.manual_seed(0)
        unet = UNet()
        torch.nn.init.normal_(unet.head.weight, std=0.1)
        torch.save(unet.state_dict(), model)
    options = ["--num", "40", "--batch_size", "4", "--steps", "10", "--out", str(folder / "run")]
    options += ["--predict", "v"]  # no config.json says it
    return [sys.executable, str(ROOT / "vae/ddpm.py"), "sample", "--model", str(model), *options]


def set_up(folder):
    archive = folder / "CUB_200_2011.tgz"
    if not archive.exists():
        rng = np.random.default_rng(0)
        with tarfile.open(archive, "w:gz") as tar:
            for index in range(400):
                pixels = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"CUB_200_2011/images/{index // 20:03d}/{index}.jpg")
                member.size = buffer.tell()
                buffer.seek(0)
                tar.addfile(member, buffer)
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    small = str(folder / "CUB_200_2011_32")
    return [sys.executable, "-c", SET_UP.format(gan=str(ROOT / "gan"), md5=md5, folder=small)]


COMMANDS = {
    "q1_3": training("gan/q1_3.py", *GAN),
    "q1_5": training("gan/q1_5.py", *GAN),
    "mlp_gan": training("gan/mlp_gan.py", *GAN),
    "vae": autoencoder,
    "ddpm train": training("vae/ddpm.py", "train", *VAE, "--num_epochs", "2"),
    "ddpm sample": sampling,
    "set-up": set_up,
}


def outcome(folder):
    """{file: what it holds} of all that has to be the same."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith(".unfinished"):
            found[name] = "left behind"
        elif path.suffix == ".pt" and path.name != "state.pt":
            weights = torch.load(path, weights_only=True)
            found[name] = hashlib.sha256(
                b"".join(value.contiguous().numpy().tobytes() for value in weights.values())
            ).hexdigest()
        elif path.name == "metrics.csv":
            with open(path, newline="") as file:
                rows = [
                    {k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)
                ]
            found[name] = str(rows)
        elif path.suffix in (".png", ".jpg"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(name, found, expected, kills):
    """What a run that was killed says of itself, where it is not what it should be."""
    files = [
        file for file in expected.keys() | found.keys() if found.get(file) != expected.get(file)
    ]
    return [f"{name}: after {kills} kills other {', '.join(sorted(files))}"] if files else []


def start(command):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    rng, wrong, total = random.Random(args.seed), [], 0
    share = -(-args.kills // len(args.only))
    with tempfile.TemporaryDirectory() as place:
        for name in args.only:
            command = COMMANDS[name]
            whole, parts = Path(place, name, "whole"), Path(place, name, "parts")
            whole.mkdir(parents=True), parts.mkdir()
            begin = time.monotonic()
            process = start(command(whole))
            _, error = process.communicate()
            assert process.returncode == 0, error.decode()[-2000:]
            seconds, kills, done = time.monotonic() - begin, 0, 0
            expected = outcome(whole)
            while kills < min(share, args.kills - total):
                if outcome(parts) == expected:  # the last kill came after all was done
                    done += 1
                    parts = parts.with_name(f"parts{done}")
                    parts.mkdir()
                process = start(command(parts))
                try:
                    # From the imports to the end of what is left.
                    process.wait(timeout=rng.uniform(0.3, 0.9) * seconds)
                    if process.returncode:
                        wrong.append(f"{name}: {process.stderr.read().decode()[-300:]}")
                        break
                    wrong += differences(name, outcome(parts), expected, kills)
                    done += 1
                    parts = parts.with_name(f"parts{done}")  # it was done: from the start again
                    parts.mkdir()
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    kills += 1
            if outcome(parts) != expected:  # else the last kill came after all was done
                process = start(command(parts))
                _, error = process.communicate()
                if process.returncode:
                    wrong.append(f"{name}: {error.decode()[-300:]}")
                wrong += differences(name, outcome(parts), expected, kills)
            total += kills
            print(
                f"{name}: {kills} kills, {done + 1} runs ended, {len(expected)} files compared",
                flush=True,
            )
    print(f"{total} kills, {len(wrong)} wrong")
    for line in wrong:
        print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
