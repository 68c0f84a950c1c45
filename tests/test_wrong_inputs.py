"""Every command with input that cannot be used: one line, exit code 2, nothing written."""

import json
import os

import pytest
import tiny
import torch
from forks import run_in_a_fork
from PIL import Image
from readme import ROOT

GAN, VAE = "--dataset synthetic --out_dir out", "--dataset synthetic --out_dir out"
# command, and what its line must name; the files are made below
WRONG = [
    (f"gan/q1_3.py --num_iterations 1e3 {GAN}", "--num_iterations: got '1e3', expected int"),
    (f"gan/q1_3.py --bach_size 8 {GAN}", "did you mean --batch_size?"),
    (f"gan/q1_3.py --seed 1 --seed 2 {GAN}", "--seed is given twice"),
    (f"gan/q1_4.py --seed 99999999999999999999 {GAN}", "--seed"),
    (f"gan/q1_4.py --device tpu {GAN}", "--device: got 'tpu', expected cpu, cuda or cuda:N"),
    (f"gan/q1_5.py --device cuda:7 {GAN}", "--device: got 'cuda:7'"),
    (f"gan/q1_5.py --save_minutes 0 {GAN}", "--save_minutes: got '0', expected a finite float > 0"),
    (f"gan/q1_5.py --download {GAN}", "--download goes with --dataset cub"),
    (f"gan/q1_5.py --fid missing.pt {GAN}", "--fid: no file missing.pt"),
    (f"gan/q1_5.py --fid words.txt --batch_size 2 {GAN}", "words.txt is not a TorchScript"),
    ("gan/q1_5.py --data_dir words.txt --fid off --out_dir out", "words.txt is a file"),
    (f"gan/q1_5.py --resume --overwrite {GAN}", "--overwrite: not allowed with argument --resume"),
    ("gan/q1_5.py --dataset synthetic --out_dir words.txt", "words.txt is a file, expected"),
    ("gan/q1_5.py --evaluate words.txt --fid off", "words.txt"),
    ("gan/q1_5.py --evaluate missing.pt --fid off", "no file missing.pt; its folder has gen"),
    ("gan/q1_5.py --evaluate generator.pt --fid off --out_dir words.txt", "cannot be written"),
    (f"gan/mlp_gan.py --ema 1 {GAN}", "--ema"),
    ("gan/fid.py nowhere picture", "nowhere"),
    ("gan/fid.py picture picture --features missing.pt", "missing.pt"),
    ("gan/resize_dataset.py --input_folder nowhere --output_folder out", "nowhere"),
    ("gan/resize_dataset.py --input_folder large --output_folder large", "large"),
    ("gan/resize_dataset.py --input_folder large --output_folder out --quality 96", "--quality"),
    ("gan/resize_dataset.py --input_folder large --output_folder=", "got an empty path"),
    ("gan/download.py --fast", "unrecognized arguments: --fast"),
    ("vae/train.py", "give presets or --log_dir"),
    (f"vae/train.py vae_latent17 {VAE}", "unknown preset 'vae_latent17'; did you mean vae_latent1"),
    (f"vae/train.py --log_dir ../../escape {VAE}", "expected a name"),
    (f"vae/train.py --log_dir .. {VAE}", "expected a name"),
    ("vae/train.py --resume --out_dir nowhere", "of which run; give --resume NAME; unfinished: n"),
    (f"vae/train.py --log_dir x --flows 2 --base_channels 256 {VAE}", "the assignment's decoder"),
    (f"vae/train.py --log_dir x --num_samples 3 {VAE}", "--num_samples goes with --evaluate RUN"),
    (f"vae/train.py vae_latent16 --latent_size 3 {VAE}", "a preset fixes"),
    (f"vae/train.py ae_latent16 vae_latent16 --resume words.txt {VAE}", "single run"),
    (f"vae/train.py --log_dir x --loss_mode ae --target_beta_val 2 {VAE}", "belong to a VAE"),
    (f"vae/train.py --log_dir x --cycles 3 {VAE}", "--cycles goes with --beta_mode cyclical"),
    (f"vae/train.py --log_dir x --lr inf {VAE}", "--lr"),
    (f"vae/train.py --log_dir x --flows 2 --free_bits 1 {VAE}", "exclude each other"),
    (f"vae/train.py --log_dir x --beta_mode cyclical --cycles 400 {VAE}", "--cycles: got 400"),
    ("vae/train.py vae_latent16 --data_dir nowhere --out_dir out", "nowhere"),
    ("vae/train.py vae_latent16 --data_dir words.txt --out_dir out", "words.txt is a file"),
    ("vae/train.py --evaluate large", "config.json is missing"),
    (f"vae/train.py --resume nowhere {VAE}", "no run nowhere; give --resume NAME"),
    ("vae/ddpm.py", "train|sample|reference"),
    ("vae/ddpm.py tarin --out_dir out", "tarin"),
    (f"vae/ddpm.py train --decay 1.5 {VAE}", "--decay"),
    ("vae/ddpm.py sample --out out --until 0", "--until"),
    ("vae/ddpm.py sample --out out --sampler ddpm --eta 1", "--steps and --eta belong to DDIM"),
    ("vae/ddpm.py sample --out words.txt/x", "words.txt is a file"),
    (f"vae/ddpm.py train --predict x0 {VAE}", "--predict"),
    ("vae/ddpm.py sample --out out --model words.txt", "words.txt"),
    ("vae/ddpm.py sample --out large", "large"),
    ("vae/ddpm.py sample --out out --steps 1001", "--steps"),
    ("vae/ddpm.py reference --out x --dataset synthetic --data_dir large", "--data_dir goes with"),
    ("report/check.py nowhere", "nowhere is not a folder"),
    ("report/check.py empty", "no hand-in in"),
    ("report/check.py large", "notebooks are not read: save their code as .py"),
    ("report/check.py empty --jobs 0", "--jobs"),
    ("report/check.py empty --json nowhere/rows.json", "no folder nowhere"),
    ("report/check.py empty --json=", "got an empty path"),
    ("report/check.py empty --json x --gradescope x", "x is given twice"),
    ("report/grade.py run --csv words.txt", "words.txt is no list of this program"),
    ("report/build_report.py --run run", "unrecognized arguments: --run"),
    ("report/build_report.py --runs run", "say where, by --out FOLDER"),
    ("report/grade.py nowhere", "nowhere: no such folder"),
    ("report/grade.py words.txt", "is a file, expected a folder of runs"),
    ("report/grade.py run --check --json", "check.py HANDIN --json FILE"),
    ("report/grade.py run --birds .", "--birds goes with --rescore"),
    ("report/grade.py run --rescore --fid gone.pt", "gone.pt does not exist"),
    ("report/grade.py empty", "no run in it"),
    ("report/grade.py run", "images is None"),
    ("report/grade.py run --csv nowhere/class.csv", "no folder nowhere"),
    ("report/grade.py run --csv run", "run is a folder, expected a file"),
    ("report/check.py empty --json run", "run: it is a folder"),
    ("report/check.py empty --gradescope -", "takes is a file"),
    ("report/grade.py run --json --csv -", "--json and --csv exclude each other"),
    ("report/build_report.py --runs run --out words.txt", "words.txt is a file"),
    ("report/build_report.py --runs empty --out out", "no run in it"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "words.txt").write_text("hello")
    for name in ("empty", "large", "picture", "run"):
        (folder / name).mkdir()
    (folder / "large/page.txt").write_text("no picture")
    (folder / "large/hw.ipynb").write_text("{}")
    Image.new("RGB", (32, 32)).save(folder / "picture/one.png")
    config = {"loss": "q1_3", "batch_size": 1, "lamb": 1, "seed": 0, "num_iterations": 1}
    (folder / "run/config.json").write_text(json.dumps(config))
    torch.save(tiny.TinyGenerator().state_dict(), folder / "generator.pt")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return tiny.plant(tmp_path_factory.mktemp("small"))


def everything_in(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("command, message", WRONG, ids=[command for command, _ in WRONG])
def test_one_line_exit_code_2_and_nothing_written(command, message, folder, small):
    before = everything_in(folder)
    code, told = run_in_a_fork(ROOT if "report" in command else small, command, folder)
    assert code == 2, told
    assert len(told.strip().splitlines()) == 1 and message in told, told
    assert everything_in(folder) == before
