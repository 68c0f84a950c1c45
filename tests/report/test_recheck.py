"""grade.py --rescore and --check: numbers again from the weights, and the code beside them."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import grade
import pytest
import recheck
import tiny
from forks import ends, run_in_a_fork
from helpers import change, gan_run, vae_run
from PIL import Image
from recheck import Places
from run_folder import RUNS, read_run


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A class of one, really trained: a WGAN-GP of one iteration and a VAE of one epoch."""
    tree = tiny.plant(tmp_path_factory.mktemp("tree"))
    (tree / "birds").mkdir()
    for number in range(20):
        colour = (10 * number, 255 - 10 * number, 7 * number)
        Image.new("RGB", (32, 32), colour).save(tree / f"birds/{number}.png")
    gan = "--num_iterations 1 --batch_size 2 --log_period 1 --num_gen 20 40 --data_dir birds"
    ends(tree, f"gan/q1_5.py {gan} --fid f.pt --out_dir class/alice/gan/data_wgan_gp")
    vae = "--dataset synthetic --num_epochs 1 --batch_size 5 --out_dir class/alice/vae/data"
    ends(tree, f"vae/train.py vae_latent1024 {vae}")
    return tree


@pytest.fixture(autouse=True)
def small(tree, monkeypatch):
    """By the small scripts, and in forks."""

    def start(script, *options):
        words = [str(script.relative_to(tree)), *map(str, options)]
        code, told = run_in_a_fork(tree, " ".join(words))
        return subprocess.CompletedProcess([], code, "", told)

    monkeypatch.setattr(recheck, "ROOT", tree)
    monkeypatch.setattr(recheck, "_start", start)


def test_numbers_are_measured_again(tree, tmp_path, capsys):
    """True ones are confirmed, edited ones named, and nothing is written to a hand-in."""
    group = shutil.copytree(tree / "class", tmp_path / "class")
    shutil.copytree(group / "alice", group / "dan")
    edited = group / "dan/gan/data_wgan_gp/metrics.csv"
    header, *_, final = edited.read_text().splitlines()
    score = float(final.split(",")[header.split(",").index("score")])
    change(edited, final, final.replace(str(score), str(0.9 * score)))
    (group / "dan/vae/data/vae_latent1024_synthetic/model.pt").unlink()
    before = sorted(group.rglob("*"))
    here = ["--fid", str(tree / "f.pt"), "--birds", str(tree / "birds")]
    assert grade.main([str(group), "--rescore", *here, "--csv", "-"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    remarks = {(row["student"], row["title"]): row["remarks"] for row in rows}
    assert remarks["alice", "WGAN-GP"].endswith(f"from generator.pt: {score:.2f}")
    assert f"{score:.2f}, 11.1% off {0.9 * score:.2f}" in remarks["dan", "WGAN-GP"]
    assert "measured again from model.pt: " in remarks["alice", "VAE"]
    assert "off" not in remarks["alice", "VAE"].split("from model.pt")[1]
    assert "; no model.pt to measure again; " in remarks["dan", "VAE"]
    assert sorted(group.rglob("*")) == before


UNMEASURED = {
    "birds": ({"dataset": "cub", "data_dir": "gone"}, "data (gone) are not here; give --birds"),
    "other weights": ({"networks": None, "loss": "mlp_gan"}, "does not hold the weights of"),
}


@pytest.fixture
def run(tree, tmp_path):
    return Path(shutil.copytree(tree / "class/alice/gan/data_wgan_gp", tmp_path / "run"))


def told(run, capsys, *options, code=0):
    assert grade.main([str(run), "--rescore", *options]) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("new, why", UNMEASURED.values(), ids=UNMEASURED)
def test_what_cannot_be_measured_is_named(new, why, tree, run, capsys):
    config = json.loads((run / "config.json").read_text()) | new
    (run / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    birds = [] if "data_dir" in new else ["--birds", str(tree / "birds")]
    assert why in told(run, capsys, "--fid", str(tree / "f.pt"), *birds)


def test_no_program_of_a_hand_in_is_run_and_nothing_downloaded(run, capsys):
    """Its config.json names features that are here; only --fid says that they may run."""
    assert "give --fid FILE, the network of" in told(run, capsys)
    change(run / "metrics.csv", "FD (f.pt)", "FID", -1)
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
    change(tmp_path / "class/bob/hw/diffusion/model.py", "x_0.clamp(-1, 1)", "x_0")
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


def test_the_committed_scores_are_measured_again(shared, tmp_path, monkeypatch):
    """With the real birds: the distances in the report of the generators that are committed."""
    monkeypatch.undo()
    birds = shared / "datasets/CUB_200_2011_32"
    places = Places(tmp_path, birds=str(birds), fid=str(shared / "features/efficientnet_lite0.pt"))
    generators = list(RUNS.glob("*/generator.pt"))
    assert generators
    for weights in generators:
        run = read_run(weights.parent)
        assert recheck.measure_again(run, run.scored[-1], places).off < 0.005, run.name
