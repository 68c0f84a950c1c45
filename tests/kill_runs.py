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
GAN = "--dataset synthetic --batch_size 8 --num_iterations 40 --log_period 10"
VAE = "--dataset synthetic --batch_size 500"
SET_UP = """
import sys
sys.path.insert(0, {gan!r})
import download
download.ARCHIVE_MD5 = {md5!r}
download.prepare_cub({folder!r})
"""


def training(command, options, own="", run="run"):
    """A command that trains into a folder, and goes on there once it has a state."""

    def words(folder):
        begun = (folder / run / "state.pt").exists()  # then --resume says the rest
        how = "--resume" if begun else f"{options} --save_minutes 0.0001"  # after nearly each step
        script, *subcommand = command.split()
        place = folder if own else folder / "run"
        return [str(ROOT / script), *subcommand, *own.split(), *how.split(), "--out_dir", place]

    return words


def sampling(folder):
    model = folder.parent / "model.pt"
    if not model.exists():
        sys.path.insert(0, str(ROOT / "vae"))
        from diffusion.unet import UNet

        torch.manual_seed(0)
        unet = UNet()
        torch.nn.init.normal_(unet.head.weight, std=0.1)
        torch.save(unet.state_dict(), model)
    options = "--num 40 --batch_size 4 --steps 10 --predict v".split()  # no config.json says it
    where = ["--model", model, "--out", folder / "run"]
    return [ROOT / "vae/ddpm.py", "sample", *where, *options]


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
    return ["-c", SET_UP.format(gan=str(ROOT / "gan"), md5=md5, folder=small)]


OWN = f"--log_dir run {VAE.split(' --batch')[0]}"
COMMANDS = {
    "q1_3": training("gan/q1_3.py", GAN),
    "q1_5": training("gan/q1_5.py", GAN),
    "mlp_gan": training("gan/mlp_gan.py", GAN),
    "vae": training(
        "vae/train.py", "--latent_size 8 --num_epochs 4 --batch_size 500", OWN, "run_synthetic"
    ),
    "ddpm train": training("vae/ddpm.py train", f"{VAE} --num_epochs 2"),
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
            values = torch.load(path, weights_only=True).values()
            content = b"".join(value.contiguous().numpy().tobytes() for value in values)
            found[name] = hashlib.sha256(content).hexdigest()
        elif path.name == "metrics.csv":
            rows = csv.DictReader(path.read_text().splitlines())
            found[name] = str([row | {"seconds": ""} for row in rows])
        elif path.suffix in (".png", ".jpg"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def start(words):
    command, env = [sys.executable, *map(str, words)], os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)


def try_command(name, place, kills, rng):
    """Kill it so often, and let it end; returns what went wrong, a line each."""
    command, whole, wrong = COMMANDS[name], Path(place, name, "whole"), []
    whole.mkdir(parents=True)
    begin, process = time.monotonic(), start(command(whole))
    error = process.communicate()[1].decode()
    assert process.returncode == 0, error[-2000:]
    seconds, expected = time.monotonic() - begin, outcome(whole)

    def differences(parts):
        found = outcome(parts)
        names = [n for n in expected.keys() | found.keys() if found.get(n) != expected.get(n)]
        return [f"{name}: other {', '.join(sorted(names))}"] if names else []

    killed, number, ended = 0, 0, False
    while not ended:
        parts = whole.with_name(f"parts{number}")
        parts.mkdir(exist_ok=True)
        process = start(command(parts))
        # From the imports to the end of what is left; after the last kill it is left alone.
        limit = rng.uniform(0.3, 0.9) * seconds if killed < kills else None
        try:
            error = process.communicate(timeout=limit)[1].decode()
            wrong += [f"{name}: {error[-300:]}"] if process.returncode else []
            wrong += differences(parts)
            ended = limit is None or process.returncode != 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            if differences(parts):
                continue  # it goes on there
        number += 1  # it was done: from the start again
    print(f"{name}: {killed} kills, {len(expected)} files compared", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    rng, wrong = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as place:
        for name in args.only:
            wrong += try_command(name, place, -(-args.kills // len(args.only)), rng)
    print("\n".join([f"{len(wrong)} wrong", *wrong]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
