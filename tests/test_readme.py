"""Every command of the README that starts a script, as it stands there, made small."""

import shutil

import pytest
import readme
from forks import ends, run_in_a_fork
from PIL import Image

HANDIN = readme.ROOT / "tests/report/handin"
COMMANDS = [command for half in ("gan", "vae", "report") for command in readme.commands(half)]
COMMITTED = "gan/q1_5.py --evaluate report/runs/wgan_gp_batch256 --fid off --out_dir birds".split()
SMALL = {
    "gan": "--batch_size 2 --num_iterations 1 --log_period 1",
    "vae": "--dataset synthetic --num_epochs 1 --batch_size 1",
}
A_GAN = f"gan/q1_5.py --data_dir IMAGES --fid off {SMALL['gan']}"
A_VAE = f"vae/train.py --log_dir vae_latent1024 --latent_size 4 {SMALL['vae']}"
RESULT = {  # a file that the command leaves
    "gan/q1_3.py": "gan/data_*gan*/samples_1.png",
    "gan/q1_4.py": "gan/data_ls_gan/samples_1.png",
    "gan/q1_5.py": "gan/data_wgan_gp*/samples_1.png",
    "gan/mlp_gan.py": "gan/data_mlp_gan/samples_1.png",
    "gan/resize_dataset.py": "birds_32/19.jpg",
    "vae/train.py": "vae/data/*/model.pt",
    "vae/ddpm.py train": "vae/data/ddpm_synthetic/epoch_0_samples.png",
    "vae/ddpm.py sample": "samples_v/00001.png",
    "vae/ddpm.py reference": "cifar10/00009.png",
    "report/check.py --autograder": "autograder.zip",
    "report/grade.py CLASS": "class.csv",
    "report/build_report.py": "mine/report.pdf",
}


def test_there_are_commands():
    known = {" ".join(command[:2]) for command in COMMANDS} | {command[0] for command in COMMANDS}
    assert RESULT.keys() <= known and COMMITTED in COMMANDS  # gan/test_committed.py has that one


@pytest.fixture
def place(tree):
    """With pictures, a hand-in, and a class of one."""
    out = shutil.ignore_patterns("runs", "figures", "*.pdf", "__pycache__")
    shutil.copytree(readme.ROOT / "report", tree / "report", ignore=out)
    for name in ("README.md", "requirements.txt"):
        shutil.copy(readme.ROOT / name, tree)
    (tree / "report/runs").symlink_to(readme.ROOT / "report/runs")
    shutil.copytree(HANDIN / "vae", tree / "HANDIN/vae")
    shutil.copytree(HANDIN / "vae", tree / "CLASS/alice/vae")
    for name in ("IMAGES", "REFERENCE", "PHOTOS"):
        (tree / name).mkdir()
        for number in range(20):
            shade = Image.new("RGB", (32, 32), (10 * number, 255 - 10 * number, 7 * number))
            shade.save(tree / name / f"{number}.jpg")
    return tree


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != COMMITTED], ids=" ".join)
def test_command(command, place):
    script, *options = command
    half, name = script.split("/")
    if "--evaluate" in options or name in ("grade.py", "build_report.py"):  # of a run
        ends(place, A_VAE if half == "vae" else A_GAN)
        for folder in place.glob("vae/data/*_synthetic"):
            folder.rename(str(folder).removesuffix("_synthetic"))
    if "all" in options:  # nine runs take nine times as long
        with open(place / "vae/presets.py", "a") as file:
            file.write('\nPRESETS = {"ae_latent16": PRESETS["ae_latent16"]}\n')
    if name == "fid.py":
        options += ["--features", "f.pt"]
    elif name in ("train.py", "ddpm.py"):
        small = {"dataset": "synthetic"} if options[0] != "sample" else {"num": "2", "steps": "2"}
        small |= {"num_samples": "3"} if "--evaluate" in options else {}
        trains = "--evaluate" not in options and options[0] not in ("sample", "reference")
        small |= {"num_epochs": "1", "batch_size": "1"} if trains else {}
        options = readme.changed(options, **small)
    elif half == "gan" and name != "resize_dataset.py" and "--evaluate" not in options:
        data = {} if "--dataset" in options else {"data_dir": "IMAGES", "fid": "off"}
        options = readme.changed(options, **data, batch_size="2", num_iterations="1")
    code, told = run_in_a_fork(place, " ".join([script, *options]))
    assert code == 0 or (half, code) == ("report", 1), told
    left = RESULT.get(f"{script} {options[0]}" if options else script) or RESULT.get(script)
    assert left is None or list(place.glob(left))
