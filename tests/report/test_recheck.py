"""grade.py --rescore and --check: numbers again from the weights, and the code beside them."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grade
import pytest
import recheck
import torch
from PIL import Image
from recheck import Places
from run_folder import RUNS, read_run

ROOT = Path(__file__).resolve().parents[2]


class TinyFeatures(torch.nn.Module):
    """Colour means of the four quarters: (B, 3, 32, 32) -> (B, 12)."""

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 16).flatten(1)


def start(*command):
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A class of one: a WGAN-GP of one iteration and a VAE of one epoch, on drawn images."""
    folder = tmp_path_factory.mktemp("class")
    features = folder / ".features.pt"
    torch.jit.script(TinyFeatures()).save(str(features))
    birds = folder / ".birds"
    birds.mkdir()
    for number in range(20):
        colour = (10 * number, 255 - 10 * number, 7 * number)
        Image.new("RGB", (32, 32), colour).save(birds / f"{number}.png")
    gan = ["--num_iterations", 1, "--batch_size", 2, "--log_period", 1, "--num_gen", 20, 40]
    where = ["--fid", features, "--out_dir", folder / "alice/gan/data_wgan_gp"]
    start(ROOT / "gan/q1_5.py", "--data_dir", birds, *gan, *where)
    vae = ["--num_epochs", 1, "--latent_size", 1024, "--batch_size", 500, "--log_dir", "vae"]
    where = ["--out_dir", folder / "alice/vae/data"]
    start(ROOT / "vae/train.py", "--dataset", "synthetic", *vae, *where)
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_numbers_are_measured_again(trained, tmp_path, capsys):
    """True ones are confirmed, edited ones named, and nothing is written to a hand-in."""
    shutil.copytree(trained, tmp_path / "class")
    dan = tmp_path / "class/dan"
    shutil.copytree(tmp_path / "class/alice", dan)
    header, *_, final = (dan / "gan/data_wgan_gp/metrics.csv").read_text().splitlines()
    score = float(final.split(",")[header.split(",").index("score")])
    edit(dan / "gan/data_wgan_gp/metrics.csv", final, final.replace(str(score), str(0.9 * score)))
    (dan / "vae/data/vae_synthetic/model.pt").unlink()
    before = sorted(path for path in (tmp_path / "class").rglob("*"))
    here = ["--fid", str(trained / ".features.pt"), "--birds", str(trained / ".birds")]
    options = ["--rescore", *here]
    assert grade.main([str(tmp_path / "class"), *options, "--csv", "-"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    remarks = {(row["student"], row["title"]): row["remarks"] for row in rows}
    assert remarks["alice", "WGAN-GP"].endswith(f"from generator.pt: {score:.2f}")
    assert f"{score:.2f}, 11.1% off {0.9 * score:.2f}" in remarks["dan", "WGAN-GP"]
    assert "measured again from model.pt: " in remarks["alice", "VAE"]
    assert "off" not in remarks["alice", "VAE"].split("from model.pt")[1]
    assert "; no model.pt to measure again; " in remarks["dan", "VAE"]
    assert sorted(path for path in (tmp_path / "class").rglob("*")) == before


UNMEASURED = {
    "birds": ({"dataset": "cub", "data_dir": "gone"}, "data (gone) are not here; give --birds"),
    "other weights": ({"networks": None, "loss": "mlp_gan"}, "does not hold the weights of"),
}


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained / "alice/gan/data_wgan_gp", tmp_path / "run"))


def change_config(run, change):
    config = json.loads((run / "config.json").read_text()) | change
    (run / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def told(run, capsys, *options, code=0):
    assert grade.main([str(run), "--rescore", *options]) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("change, why", UNMEASURED.values(), ids=UNMEASURED)
def test_what_cannot_be_measured_is_named(change, why, trained, run, capsys):
    change_config(run, change)
    birds = [] if "data_dir" in change else ["--birds", str(trained / ".birds")]
    assert why in told(run, capsys, "--fid", str(trained / ".features.pt"), *birds)


def test_no_program_of_a_hand_in_is_run_and_nothing_downloaded(run, capsys):
    """Its config.json names features that are here; only --fid says that they may run."""
    assert "give --fid FILE, the network of" in told(run, capsys)
    text = (run / "metrics.csv").read_text()
    name = "FD (.features.pt)"
    assert name in text
    (run / "metrics.csv").write_text(text.replace(name, "FID"))
    assert "give --inception_weights FOLDER" in told(run, capsys)


def test_weights_of_another_step_are_not_compared(run, capsys):
    """A run that went on, or was stopped after its weights were written."""
    shutil.copy(run / "samples_1.png", run / "samples_2000.png")
    assert "generator.pt is of iteration 2,000" in told(run, capsys)


def test_code_is_graded_beside_the_runs(tmp_path, capsys, make_gan):
    """Students with runs only and with code only; the slip is named."""
    make_gan(tmp_path / "class/alice/gan/data_wgan_gp")
    handin = Path(__file__).parent / "handin/diffusion"
    shutil.copytree(handin, tmp_path / "class/bob/hw/diffusion")
    edit(tmp_path / "class/bob/hw/diffusion/model.py", "x_0.clamp(-1, 1)", "x_0")
    table = tmp_path / "class.csv"
    assert grade.main([str(tmp_path / "class"), "--check", "--csv", str(table)]) == 1
    assert "1 checked, 0 all right, 1 with a slip" in capsys.readouterr().out
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    code = [row for row in rows if row["title"] == "code"]
    (wrong,) = [row for row in code if row["verdict"] == "wrong"]
    assert {row["student"] for row in code} == {"bob"} and len(code) == 3
    assert wrong["measured"] == "3 of 4 right" and wrong["remarks"].endswith(": wrong")
    assert {row["student"] for row in rows if row["verdict"] == "met"} == {"alice"}


def test_code_without_any_run(tmp_path, capsys, monkeypatch):
    shutil.copytree(Path(__file__).parent / "handin", tmp_path / "hw")
    row = {"question": "3.1", "what": "the schedule", "verdict": "cannot run"}
    monkeypatch.setattr(grade, "check_code", lambda folder: [row, row | {"verdict": "right"}])
    assert grade.main([str(tmp_path / "hw"), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "3.1 code of hw  1 of 2 right  cannot run",
        "    the schedule: cannot run",
    ]


def test_exit_codes_are_those_of_the_numbers_measured_again(make_vae, tmp_path, monkeypatch):
    """An edited number that is met otherwise, in the table and in a class's list alike."""
    folder = make_vae(tmp_path / "class/alice/vae")
    (folder / "model.pt").touch()
    monkeypatch.setattr(recheck, "_vae", lambda run, row, copy, places: (136.0, 160.0))
    for how in ([], ["--json"], ["--csv", "-"]):
        assert grade.main([str(tmp_path / "class"), "--strict", *how]) == 0
        assert grade.main([str(tmp_path / "class"), "--strict", "--rescore", *how]) == 1


def test_the_graded_row_is_the_one_measured_again(make_vae, tmp_path, monkeypatch, capsys):
    """Epoch 19 is graded; the weights of a longer run are of its end."""
    folder = make_vae(tmp_path / "run", epochs=40, num_epochs=40)
    for name in ("model.pt", "epoch_39_samples.png"):
        (folder / name).touch()
    assert "model.pt is of epoch 39" in told(folder, capsys, code=1)


def test_students_are_folders_of_their_class(make_gan, make_vae, tmp_path, capsys):
    """Of two classes, of one's own halves, of hand-ins that are flat or hold a file."""
    for place in ("spring/alice/gan/run", "fall/alice/run", "fall/bob", "fall/carol/hw/diffusion"):
        make_gan(tmp_path / place / "data")
    (tmp_path / "fall/notes.py").touch()
    (tmp_path / "fall/__pycache__").mkdir()
    grade.main([str(tmp_path / "spring"), str(tmp_path / "fall"), "--csv", "-"])
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    met = {row["student"]: row["remarks"] for row in rows if row["verdict"] == "met"}
    assert set(met) == {"fall/alice", "spring/alice", "bob", "carol"}
    assert "spring/alice" in met["fall/alice"]
    grade.main([str(tmp_path / "spring/alice/gan"), "--csv", "-"])
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    assert {row["student"] for row in rows} == {"alice"}


def test_a_check_that_fails_is_no_missing_code(tmp_path, monkeypatch):
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan/networks.py").symlink_to("nowhere")
    assert recheck.check_code(tmp_path) == []  # a link to nowhere is no code
    lost = subprocess.CompletedProcess([], 2, "", "check.py: error: no memory")
    monkeypatch.setattr(recheck, "_start", lambda *command: lost)
    (row,) = recheck.check_code(tmp_path)
    assert row["verdict"] == "cannot run" and "no memory" in row["what"]


def test_the_committed_scores_are_measured_again(shared, tmp_path):
    """With the real birds: the distances in the report of the generators that are committed."""
    birds = shared / "datasets/CUB_200_2011_32"
    places = Places(tmp_path, birds=str(birds), fid=str(shared / "features/efficientnet_lite0.pt"))
    generators = list(RUNS.glob("*/generator.pt"))
    assert generators
    for weights in generators:
        run = read_run(weights.parent)
        assert recheck.measure_again(run, run.scored[-1], places).off < 0.005, run.name


REFUSED = {
    "a file": ([str(Path(__file__))], "is a file, expected a folder of runs"),
    "a folder for the list": (["--csv", "."], "--csv: . is a folder, expected a file"),
    "a missing folder": (["gone", "--check"], "gone: no such folder"),
    "check and JSON": (["--check", "--json"], "check.py HANDIN --json FILE"),
    "a place without --rescore": (["--birds", "."], "--birds goes with --rescore"),
    "a place that is not there": (["--rescore", "--fid", "gone.pt"], "gone.pt does not exist"),
}


@pytest.mark.parametrize("argv, message", REFUSED.values(), ids=REFUSED)
def test_refused(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        assert grade.main(argv) == 2
    except SystemExit as stop:
        assert stop.code == 2
    assert message in capsys.readouterr().err
