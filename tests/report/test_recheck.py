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
from helpers import gan_run, vae_run
from PIL import Image
from recheck import Places
from run_folder import RUNS, read_run
from tiny import TinyFeatures

ROOT = Path(__file__).resolve().parents[2]


def start(*command):
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A class of one: a WGAN-GP of one iteration, really trained, and the log of a VAE."""
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
    vae_run(folder / "alice/vae/data/vae_synthetic", dataset="synthetic")
    (folder / "alice/vae/data/vae_synthetic/model.pt").touch()
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_numbers_are_measured_again(trained, tmp_path, capsys, monkeypatch):
    """True ones are confirmed, edited ones named, and nothing is written to a hand-in."""
    shutil.copytree(trained, tmp_path / "class")
    dan = tmp_path / "class/dan"
    shutil.copytree(tmp_path / "class/alice", dan)
    start, known = recheck._start, []

    def without_a_vae(script, *options):
        """What --evaluate would leave of a VAE; of a generator once, and then the same again."""
        assert options[0] == "--evaluate"
        if "vae" in script.parts:
            assert (options[1] / "model.pt").exists()
            (options[1] / "model_score.json").write_text('{"val_recon_loss": 136.0}')
        elif not known:
            known.append(start(script, *options))
            known.append((options[1] / "generator_score_train.json").read_text())
        else:
            (options[1] / "generator_score_train.json").write_text(known[1])
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(recheck, "_start", without_a_vae)
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


def test_code_is_graded_beside_the_runs(tmp_path, capsys):
    """Students with runs only and with code only; the slip is named."""
    gan_run(tmp_path / "class/alice/gan/data_wgan_gp")
    handin = Path(__file__).parent / "handin/diffusion"
    shutil.copytree(handin, tmp_path / "class/bob/hw/diffusion")
    edit(tmp_path / "class/bob/hw/diffusion/model.py", "x_0.clamp(-1, 1)", "x_0")
    table = tmp_path / "class.csv"
    assert grade.main([str(tmp_path / "class"), "--check", "--csv", str(table)]) == 1
    assert "1 checked, 0 all right, 1 with a slip" in capsys.readouterr().out
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    code = [row for row in rows if row["title"] == "code"]
    (wrong,) = [row for row in code if row["verdict"] == "wrong"]
    assert {row["student"] for row in code} == {"bob"} and len(code) == 3
    assert wrong["measured"] == "3 of 4 right" and "x_0.clamp(-1, 1)" in wrong["remarks"]
    assert {row["student"] for row in rows if row["verdict"] == "met"} == {"alice"}


def test_exit_codes_are_those_of_the_numbers_measured_again(tmp_path, monkeypatch):
    """An edited number that is met otherwise, in the table and in a class's list alike."""
    folder = vae_run(tmp_path / "class/alice/vae")
    (folder / "model.pt").touch()
    monkeypatch.setattr(recheck, "_vae", lambda run, row, copy, places: (136.0, 160.0))
    for how in ([], ["--json"], ["--csv", "-"]):
        assert grade.main([str(tmp_path / "class"), "--strict", *how]) == 0
        assert grade.main([str(tmp_path / "class"), "--strict", "--rescore", *how]) == 1


def test_the_graded_row_is_the_one_measured_again(tmp_path, monkeypatch, capsys):
    """Epoch 19 is graded; the weights of a longer run are of its end."""
    folder = vae_run(tmp_path / "run", epochs=40, num_epochs=40)
    for name in ("model.pt", "epoch_39_samples.png"):
        (folder / name).touch()
    assert "model.pt is of epoch 39" in told(folder, capsys, code=1)


def test_students_are_folders_of_their_class(tmp_path, capsys):
    """Of two classes, of one's own halves, of hand-ins that are flat or hold a file."""
    for place in ("spring/alice/gan/run", "fall/alice/run", "fall/bob", "fall/carol/hw/diffusion"):
        gan_run(tmp_path / place / "data")
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
