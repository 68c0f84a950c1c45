"""Kill runs at random moments, as a power cut would, and compare how they end with runs left alone.

    python tests/kill_runs.py [--kills 100] [--seed 0]

`kill -9` is spread over the GANs, an autoencoder, the diffusion model's training and sampling, and
the set-up of CUB from a small archive, each in a fork and a copy with tiny GANs. After each kill
the same command is started again, with --resume where there is a state. At the end weights,
pictures and metrics (but for the seconds) must be those of the run that was left alone, bit for
bit. Not collected by pytest: it takes minutes.
"""

import argparse
import csv
import hashlib
import os
import random
import signal
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import tiny
from forks import Fork
from PIL import Image
from readme import ROOT

GAN = "--batch_size 8 --num_iterations 400 --log_period 100"
MODEL = ROOT / "report/runs/ddpm_v/model.pt"
COMMANDS = {  # a command, and what is recorded once it has begun
    "gan/q1_3.py --dataset synthetic": GAN,
    "gan/q1_5.py --dataset synthetic": GAN,
    "gan/mlp_gan.py --dataset synthetic": GAN,
    "vae/train.py --log_dir run --dataset synthetic": "--num_epochs 9 --batch_size 2",
    "vae/ddpm.py train --dataset synthetic": "--num_epochs 4 --batch_size 2",
    f"vae/ddpm.py sample --model {MODEL} --num 40 --steps 9 --out drawn": "",
    "gan/download.py": "",
}


def planted(folder):
    """A copy of both halves, and an archive of 400 pictures."""
    folder.mkdir(parents=True)
    originals, archive = folder / "originals", folder / "gan/datasets/CUB_200_2011.tgz"
    tiny.plant(folder)
    originals.mkdir(), archive.parent.mkdir()
    for number in range(400):
        bird = Image.linear_gradient("L").rotate(number).resize((160, 120)).convert("RGB")
        bird.save(originals / f"{number}.jpg")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(originals, "CUB_200_2011/images")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    tiny.edit(folder / "gan/download.py", "97eceeb196236b17998738112f37df78", md5)
    return folder


def start(tree, command):
    options = COMMANDS[command] and f"{COMMANDS[command]} --save_minutes 1e-9"  # at each step
    begun = COMMANDS[command] and any(tree.rglob("state.pt"))  # then --resume says the rest
    return Fork(tree, f"{command} {'--resume' if begun else options}", tree, tree / "errors")


def outcome(folder):
    """{file: what it holds} of all that has to be the same: rows but for their seconds."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.name.startswith(".unfinished"):
            found[name] = "left behind"
        elif path.suffix in (".pt", ".png", ".jpg") and path.name != "state.pt":
            found[name] = path.read_bytes()
        elif path.name == "metrics.csv":
            rows = csv.DictReader(path.read_text().splitlines())
            found[name] = [row | {"seconds": ""} for row in rows]
    return found


def try_command(command, place, kills, rng):
    """Kill it so often, and let it end; returns what went wrong, a line each."""
    whole, parts, begin = planted(place / "whole"), planted(place / "0"), time.monotonic()
    code, told = start(whole, command).wait()
    assert code == 0, told
    seconds, expected, killed, wrong = time.monotonic() - begin, outcome(whole), 0, []

    def differences():
        found = outcome(parts)
        names = [n for n in expected.keys() | found.keys() if found.get(n) != expected.get(n)]
        return [f"{command}: other {', '.join(sorted(names))}"] if names else []

    while True:
        run = start(parts, command)
        if killed < kills:  # after the last kill it is left alone
            time.sleep(rng.uniform(0, 0.9) * seconds)
            run.send_signal(signal.SIGKILL)
        killed, (code, told) = killed + (killed < kills), run.wait()
        wrong += [f"{command}: {told[-300:]}"] if code not in (0, -signal.SIGKILL) else []
        if code != -signal.SIGKILL and killed == kills:
            break
        if not differences():  # it was done: from the start again
            parts = planted(place / str(killed))
    print(f"{command}: {killed} kills, {len(expected)} files compared", file=sys.stderr)
    return wrong + differences()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sys.stdout = open(os.devnull, "w")  # of the commands
    rng, wrong = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as place:
        for number, command in enumerate(COMMANDS):
            kills = -(-args.kills // len(COMMANDS))
            wrong += try_command(command, Path(place, str(number)), kills, rng)
    print("\n".join([f"{len(wrong)} wrong", *wrong]), file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
