"""A class is graded to its end, whatever is in it."""

import csv
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import classroom
import grade
import pytest
import recheck
import tiny
from forks import ends, run_in_a_fork
from helpers import change, gan_run, listed, vae_run
from PIL import Image
from recheck import Places
from run_folder import RUNS, read_run
from slips import HANDIN


def test_a_class_is_graded_student_by_student(tmp_path, capsys):
    """Runs at several depths: met, missed, copied, edited, damaged; and a summary."""
    gan_run(tmp_path / "class/alice/gan/data_wgan_gp")
    vae_run(tmp_path / "class/alice/hw3/vae/data/vae_latent1024")
    gan_run(tmp_path / "class/bob/gan/data_wgan_gp")  # the same numbers as alice's
    gan_run(tmp_path / "class/carol/wgan", final=71.5, scores=(310.0, 72.5))
    broken = vae_run(tmp_path / "class/dan/vae/data/vae_latent1024")
    (broken / "metrics.csv").write_text("epoch,\n1,")
    (tmp_path / "class/erin/notes").mkdir(parents=True)  # handed in, and no run
    code, rows = listed(tmp_path / "class")
    assert code == 2  # one run is damaged
    found = {(row["student"], row["title"]): row for row in rows}
    assert {row["student"] for row in rows} == {"alice", "bob", "carol", "dan", "erin"}
    assert {row["verdict"] for row in rows if row["student"] == "erin"} == {"not run"}
    assert found["alice", "VAE"]["verdict"] == "met"  # one folder deeper
    assert found["alice", "WGAN-GP"]["verdict"] == found["bob", "WGAN-GP"]["verdict"] == "met"
    assert "same numbers as bob" in found["alice", "WGAN-GP"]["remarks"]
    assert "same numbers as alice" in found["bob", "WGAN-GP"]["remarks"]
    carol = found["carol", "WGAN-GP"]
    assert (carol["verdict"], carol["measured"], carol["remarks"]) == ("not met", "71.5000", "")
    assert found["carol", "LSGAN"]["verdict"] == "not run"
    damaged = [row for row in rows if row["verdict"] == "damaged"]
    assert [row["student"] for row in damaged] == ["dan"] and "metrics.csv" in damaged[0]["remarks"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 students" and lines[-1] == "1 damaged runs"
    shown = "2 met, 1 not met, 2 not run; 44.25 to 71.50, median 44.25"
    assert [line.split("  ")[-1].strip() for line in lines if "1.5 WGAN-GP" in line] == [shown]
    assert (tmp_path / "class.csv").read_text("utf-8-sig").startswith("student,question,title,run,")


def test_a_student_counts_once_and_code_by_its_worst(tmp_path, capsys):
    """By the best of several runs; what is wrong comes before what could not be tried."""
    gan_run(tmp_path / "class/alice/a_met")
    gan_run(tmp_path / "class/alice/b_short", scores=(300.0,), final=None, num_iterations=15_000)
    gan_run(tmp_path / "class/alice/c_missed", final=71.5, seed=1)
    listed(tmp_path / "class")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "WGAN-GP" in line]
    assert line.split("  ")[-1].strip().startswith("1 met;")
    rows = [row(verdict=word) for word in ("cannot run", "wrong", "not there", "right")]
    assert [found[1:3] for found in classroom.by_question(rows)] == [("1 of 4 right", "wrong")]


def test_students_are_folders_of_their_class(tmp_path, capsys):
    """Of two classes, of one's own halves, of hand-ins that are flat or hold a file."""
    for place in ("spring/alice/gan/run", "fall/alice/run", "fall/bob", "fall/carol/hw/diffusion"):
        gan_run(tmp_path / place / "data")
    (tmp_path / "fall/notes.py").touch()
    (tmp_path / "fall/__pycache__").mkdir()
    (tmp_path / "fall/gan").mkdir()  # an empty one, which makes the class no student
    grade.main([str(tmp_path / "spring/alice/gan"), "--csv", "-"])
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    assert {row["student"] for row in rows} == {"alice"}
    _, rows = listed(tmp_path / "spring", tmp_path / "fall")
    met = {row["student"]: row["remarks"] for row in rows if row["verdict"] == "met"}
    assert set(met) == {"fall/alice", "spring/alice", "bob", "carol"}
    assert "spring/alice" in met["fall/alice"]


def test_links_are_followed_and_equal_names_told_apart(tmp_path):
    gan_run(tmp_path / "elsewhere/gan/data_wgan_gp")
    places = [tmp_path / section / "submissions" for section in ("sec1", "sec2")]
    for place in places:
        place.mkdir(parents=True)
        (place / "alice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere")  # and not around
    code, rows = listed(*places, file=tmp_path / "class.csv")
    met = {row["student"] for row in rows if row["verdict"] == "met"}
    assert code == 0 and met == {"sec1/submissions/alice", "sec2/submissions/alice"}


def test_copies_in_disguise(tmp_path):
    """Other line ends, seconds and ways to write a number, a byte-order mark, blank lines."""
    gan_run(tmp_path / "class/alice/run")
    path = gan_run(tmp_path / "class/bob/run") / "metrics.csv"
    config = path.with_name("config.json")
    config.write_text(config.read_text(), encoding="utf-8-sig")  # as an editor may leave it
    before = path.read_text()  # without its \r
    other = before.replace(",10.0,", ",11.0,", 1).replace(",10.0,", ",12.5,")
    other = other.replace("300.0", "3.000e2")
    assert other.count("11.0,") == other.count("12.5,") / 2 == other.count("3.000e2") == 1
    path.write_text(f"\ufeff{other}\n\n")
    gan_run(tmp_path / "class/carol/run", final=44.26)
    _, rows = listed(tmp_path / "class")
    told = {row["student"]: row["remarks"] for row in rows if row["title"] == "WGAN-GP"}
    assert "the same numbers as bob" in told["alice"] and "as alice" in told["bob"]
    assert "same" not in told["carol"]


def test_names_that_are_no_unicode_and_names_that_compute(tmp_path):
    gan_run(tmp_path / "class/=HYPERLINK(1)/run")
    os.makedirs(os.fsencode(tmp_path / "class") + b"/Ren\xe9e")
    code, rows = listed(tmp_path / "class")
    assert code == 0
    assert {row["student"] for row in rows} == {"'=HYPERLINK(1)", "Ren\\xe9e"}


def test_zips_are_students_and_a_broken_one_is_told(tmp_path):
    run = gan_run(tmp_path / "made/run")
    (tmp_path / "class").mkdir()
    with zipfile.ZipFile(tmp_path / "class/alice.zip", "w") as archive:
        for path in run.iterdir():
            archive.write(path, f"hw3/{path.name}")
            archive.write(path, f"../../escaped/{path.name}")
    (tmp_path / "class/bob.zip").write_text("no zip")
    with tarfile.open(tmp_path / "class/dora.tar.gz", "w:gz") as tar:
        tar.add(run, "hw3")
        tar.add(run / "config.json", "../../escaped/config.json")
    whole = (tmp_path / "class/dora.tar.gz").read_bytes()
    (tmp_path / "class/eve.tgz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "class/carol").symlink_to("gone")
    code, rows = listed(tmp_path / "class")
    assert code == 2 and not list(tmp_path.rglob("escaped"))
    met, damaged = ({r["student"] for r in rows if r["verdict"] == v} for v in ("met", "damaged"))
    assert (met, damaged) == ({"alice", "dora"}, {"bob", "carol", "eve"})


def row(verdict="wrong"):
    return {"question": "3.1", "what": "the schedule", "verdict": verdict, "sentence": ""}


def test_a_kill_leaves_what_was_done_and_resume_goes_on(tmp_path, monkeypatch, capsys):
    for name in ("alice", "bob", "carol"):
        gan_run(tmp_path / "class" / name / "run")
    asked = []

    def check(folder, pool):
        asked.append(folder.name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return [row()]

    monkeypatch.setattr(classroom, "check_code", check)
    with pytest.raises(KeyboardInterrupt):
        listed(tmp_path / "class", options=["--check"])
    file = tmp_path / "class.csv"
    assert "\nbob," in file.read_text() and "\ncarol," not in file.read_text()
    code, rows = listed(tmp_path / "class", options=["--check", "--resume"])
    assert code == 1 and asked == ["alice", "bob", "carol", "carol"]
    assert sum(one["verdict"] == "wrong" for one in rows) == 3
    with pytest.raises(SystemExit):
        listed(tmp_path / "class")
    assert "exists; give --resume, --overwrite or another file" in capsys.readouterr().err
    assert listed(tmp_path / "class", options=["--overwrite"])[0] == 0


def test_hand_ins_of_every_damage(tmp_path):
    """Really checked, in one call: a link to nowhere, a notebook, a function that is a TODO."""
    place = tmp_path / "class"
    shutil.copytree(HANDIN / "vae", place / "todo/vae")
    (place / "todo/vae/utils.py").write_text("def preprocess_data(x):\n    # TODO\n")
    (place / "nowhere").mkdir()
    (place / "nowhere/networks.py").symlink_to("gone")
    (place / "notebook").mkdir()
    (place / "notebook/hw.ipynb").write_text("{}")
    code, rows = listed(place, options=["--check"])
    assert code == 0
    found = {(one["student"], one["verdict"]) for one in rows}
    assert found == {("nowhere", "not run"), ("notebook", "cannot run"), ("todo", "not there")}


def test_code_is_graded_beside_the_runs(tmp_path, capsys):
    """Students with runs only, and with code only, who have no row of what was not run."""
    gan_run(tmp_path / "class/alice/gan/data_wgan_gp")
    shutil.copytree(HANDIN / "diffusion", tmp_path / "class/bob/hw/diffusion")
    change(tmp_path / "class/bob/hw/diffusion/model.py", "x_0.clamp(-1, 1)", "x_0")
    result, rows = listed(tmp_path / "class", options=["--check"])
    assert result == 1 and "1 checked, 0 all right, 1 with a slip" in capsys.readouterr().out
    code = [row for row in rows if row["title"] == "code"]
    (wrong,) = [row for row in code if row["verdict"] == "wrong"]
    assert code == [row for row in rows if row["student"] == "bob"] and len(code) == 3
    assert wrong["run"] == str(tmp_path / "class/bob/hw/diffusion")
    assert wrong["measured"] == "3 of 4 right" and ": wrong. " in wrong["remarks"]
    assert wrong["remarks"].endswith("x_0.clamp(-1, 1)")
    assert {row["student"] for row in rows if row["verdict"] == "met"} == {"alice"}


# grade.py --rescore: numbers again from the weights
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


@pytest.fixture
def small(tree, monkeypatch):
    """By the small scripts, and in forks."""

    def start(script, *options):
        words = [str(script.relative_to(tree)), *map(str, options)]
        code, told = run_in_a_fork(tree, " ".join(words))
        return subprocess.CompletedProcess([], code, "", told)

    monkeypatch.setattr(recheck, "ROOT", tree)
    monkeypatch.setattr(recheck, "_start", start)


def test_numbers_are_measured_again(tree, small, tmp_path):
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
    code, rows = listed(group, options=["--rescore", *here])
    remarks = {(row["student"], row["title"]): row["remarks"] for row in rows}
    assert remarks["alice", "WGAN-GP"].endswith(f"from generator.pt: {score:.2f}")
    assert f"{score:.2f}, 11.1% off {0.9 * score:.2f}" in remarks["dan", "WGAN-GP"]
    assert "measured again from model.pt: " in remarks["alice", "VAE"]
    assert "off" not in remarks["alice", "VAE"].split("from model.pt")[1]
    assert "; no model.pt to measure again; " in remarks["dan", "VAE"]
    assert code == 0 and sorted(group.rglob("*")) == before


@pytest.fixture
def run(tree, small, tmp_path):
    return Path(shutil.copytree(tree / "class/alice/gan/data_wgan_gp", tmp_path / "run"))


def told(run, capsys, *options, code=0):
    assert grade.main([str(run), "--rescore", *options]) == code
    return capsys.readouterr().out


def test_what_cannot_be_measured_is_named(tree, run, capsys):
    """No program of a hand-in is run: only --fid says that its features may; nothing downloaded."""
    assert "give --fid FILE, the network of" in told(run, capsys)
    fid, birds = ["--fid", str(tree / "f.pt")], ["--birds", str(tree / "birds")]
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"dataset": "cub", "data_dir": "gone"}))
    assert "data (gone) are not here; give --birds" in told(run, capsys, *fid)
    del config["networks"]
    (run / "config.json").write_text(json.dumps(config | {"loss": "mlp_gan"}))
    assert "does not hold the weights of" in told(run, capsys, *fid, *birds)
    change(run / "metrics.csv", "FD (f.pt)", "FID", -1)
    assert "give --inception_weights FOLDER" in told(run, capsys)


def test_weights_of_another_step_are_not_compared(run, tmp_path, capsys):
    """A run that went on, was stopped after its weights were written, is graded at epoch 19."""
    shutil.copy(run / "samples_1.png", run / "samples_2000.png")
    assert "generator.pt is of iteration 2,000" in told(run, capsys)
    folder = vae_run(tmp_path / "long", epochs=40, num_epochs=40)
    for name in ("model.pt", "epoch_39_samples.png"):
        (folder / name).touch()
    assert "model.pt is of epoch 39" in told(folder, capsys, code=1)


def test_exit_codes_are_those_of_the_numbers_measured_again(tmp_path, monkeypatch):
    """An edited number that is met otherwise, in the table and in a class's list alike."""
    folder = vae_run(tmp_path / "class/alice/vae")
    (folder / "model.pt").touch()
    monkeypatch.setattr(recheck, "_vae", lambda run, row, copy, places: (136.0, 160.0))
    for how in ([], ["--json"], ["--csv", "-"]):
        assert grade.main([str(tmp_path / "class"), "--strict", *how]) == 0
        assert grade.main([str(tmp_path / "class"), "--strict", "--rescore", *how]) == 1


@pytest.mark.shared
def test_the_committed_scores_are_measured_again(shared, tmp_path):
    """With the real birds: the distances in the report of the generators that are committed."""
    birds = shared / "datasets/CUB_200_2011_32"
    places = Places(tmp_path, birds=str(birds), fid=str(shared / "features/efficientnet_lite0.pt"))
    generators = list(RUNS.glob("*/generator.pt"))
    assert generators
    for weights in generators:
        run = read_run(weights.parent)
        assert recheck.measure_again(run, run.scored[-1], places)[0] < 0.005, run.name
