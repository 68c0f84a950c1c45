"""The checker: this project passes, and each slip that is put into it is found and named."""

import csv
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
from mutants import HANDINS, MANNERS
from slips import HANDIN, ROOT, Slip, changed, half_of, packs, read


@pytest.fixture(scope="session")
def pool():
    return check.Pool()


@pytest.fixture(scope="module")
def verdicts(pool, tmp_path_factory):
    """{slip, mended or not: verdict}; many are tried together, one that another hides alone."""

    def fits(slip: Slip, mended: bool, found: tuple) -> bool:
        word, _, words = slip.words.partition(": ")
        return found[0] == "right" if mended else found[0] == word and words in found[1]

    def of_pack(pack: list[Slip], mended: bool) -> dict:
        half = changed(tmp_path_factory.mktemp("slips"), pack, mended)
        names = {f"{half.name}.{slip.name}": slip for slip in pack}
        found = {(names[n], mended): v for n, v in pool.verdicts([*names], half)}
        if len(pack) > 1:
            lost = [key for key, verdict in found.items() if not fits(*key, verdict)]
            for slip, _ in lost:
                found |= of_pack([slip], mended)
        return found

    mends = [slip for slip in HANDINS if slip.mend]
    both = [(pack, False) for pack in packs(HANDINS)] + [(pack, True) for pack in packs(mends)]
    return {key: verdict for pair in both for key, verdict in of_pack(*pair).items()}


def slip_id(slip):
    return f"{slip.name}-{slip.words}"


@pytest.mark.parametrize("slip", HANDINS, ids=slip_id)
def test_a_slip_is_found_and_named(verdicts, slip):
    expected, _, words = slip.words.partition(": ")
    word, sentence = verdicts[slip, False]
    assert (word, words in sentence) == (expected, True), (word, sentence)


@pytest.mark.parametrize("slip", [slip for slip in HANDINS if slip.mend], ids=slip_id)
def test_each_mend_mends(verdicts, slip):
    """What stands in the sentence is what is applied, and then the row is right."""
    assert verdicts[slip, True][0] == "right", verdicts[slip, True]
    advice = verdicts[slip, False][1].partition("To mend it: ")[2]
    same = difflib.SequenceMatcher(None, slip.mend, advice, autojunk=False).find_longest_match()
    assert same.size >= 8, advice


@pytest.mark.parametrize("slip", MANNERS, ids=slip_id)
def test_other_manners_are_right(pool, tmp_path, slip):
    if slip.name == "block_up":  # an attribute of another name, in both places
        slip = Slip(slip.file, slip.name, "", slip.old, slip.new, "")
        half = changed(tmp_path, [slip])
        path = half / "networks.py"
        text = path.read_text().replace("self.layers(x) + self.ups", "self.main(x) + self.ups")
        path.write_text(text)
    else:
        half = changed(tmp_path, [slip])
    assert pool.run(f"{half.name}.{slip.name}", half) == ("right", "")


def test_every_check_has_a_slip():
    tried = {f"{half_of(slip)[1]}.{slip.name}" for slip in HANDINS}
    assert {one.name for one in checks.CHECKS} - tried == set()
    those = [slip for slip in HANDINS if slip.words.startswith("wrong")]
    assert sum(bool(slip.mend) for slip in those) >= 0.5 * len(those)


def test_this_project_passes(tmp_path, capsys):
    """By the command, as a student runs it; the three kinds of output agree."""
    files = {name: tmp_path / f"rows.{name}" for name in ("json", "csv", "gradescope")}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert check.main(check.get_args([str(ROOT), *options])) == 0
    assert f"judged: gan in {ROOT / 'gan'}, vae in {ROOT / 'vae'}" in capsys.readouterr().out
    rows = json.loads(files["json"].read_text())
    assert len(rows) > 60 and {row["verdict"] for row in rows} == {"right"}
    with open(files["csv"], newline="") as file:
        assert list(csv.DictReader(file)) == rows
    graded = json.loads(files["gradescope"].read_text())
    assert sum(t["score"] for t in graded["tests"]) == pytest.approx(100)
    keys = {"number", "name", "score", "max_score", "status", "output"}
    assert keys == graded["tests"][0].keys() and graded["tests"][0]["status"] == "passed"


def row(question, name, verdict="right", sentence=""):
    return check.Row(question, name, verdict, sentence, name)


def test_one_cause_is_paid_once():
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
    for source in (HANDIN / "vae", tmp_path / "results"):
        shutil.rmtree(place / "submission", ignore_errors=True)
        shutil.copytree(source, place / "submission") if source.exists() else (
            place / "submission"
        ).mkdir()
        # By the interpreter itself: a link would look for its packages beside itself.
        text = script.replace("python=venv/bin/python", f"python={sys.executable}")
        environment = {"AUTOGRADER": str(place), "PATH": "/usr/bin:/bin"}
        subprocess.run(["bash", "-c", text], env=environment, check=False, capture_output=True)
        results = json.loads((place / "results/results.json").read_text())
        if source.exists():
            assert len(results["tests"]) > 3 and "not there" in results["output"]
            (place / "results/results.json").unlink()
        else:
            assert results["score"] == 0 and "hand in their .py files" in results["output"]


FROM_TEMPLATE = [
    one.name
    for one in checks.CHECKS
    if one.half == "diffusion"
    or one.group
    or one.name.removeprefix("gan.")
    in ("transform", "schedules", "interpolation_grid", "interpolation_picture", "fid_images")
    or one.name == "vae.preprocessing"
]


@pytest.mark.parametrize("half", ["gan", "vae", "diffusion"])
def test_a_right_handin_of_the_handouts_manner_passes(pool, half):
    names = [name for name in FROM_TEMPLATE if name.startswith(half)]
    found = dict(pool.verdicts(names, HANDIN / half))
    assert found.pop("gan.schedules", ("differs", "verbose"))[0] == "differs"  # verbose=False
    assert {word for word, _ in found.values()} == {"right"}, found


def test_a_question_alone(tmp_path, capsys):
    shutil.copytree(HANDIN / "vae", tmp_path / "vae")
    check.main(check.get_args([str(tmp_path), "--question", "2.3.2"]))
    assert capsys.readouterr().out.startswith("2.3.2")
    assert check.main(check.get_args([str(tmp_path), "--question", "1.5"])) == 2
    assert "expected one of 2.1, 2.2, 2.3.1, 2.3.2" in capsys.readouterr().err


LOSSES = """
def compute_generator_loss(discrim_fake):
    return {gen}


def compute_discriminator_loss({names}):
    {disc}
"""
WGAN = "real, fake, disc, discrim_real, discrim_fake, lamb"
SLOPE = """mixed = 0.5 * real + 0.5 * fake
    slope = __import__("torch").autograd.grad(disc(mixed).sum(), mixed, create_graph=True)[0]
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return discrim_fake.mean() - discrim_real.mean() + lamb * penalty"""
FIVE = "discrim_real, discrim_fake, discrim_interp, interp, lamb"
BCE = """real, fake = -discrim_real, discrim_fake
    return real.exp().add(1).log().mean() + fake.exp().add(1).log().mean()"""


def test_losses_are_found_by_what_they_are(pool, tmp_path):
    """In files of other names; one makes its own interpolates, from fakes with gradients."""
    shutil.copytree(HANDIN / "gan", tmp_path / "gan")
    for name, gen, names, disc in (
        ("vanilla_gan", "(-discrim_fake).exp().add(1).log().mean()", FIVE, BCE),
        ("wgan_gp", "-discrim_fake.mean()", WGAN, SLOPE),
    ):
        text = LOSSES.format(gen=gen, names=names, disc=disc)
        (tmp_path / "gan" / f"{name}.py").write_text(text)
    names = ["gan.wgan", "gan.penalty_norm", "gan.gan_discriminator", "gan.gan_generator"]
    found = dict(pool.verdicts(names, tmp_path / "gan"))
    assert {word for word, _ in found.values()} == {"right"}, found
    assert pool.run("gan.lsgan_generator", tmp_path / "gan")[0] == "not there"


def test_scripts_are_read_whatever_way_they_call(pool, tmp_path):
    """By a main(), through the module, with a byte-order mark; D may have its ReLU in forward."""
    shutil.copytree(ROOT / "gan", tmp_path / "gan", ignore=shutil.ignore_patterns("data*"))
    main, end = (
        'if __name__ == "__main__":\n    args',
        "\n\n\nif __name__ == '__main__':\n    main()\n",
    )
    for file, old, new, more in (
        ("q1_3", main, "def main():\n    args", end),
        ("q1_4", "from train import train_model", "import train", ""),
        ("q1_4", "    train_model(", "    train.train_model(", ""),
        ("q1_5", '"""Question', '\ufeff"""Question', ""),
        ("networks", "ResBlock(128), ReLU()", "ResBlock(128)", ""),
        ("networks", "self.layers(x)  # (B, 128, 8", "self.layers(x).relu()  # (B, 128, 8", ""),
    ):
        path = tmp_path / f"gan/{file}.py"
        assert path.read_text().count(old) == 1, (file, old)
        path.write_text(path.read_text().replace(old, new) + more)
    names = [f"gan.script_1_{number}" for number in (3, 4, 5)] + ["gan.score_of_sum"]
    found = dict(pool.verdicts(names, tmp_path / "gan"))
    assert {word for word, _ in found.values()} == {"right"}, found


def test_a_loss_that_is_maximised_is_right(pool, tmp_path):
    shutil.copytree(ROOT / "gan", tmp_path / "gan", ignore=shutil.ignore_patterns("data*"))
    for file, old, new in (
        ("q1_5.py", "    return loss + lamb * ", "    return -loss - lamb * "),
        ("q1_5.py", "        return loss\n", "        return -loss\n"),
        (
            "train.py",
            "torch.optim.Adam(module.parameters(),",
            "torch.optim.Adam(module.parameters(), maximize=steps > 100_000,",
        ),
    ):
        path = tmp_path / "gan" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new).replace("fused=True", "fused=False"))
    found = dict(pool.verdicts(["gan.wgan", "gan.penalty_norm"], tmp_path / "gan"))
    assert {word for word, _ in found.values()} == {"right"}, found


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
    utils = folder / "utils.py"
    for body, words in (
        ("while True: pass", "not done after 3 s"),
        ("import os; os._exit(7)", "exit code 7"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("bytearray(64 * 2**30)", "MemoryError"),
        ("import urllib.request; urllib.request.urlopen('http://localhost')", "no network"),
    ):
        hung = f"\n\ndef interpolate_latent_space(gen, path):\n    {body}\n"
        utils.write_text((HANDIN / "gan" / "utils.py").read_text() + hung)
        names = ["gan.interpolation_grid", "gan.transform"]
        found = dict(pool.verdicts(names, folder, 3))
        word, sentence = found["gan.interpolation_grid"]
        assert word == "cannot run" and words in sentence, (body, sentence)
        assert found["gan.transform"] == ("right", "")
    # One check of a group that shares a run: the others keep theirs.
    train = folder / "train.py"
    train.write_text(train.read_text().replace("return optimizer, schedule", CRASHES))
    utils.write_text((HANDIN / "gan" / "utils.py").read_text())
    names = ["gan.iterations", "gan.schedule_steps", "gan.interpolates"]
    found = dict(pool.verdicts(names, folder, 10))
    words = [found[name][0] for name in names]
    assert words == ["right", "cannot run", "right"] and "exit code 7" in found[names[1]][1]
    shutil.copy(HANDIN / "gan/train.py", train)
    before = sorted(folder.rglob("*"))
    utils.write_text((HANDIN / "gan" / "utils.py").read_text())
    assert pool.run("gan.sample_range", folder)[0] == "right"  # it writes data_check/
    assert [p for p in sorted(folder.rglob("*")) if p not in before] == []


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


def test_right_code_is_right_whatever_surrounds_it(pool, tmp_path):
    """A thread that lives on, a package called data, an import that never ends elsewhere."""
    folder = tmp_path / "gan"
    shutil.copytree(HANDIN / "gan", folder)
    train = folder / "train.py"
    train.write_text(SURROUNDINGS + "from data.helper import answer\n" + train.read_text())
    (folder / "data").mkdir()
    (folder / "data/helper.py").write_text("answer = 42\n")
    (folder / "endless.py").write_text("while True: pass\n")
    found = dict(pool.verdicts(["gan.transform", "gan.schedules", "gan.iterations"], folder, 3))
    assert found["gan.transform"] == found["gan.iterations"] == ("right", ""), found


def test_folders_without_a_handin(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/answer.ipynb").write_text("{}")
    lost = ["--json", str(tmp_path / "nowhere" / "rows.json")]
    assert check.main(check.get_args([str(HANDIN), *lost])) == 2  # before a minute of work
    assert "no folder" in capsys.readouterr().err
    for folder, words in ((tmp_path / "nowhere", "not a folder"), (tmp_path / "empty", "notebook")):
        assert check.main(check.get_args([str(folder)])) == 2
        error = capsys.readouterr().err
        assert error.startswith("check.py: error: ") and error.count("\n") == 1 and words in error


def test_a_half_without_its_networks_is_told(tmp_path):
    """And rows that have not come yet cost points, if the program ends there."""
    shutil.copytree(HANDIN, tmp_path / "hw")
    (tmp_path / "hw/gan/networks.py").unlink()
    (row,) = check.lost_halves(tmp_path, check.find_halves(tmp_path))
    assert (row.question, row.verdict) == ("1.1", "not there") and "hw/gan/train.py" in row.sentence
    assert not check.passed([row]) and not [*check.lost_halves(HANDIN, check.find_halves(HANDIN))]
    shutil.copytree(ROOT / "vae", tmp_path / "own/vae")  # a half alone, with a word of the other's
    (tmp_path / "own/vae/more.py").write_text("def get_optimizers_and_schedulers(model): ...\n")
    own = tmp_path / "own"
    assert not [*check.lost_halves(own, check.find_halves(own))]
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
    shutil.copytree(HANDIN, tmp_path / "hw3" / "code")
    assert set(check.find_halves(tmp_path)) == {"gan", "vae", "diffusion"}
    flat = tmp_path / "flat"
    shutil.copytree(HANDIN / "gan", flat)
    assert check.find_halves(flat) == {"gan": flat}
    shutil.copytree(HANDIN / "gan", tmp_path / "two" / "a_backup")  # of two versions
    shutil.copytree(HANDIN / "gan", tmp_path / "two" / "gan")
    assert check.find_halves(tmp_path / "two") == {"gan": tmp_path / "two" / "gan"}
    shutil.copytree(HANDIN / "gan", tmp_path / "bold/gan")  # no older than another
    assert check.find_halves(tmp_path / "bold") == {"gan": tmp_path / "bold/gan"}
    assert [bool(check.OLDER.search(name)) for name in ("gan_old", "Copy of gan", "folder")] == [
        True,
        True,
        False,
    ]
