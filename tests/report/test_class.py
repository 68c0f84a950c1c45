"""A class is graded to its end, whatever is in it."""

import csv
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import classroom
import grade
import pytest
from helpers import gan_run, vae_run
from slips import HANDIN


def listed(folder, *options, file=None):
    """(exit code, rows of --csv)."""
    file = file or Path(folder).parent / "class.csv"
    code = grade.main([str(folder), "--csv", str(file), *options])
    with open(file, newline="", encoding="utf-8-sig") as text:
        return code, list(csv.DictReader(text))


def a_class(tmp_path):
    """Runs at several depths: met, missed, copied, edited, damaged."""
    gan_run(tmp_path / "class/alice/gan/data_wgan_gp")
    vae_run(tmp_path / "class/alice/hw3/vae/data/vae_latent1024")
    gan_run(tmp_path / "class/bob/gan/data_wgan_gp")  # the same numbers as alice's
    gan_run(tmp_path / "class/carol/wgan", final=71.5, scores=(310.0, 72.5))
    broken = vae_run(tmp_path / "class/dan/vae/data/vae_latent1024")
    (broken / "metrics.csv").write_text("epoch,\n1,")
    (tmp_path / "class/erin/notes").mkdir(parents=True)  # handed in, and no run
    return str(tmp_path / "class")


def test_a_class_is_graded_student_by_student(tmp_path, capsys):
    folder = a_class(tmp_path)
    assert grade.main([folder, "--csv", "-"]) == 2  # one run is damaged
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
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


def test_a_class_has_a_summary(tmp_path, capsys):
    folder = a_class(tmp_path)
    grade.main([folder, "--csv", str(tmp_path / "class.csv")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 students" and lines[-1] == "1 damaged runs"
    (line,) = [line for line in lines if line.startswith("1.5 WGAN-GP")]
    assert (
        line.split("  ", 1)[1].strip()
        == "2 met, 1 not met, 2 not run; 44.25 to 71.50, median 44.25"
    )
    assert (tmp_path / "class.csv").read_text("utf-8-sig").startswith("student,question,title,run,")


def test_a_student_counts_once_and_code_by_its_worst(tmp_path, capsys):
    """By the best of several runs; what is wrong comes before what could not be tried."""
    gan_run(tmp_path / "class/alice/a_met")
    gan_run(tmp_path / "class/alice/b_short", scores=(300.0,), final=None, num_iterations=15_000)
    gan_run(tmp_path / "class/alice/c_missed", final=71.5, seed=1)
    grade.main([str(tmp_path / "class"), "--csv", str(tmp_path / "class.csv")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "WGAN-GP" in line]
    assert line.split("  ")[-1].strip().startswith("1 met;")
    rows = [row(verdict=word) for word in ("cannot run", "wrong", "not there", "right")]
    assert [found[1:3] for found in classroom.by_question(rows)] == [("1 of 4 right", "wrong")]


def test_links_are_followed_and_equal_names_told_apart(tmp_path):
    gan_run(tmp_path / "elsewhere/gan/data_wgan_gp")
    for section in ("sec1", "sec2"):
        place = tmp_path / section / "submissions"
        place.mkdir(parents=True)
        (place / "alice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere")  # and not around
    places = [str(tmp_path / section / "submissions") for section in ("sec1", "sec2")]
    file = tmp_path / "class.csv"
    assert grade.main([*places, "--csv", str(file)]) == 0
    rows = csv.DictReader(file.read_text("utf-8-sig").splitlines())
    met = {row["student"] for row in rows if row["verdict"] == "met"}
    assert met == {"sec1/submissions/alice", "sec2/submissions/alice"}


def test_an_empty_folder_gan_makes_no_class_a_student(tmp_path):
    gan_run(tmp_path / "class/alice/wgan")
    (tmp_path / "class/gan").mkdir()
    _, rows = listed(tmp_path / "class")
    assert {row["student"] for row in rows} == {"alice", "gan"}


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: text,
        lambda text: text.replace(",10.0,", ",11.0,", 1).replace(",10.0,", ",12.5,"),
        lambda text: f"{text}\n\n",
        lambda text: f"\ufeff{text}",
        lambda text: text.replace("300.0", "3.000e2"),
    ],
    ids=["line ends", "seconds", "blank lines", "BOM", "another way to write it"],
)
def test_copies_in_disguise(tmp_path, disguise):
    gan_run(tmp_path / "class/alice/run")
    path = gan_run(tmp_path / "class/bob/run") / "metrics.csv"
    before = path.read_bytes()  # with \r\n
    path.write_bytes(disguise(before.decode().replace("\r\n", "\n")).encode())
    assert path.read_bytes().replace(b"\r", b"") != before
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
    found = {(row["student"], row["verdict"]) for row in rows}
    assert {("alice", "met"), ("bob", "damaged"), ("carol", "damaged"), ("dora", "met")} <= found
    assert ("eve", "damaged") in found


def test_epochs_that_are_cut_out_are_missed(tmp_path, capsys):
    path = vae_run(tmp_path / "run") / "metrics.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], *lines[15:]]) + "\n")
    assert grade.main([str(tmp_path)]) == 2
    assert "line 6: epoch is 14 after 3" in capsys.readouterr().err


def test_a_bom_is_no_damage(tmp_path):
    folder = gan_run(tmp_path / "run")
    for name in ("config.json", "metrics.csv"):
        path = folder / name
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert grade.main([str(tmp_path)]) == 0


def row(question="3.1", verdict="wrong"):
    return {
        **{"question": question, "what": "the schedule", "verdict": verdict},
        "sentence": "2 seen; expected 1. To mend it: 1",
    }


def test_code_without_any_run(tmp_path, capsys, monkeypatch):
    """In the table, and in a list: with its sentence, and no row of what was not run."""
    shutil.copytree(HANDIN, tmp_path / "class/hw")
    told = lambda folder, pool: [row(), row(verdict="right")]
    monkeypatch.setattr(classroom, "check_code", told)
    assert grade.main([str(tmp_path / "class/hw"), "--check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "3.1 code of hw  1 of 2 right  wrong"
    _, (only,) = listed(tmp_path / "class", "--check")
    assert only["remarks"] == "the schedule: wrong. 2 seen; expected 1. To mend it: 1"
    assert "handin" not in only["run"] and str(tmp_path / "class/hw/gan") in only["run"]


def test_a_kill_leaves_what_was_done_and_resume_goes_on(tmp_path, monkeypatch):
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
        listed(tmp_path / "class", "--check")
    file = tmp_path / "class.csv"
    assert "\nbob," in file.read_text() and "\ncarol," not in file.read_text()
    code, rows = listed(tmp_path / "class", "--check", "--resume")
    assert code == 1 and asked == ["alice", "bob", "carol", "carol"]
    assert sum(one["verdict"] == "wrong" for one in rows) == 3


def test_a_list_is_not_lost(tmp_path, capsys):
    gan_run(tmp_path / "class/alice/run")
    listed(tmp_path / "class")
    with pytest.raises(SystemExit):
        listed(tmp_path / "class")
    assert "exists; give --resume, --overwrite or another file" in capsys.readouterr().err
    assert listed(tmp_path / "class", "--overwrite")[0] == 0


def test_a_loss_of_ones_own_is_no_damage(tmp_path, capsys):
    path = vae_run(tmp_path / "run", loss_mode="mine.loss", kl="") / "metrics.csv"
    path.write_text(path.read_text().replace("recon_loss", "absolute"))
    assert grade.main([str(tmp_path)]) == 0
    assert "no question asks for them: run" in capsys.readouterr().err


def test_hand_ins_of_every_damage(tmp_path):
    """Really checked, in one call: a link to nowhere, a notebook, a module that never ends."""
    place = tmp_path / "class"
    shutil.copytree(HANDIN / "vae", place / "fine/vae")
    (place / "nowhere").mkdir()
    (place / "nowhere/networks.py").symlink_to("gone")
    (place / "notebook").mkdir()
    (place / "notebook/hw.ipynb").write_text("{}")
    shutil.copytree(HANDIN / "vae", place / "todo/vae")
    (place / "todo/vae/utils.py").write_text("def preprocess_data(x):\n    # TODO\n")
    code, rows = listed(place, "--check")
    assert code == 0
    verdicts = {}
    for one in rows:
        if one["title"] == "code":
            verdicts.setdefault(one["student"], set()).add(one["verdict"])
    assert verdicts["notebook"] == {"cannot run"} and "nowhere" not in verdicts
    assert "not there" in verdicts["todo"]
    assert {one["verdict"] for one in rows if one["student"] == "nowhere"} == {"not run"}
