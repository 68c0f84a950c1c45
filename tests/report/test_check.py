"""The checker: this project passes, and each slip that is put into it is found and named."""

import difflib
import json
import shutil
import subprocess
import sys
import zipfile

import check
import checks
import checks.diffusion
import checks.gan
import checks.vae
import pytest
from helpers import change
from mutants import HANDINS, MANNERS
from slips import HANDIN, IGNORED, ROOT, changed, half_of, packs, read


@pytest.fixture(scope="session")
def pool():
    return check.Pool()


def fits(slip, mended, verdict):
    word, _, words = slip.words.partition(": ")
    return verdict[0] == "right" if mended else verdict[0] == word and words in verdict[1]


@pytest.fixture(scope="module")
def verdicts(pool, tmp_path_factory):
    """{slip, mended or not: verdict}; many are tried together, one that another hides alone."""

    def of_pack(pack, mended):
        half = changed(tmp_path_factory.mktemp("slips"), pack, mended)
        names = {f"{half.name}.{slip.name}": slip for slip in pack}
        found = {(names[n], mended): v for n, v in pool.verdicts([*names], half)}
        lost = [slip for (slip, _), verdict in found.items() if not fits(slip, mended, verdict)]
        for slip in lost if len(pack) > 1 else ():
            found |= of_pack([slip], mended)
        return found

    mends = [slip for slip in HANDINS if slip.mend]
    both = [(pack, False) for pack in packs(HANDINS)] + [(pack, True) for pack in packs(mends)]
    return {key: verdict for pair in both for key, verdict in of_pack(*pair).items()}


def slip_id(slip):
    return f"{slip.name}-{slip.words}"


@pytest.mark.parametrize("slip", HANDINS, ids=slip_id)
def test_a_slip_is_found_and_named(verdicts, slip):
    assert fits(slip, False, verdicts[slip, False]), verdicts[slip, False]


@pytest.mark.parametrize("slip", [slip for slip in HANDINS if slip.mend], ids=slip_id)
def test_each_mend_mends(verdicts, slip):
    """What stands in the sentence is what is applied, and then the row is right."""
    assert fits(slip, True, verdicts[slip, True]), verdicts[slip, True]
    advice = verdicts[slip, False][1].partition("To mend it: ")[2]
    same = difflib.SequenceMatcher(None, slip.mend, advice, autojunk=False).find_longest_match()
    assert same.size >= 8, advice


@pytest.mark.parametrize("slip", MANNERS, ids=slip_id)
def test_other_manners_are_right(pool, tmp_path, slip):
    half = changed(tmp_path, [slip])
    if slip.name == "block_up":  # an attribute of another name, in both places
        change(half / "networks.py", "self.layers(x) + self.ups", "self.main(x) + self.ups")
    assert pool.run(f"{half.name}.{slip.name}", half) == ("right", "")


def test_every_check_has_a_slip():
    tried = {f"{half_of(slip)[1]}.{slip.name}" for slip in HANDINS}
    assert {one.name for one in checks.CHECKS} - tried == set()
    those = [slip for slip in HANDINS if slip.words.startswith("wrong")]
    assert sum(bool(slip.mend) for slip in those) >= 0.5 * len(those)


def test_this_project_passes(tmp_path, capsys):
    """By the command, as a student runs it."""
    files = {name: tmp_path / f"rows.{name}" for name in ("json", "gradescope")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert check.main(check.get_args([str(ROOT), *options])) == 0
    assert f"judged: gan in {ROOT / 'gan'}, vae in {ROOT / 'vae'}" in capsys.readouterr().out
    rows = json.loads(files["json"].read_text())
    assert len(rows) > 60 and {row["verdict"] for row in rows} == {"right"}
    graded = json.loads(files["gradescope"].read_text())
    assert sum(t["score"] for t in graded["tests"]) == pytest.approx(100)
    keys = {"number", "name", "score", "max_score", "status", "output"}
    assert keys == graded["tests"][0].keys() and graded["tests"][0]["status"] == "passed"


def test_one_cause_is_paid_once():
    row = lambda question, name, *what: check.Row(question, name, *(what or ("right", "")), name)
    rows = [row("1.1", "gan.pooling", "wrong", "a"), row("1.1", "gan.scores_alone", "wrong", "b")]
    rows += [row("1.1", "gan.block"), row("2.1", "vae.a", "not there", "a TODO")]
    rows += [row("2.1", "vae.b", "not there", "a TODO"), row("2.1", "vae.c")]
    points = [(t["score"], t["max_score"]) for t in check.gradescope(rows)["tests"]]
    assert points == [(0, 25), (0, 0), (25, 25), (0, 25), (0, 0), (25, 25)]


def test_the_archive_for_gradescope_runs(tmp_path):
    """Its two scripts, in such folders; the installation is not repeated here."""
    archive = tmp_path / "autograder.zip"
    assert check.main(check.get_args(["--autograder", str(archive)])) == 0
    place = tmp_path / "autograder"
    with zipfile.ZipFile(archive) as file:
        file.extractall(place / "source")
    setup = (place / "source/setup.sh").read_text()
    assert "bin/pip install torch torchvision --index-url https://download.pytorch.org" in setup
    script = (place / "source/run_autograder").read_text()
    (place / "results").mkdir()
    (place / "venv/bin").mkdir(parents=True)
    (place / "venv/bin/python").symlink_to(sys.executable)
    # By the interpreter itself: a link would look for its packages beside itself.
    script = script.replace("python=venv/bin/python", f"python={sys.executable}")
    environment = {"AUTOGRADER": str(place), "PATH": "/usr/bin:/bin"}
    results = []
    for source in (HANDIN / "vae", place / "results"):  # which is empty then
        shutil.copytree(source, place / "submission")
        subprocess.run(["bash", "-c", script], env=environment, check=False, capture_output=True)
        results.append(json.loads((place / "results/results.json").read_text()))
        (place / "results/results.json").unlink(), shutil.rmtree(place / "submission")
    assert len(results[0]["tests"]) > 3 and "not there" in results[0]["output"]
    assert results[1]["score"] == 0 and "hand in their .py files" in results[1]["output"]


def all_right(pool, folder, names):
    found = dict(pool.verdicts(names, folder))
    assert {word for word, _ in found.values()} == {"right"}, found


ALONE = "gan.transform gan.interpolation_grid gan.interpolation_picture gan.fid_images".split()


@pytest.mark.parametrize("half", ["gan", "vae", "diffusion"])
def test_a_right_handin_of_the_handouts_manner_passes(pool, half):
    those = [one for one in checks.CHECKS if one.half == half]
    kept = lambda one: half == "diffusion" or one.group or one.name in (*ALONE, "vae.preprocessing")
    all_right(pool, HANDIN / half, [one.name for one in those if kept(one)])
    if half == "gan":  # verbose=False
        assert pool.run("gan.schedules", HANDIN / half)[0] == "differs"


def test_a_question_alone(tmp_path, capsys):
    shutil.copytree(HANDIN / "vae", tmp_path / "vae")
    check.main(check.get_args([str(tmp_path), "--question", "2.3.2"]))
    assert capsys.readouterr().out.startswith("2.3.2")
    assert check.main(check.get_args([str(tmp_path), "--question", "1.5"])) == 2
    assert "expected one of 2.1, 2.2, 2.3.1, 2.3.2" in capsys.readouterr().err


WGAN = """
def compute_generator_loss(discrim_fake):
    return -discrim_fake.mean()
def compute_discriminator_loss(real, fake, disc, discrim_real, discrim_fake, lamb):
    mixed = 0.5 * real + 0.5 * fake
    slope = __import__("torch").autograd.grad(disc(mixed).sum(), mixed, create_graph=True)[0]
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return discrim_fake.mean() - discrim_real.mean() + lamb * penalty
"""
VANILLA = """
def compute_generator_loss(discrim_fake):
    return (-discrim_fake).exp().add(1).log().mean()
def compute_discriminator_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
    real, fake = -discrim_real, discrim_fake
    return real.exp().add(1).log().mean() + fake.exp().add(1).log().mean()
"""


def test_losses_are_found_by_what_they_are(pool, tmp_path):
    """In files of other names; one makes its own interpolates, from fakes with gradients."""
    shutil.copytree(HANDIN / "gan", tmp_path / "gan")
    (tmp_path / "gan/vanilla_gan.py").write_text(VANILLA)
    (tmp_path / "gan/wgan_gp.py").write_text(WGAN)
    names = ["gan.wgan", "gan.penalty_norm", "gan.gan_discriminator", "gan.gan_generator"]
    all_right(pool, tmp_path / "gan", names)
    assert pool.run("gan.lsgan_generator", tmp_path / "gan")[0] == "not there"


LAST = "options=args,\n    )"
OTHERWISE = {  # scripts by a main(), through the module, with a byte-order mark; ReLU in forward
    "gan.script_1_3 gan.script_1_4 gan.script_1_5 gan.score_of_sum": [
        ("q1_3", 'if __name__ == "__main__":\n    args', "def main():\n    args"),
        ("q1_3", LAST, f"{LAST}\n\n\nif __name__ == '__main__':\n    main()"),
        ("q1_4", "from train import train_model", "import train"),
        ("q1_4", "    train_model(", "    train.train_model("),
        ("q1_5", '"""Question', '\ufeff"""Question'),
        ("networks", "ResBlock(128), ReLU()", "ResBlock(128)"),
        ("networks", "self.layers(x)  # (B, 128, 8", "self.layers(x).relu()  # (B, 128, 8"),
    ],
    "gan.wgan gan.penalty_norm": [  # a loss that is maximised
        ("q1_5", "    return loss + lamb * ", "    return -loss - lamb * "),
        ("q1_5", "        return loss\n", "        return -loss\n"),
        ("train", "0.9), fused=True", "0.9), maximize=steps > 100_000"),
    ],
    "vae.vae_noise vae.kl_value vae.vae_recon": [  # an encoder's one tensor, taken apart in a loss
        ("model", "        return mu, log_std", "        return torch.cat((mu, log_std), 1)"),
        ("losses", "in model.encoder(x))", "in model.encoder(x).chunk(2, 1))"),
    ],
}


@pytest.mark.parametrize("names, changes", OTHERWISE.items())
def test_scripts_and_losses_are_read_however_they_are_written(pool, tmp_path, names, changes):
    half = tmp_path / names[:3]
    shutil.copytree(ROOT / half.name, half, ignore=IGNORED)
    for file, old, new in changes:
        change(half / f"{file}.py", old, new)
    all_right(pool, half, names.split())


def test_what_follows_from_a_todo_is_not_there(pool, tmp_path):
    """A template's networks are None, which shows far from them."""
    todo, empty = read(r"""
@ handin:diffusion/model.py clamped
- noise = self.model(x_t, t)
+ raise NotImplementedError
@ vae/model.py pictures
- return self.deconvs(
+ x = None
+         return x and (
""")
    for slip in (todo, empty):
        half = changed(tmp_path, [slip])
        assert pool.run(f"{half.name}.{slip.name}", half)[0] == "not there"


CRASHES = """class Crash:
            optimizer = step = get_last_lr = lambda self: None
            last_epoch = property(lambda self: os._exit(7))

        return optimizer, Crash()"""


def test_a_handin_that_hangs_crashes_or_writes_costs_its_own_row(pool, tmp_path):
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    utils, plain = folder / "utils.py", (HANDIN / "gan/utils.py").read_text()
    for body, words in (
        ("while True: pass", "not done after 3 s"),
        ("import os; os._exit(7)", "exit code 7"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("bytearray(64 * 2**30)", "MemoryError"),
        ("import urllib.request; urllib.request.urlopen('http://localhost')", "no network"),
    ):
        utils.write_text(f"{plain}\n\ndef interpolate_latent_space(gen, path):\n    {body}\n")
        found = dict(pool.verdicts(["gan.interpolation_grid", "gan.transform"], folder, 3))
        word, sentence = found["gan.interpolation_grid"]
        assert word == "cannot run" and words in sentence, (body, sentence)
        assert found["gan.transform"] == ("right", "")
    # One check of a group that shares a run: the others keep theirs.
    change(folder / "train.py", "return optimizer, schedule", CRASHES)
    utils.write_text(plain)
    names = ["gan.iterations", "gan.schedule_steps", "gan.interpolates"]
    found = dict(pool.verdicts(names, folder, 10))
    words = [found[name][0] for name in names]
    assert words == ["right", "cannot run", "right"] and "exit code 7" in found[names[1]][1]
    shutil.copy(HANDIN / "gan/train.py", folder)
    before = sorted(folder.rglob("*"))
    assert pool.run("gan.sample_range", folder)[0] == "right"  # it writes data_check/
    assert sorted(folder.rglob("*")) == before


SURROUNDINGS = """
import faulthandler, multiprocessing, sys, threading, time
import matplotlib
sys.stdout.reconfigure(line_buffering=True)
sys.stdout.buffer.write(b"hello")
faulthandler.enable()
matplotlib.use("TkAgg")
multiprocessing.set_start_method("spawn")
threading.Thread(target=time.sleep, args=(100,)).start()
"""


DEAF = """while True:
    try:
        while True: pass
    except BaseException: pass
"""


def test_right_code_is_right_whatever_surrounds_it(pool, tmp_path, monkeypatch):
    """A thread that lives on, a package called data, imports that end all or nothing elsewhere."""
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    change(folder / "train.py", "", SURROUNDINGS + "from data.helper import answer\n")
    (folder / "data").mkdir()
    (folder / "data/helper.py").write_text("answer = 42\n")
    (folder / "endless.py").write_text("while True: pass\n")
    (folder / "deaf.py").write_text(DEAF)
    (folder / "ends.py").write_text("import os; os._exit(7)\n")
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    found = {}
    for pair in pool.verdicts(["gan.transform", "gan.schedules", "gan.iterations"], folder, 3):
        found |= [pair]
        assert any((tmp_path / "copies").iterdir())
    assert found["gan.transform"] == found["gan.iterations"] == ("right", ""), found
    assert not any((tmp_path / "copies").iterdir())  # also of those that ended by themselves


def test_a_half_without_its_networks_is_told(tmp_path):
    """And rows that have not come yet cost points, if the program ends there."""
    shutil.copytree(HANDIN, tmp_path / "hw")
    (tmp_path / "hw/gan/networks.py").unlink()
    assert check.find_halves(tmp_path)["gan"] == tmp_path / "hw/gan"
    shutil.copytree(ROOT / "vae", tmp_path / "own/vae")  # a half alone, with a word of the other's
    (tmp_path / "own/more").mkdir()
    (tmp_path / "own/more/a.py").write_text("def compute_discriminator_losses(model): ...\n")
    (tmp_path / "own/vae/more.py").write_text("def compute_discriminator_loss(model): ...\n")
    assert [*check.find_halves(tmp_path / "own")] == ["vae"]
    left = check.not_tried(HANDIN / "vae", "2.3.1")
    assert {one.name for one in left} == {"vae.constant_beta", "vae.beta_reaches_loss"}
    args = check.get_args([str(HANDIN), "--gradescope", str(tmp_path / "results.json")])
    check.write([], args, left)
    tests = json.loads((tmp_path / "results.json").read_text())["tests"]
    assert [one["score"] for one in tests] == [0, 0]


def test_networks_below_the_rest_and_links_within(pool, tmp_path):
    half = tmp_path / "hw/gan"
    shutil.copytree(HANDIN / "gan", half)
    (half / "models").mkdir()
    (half / "networks.py").rename(half / "models/nets.py")
    (half / "utils.py").rename(tmp_path / "hw/helpers.py")
    (half / "utils.py").symlink_to(tmp_path / "hw/helpers.py")
    (tmp_path / "secret.py").write_text("raise SystemExit")
    (half / "wandb.py").symlink_to(tmp_path / "secret.py")  # outside: not copied, stood in for
    assert check.find_halves(tmp_path) == {"gan": half}
    found = dict(pool.verdicts(["gan.latents", "gan.transform"], half))
    assert found["gan.transform"][0] == "right" and "there is no" not in found["gan.latents"][1]


def test_halves_are_found_at_any_depth_and_flat(tmp_path):
    shutil.copytree(HANDIN, tmp_path / "hw3/code")
    assert set(check.find_halves(tmp_path)) == {"gan", "vae", "diffusion"}
    shutil.copytree(HANDIN / "gan", tmp_path / "two/a_backup")  # of two versions
    for where, found in (("flat", "flat"), ("two", "two/gan"), ("bold", "bold/gan")):
        shutil.copytree(HANDIN / "gan", tmp_path / found)  # "bold": no older than another
        assert check.find_halves(tmp_path / where) == {"gan": tmp_path / found}
    older = [bool(check.OLDER.search(name)) for name in ("gan_old", "Copy of gan", "folder")]
    assert older == [True, True, False]
