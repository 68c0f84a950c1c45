"""report/grade.py: which numbers compare, what they earn, what it says of damaged files."""

import json
import subprocess
import sys

import grade
import pytest
from helpers import change, ddpm_run, gan_run, header_only, vae_run

ORDER = "1.3 1.4 1.5 2.1 2.1 2.1 2.2 2.3.1 2.3.1 2.3.2".split()
FD = {"score_name": "FD (x.pt)", "features": "x-1234"}


@pytest.fixture
def graded(capsys):
    """A call of grade.py --json: {question: row}; of two rows of one question, the last."""

    def call(*folders, code=0):
        assert grade.main(["--json", *map(str, folders)]) == code
        rows = json.loads(capsys.readouterr().out)
        assert [row["question"] for row in rows] == ORDER
        return {f"{row['question']} {row['title']}": row for row in rows}

    return call


LIMITS = [
    ("1.3 GAN", 150, True, {"loss": "q1_3"}),
    ("1.4 LSGAN", 90, True, {"loss": "q1_4"}),
    ("1.5 WGAN-GP", 50, True, {}),
    ("2.2 VAE", 145, False, {}),
    ("2.3.1 beta-VAE, 0.8", 130, False, {"target_beta_val": 0.8}),
    ("2.3.1 beta-VAE, 1.2", 155, False, {"target_beta_val": 1.2}),
    ("2.3.2 VAE, linear beta", 125, False, {"beta_mode": "linear"}),
]


@pytest.mark.parametrize("question, limit, included, config", LIMITS)
def test_a_number_is_met_up_to_its_reference(tmp_path, graded, question, limit, included, config):
    """FID: up to and with it; reconstruction: below it."""
    for value in (limit - 0.01, limit, limit + 0.01):
        met = value < limit or included and value == limit
        if question < "2":
            gan_run(tmp_path / "run", final=value, **config)
        else:
            vae_run(tmp_path / "run", value, **config)
        rows = graded(tmp_path, code=int(not met))
        row = rows.pop(question)
        assert (row["verdict"], row["measured"]) == ("met" if met else "not met", value)
        assert {row["verdict"] for row in rows.values()} == {"not run"}


def test_autoencoders_have_a_band_but_no_reference(tmp_path, graded):
    for latent, recon, where in ((16, 203.0, "within"), (1024, 40.0, "outside")):
        vae_run(tmp_path / "run", recon, loss_mode="ae", latent_size=latent)
        verdict = graded(tmp_path)[f"2.1 AE, {latent} latents"]["verdict"]
        assert verdict.startswith(f"no reference ({where} the public band 2")


COUNTS = "50,000 training and 100 validation images instead of 50,000 and 10,000"
DRAWN = "5,000 training and 1,000 validation images instead of 50,000 and 10,000"
INCOMPARABLE = [
    ({"images": 5_898}, "5,898 images instead of the 11,780 of CUB"),
    ({"dataset": "synthetic", "images": 6_000}, "synthetic data"),
    ({"dataset": None}, "unnamed data"),  # from a program: train_model knows pixels, not names
    ({"batch_size": 64}, "batch_size 64 instead of 256"),
    ({"lamb": 1}, "lamb 1 instead of 10"),
    ({"final": None}, "10,000 samples instead of 50,000"),
    ({"period": 5_000}, "10,000 iterations instead of 30,000"),
    ({"period": 20_000, "num_iterations": 40_000}, "40,000 iterations instead of 30,000"),
    ({"row": {"fid_mode": "eval"}}, "running instead of batch statistics"),
    ({"row": FD}, "FD (x.pt) is not FID"),
    ({"row": {"features": "inception-2015-12-05-00000000"}}, "other Inception weights (inception"),
    ({"scores": (None, None), "final": None}, "no score measured"),
    ({"dataset": "synthetic", "images": [5_000, 1_000]}, f"synthetic data, {DRAWN}"),
    ({"images": [50_000, 100]}, f"cifar10 data, {COUNTS}"),
    ({"epochs": 12}, "12 epochs instead of 20"),
    ({"batch_size": 128}, "batch_size 128 instead of 256"),
    ({"lr": 0.01}, "lr 0.01 instead of 0.001"),
    ({"grad_clip": 5.0}, "grad_clip 5.0 instead of 1"),
    ({"epochs": 25, "num_epochs": 25, "beta_mode": "linear"}, "a slope for 25 epochs instead of"),
]


@pytest.mark.parametrize("number, case", list(enumerate(INCOMPARABLE)))
def test_what_keeps_a_run_from_comparing(tmp_path, graded, number, case):
    """And a number that does not compare is never called met, nor missed."""
    settings, reason = case
    for value in (1.0, 1e4):
        if number < 12:
            gan_run(tmp_path / "run", **{"final": value} | settings)
        else:
            vae_run(tmp_path / "run", value, **settings)
        (row,) = (row for row in graded(tmp_path).values() if row["run"])
        assert row["verdict"] == "not comparable"
        assert len(row["reasons"]) == 1 and row["reasons"][0].startswith(reason)


def test_every_comparable_run_answers_else_the_nearest(tmp_path, graded, capsys):
    """The best first, whatever the folders are called; of a longer VAE epoch 19 is read."""
    gan_run(tmp_path / "a", period=1_000)
    gan_run(tmp_path / "b", period=2_000)
    gan_run(tmp_path / "longer", period=3_000, batch_size=64)
    assert graded(tmp_path)["1.5 WGAN-GP"]["run"].endswith("b")
    gan_run(tmp_path / "c", final=60.0)
    gan_run(tmp_path / "d", final=40.0)
    vae_run(tmp_path / "short", 150.0)
    vae_run(tmp_path / "long", 80.0, epochs=25, num_epochs=25)
    assert grade.main(["--json", str(tmp_path)]) == 1
    rows = json.loads(capsys.readouterr().out)
    found = {q: [r["measured"] for r in rows if r["question"] == q] for q in ("1.5", "2.2")}
    assert found == {"1.5": [40.0, 60.0], "2.2": [130.0, 150.0]}


@pytest.mark.parametrize("other", [{}, FD, {"fid_mode": "eval"}])
def test_a_run_that_went_on_is_graded_where_the_assignment_ends(tmp_path, graded, other):
    """Scored in the same way beyond 30,000 iterations, or in another."""
    folder = gan_run(tmp_path / "a", num_iterations=31_000)
    header, log, *_ = (folder / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), log.split(","))) | {"iteration": "31000", "score": "500.0"}
    with open(folder / "metrics.csv", "a") as file:
        file.write(",".join((row | other).values()) + "\n")
    row = graded(folder)["1.5 WGAN-GP"]
    assert (row["measured"], row["verdict"], row["done"]) == (44.25, "met", 31_000)


OWN = [(gan_run, {"generator_every": 1}), (gan_run, {"optimizers": "mine.make"})]
OWN += [(gan_run, {"networks": ["A", "B"]}), (gan_run, {"variant": "scrambled upsampling"})]
OWN += [(vae_run, {"flows": 4}), (vae_run, {"free_bits": 0.5})]
OWN += [(vae_run, {"network": "small"}), (vae_run, {"latent_size": 512})]
OWN += [(vae_run, {"loss_mode": "mine.loss", "kl": ""})]


@pytest.mark.parametrize("make, own", OWN)
def test_other_networks_rates_steps_and_models_answer_no_question(tmp_path, capsys, make, own):
    path = make(tmp_path / "mine", **own) / "metrics.csv"
    if "loss_mode" in own:  # its terms have other names
        path.write_text(path.read_text().replace("recon_loss", "absolute"))
    assert grade.main(["--json", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert {row["verdict"] for row in json.loads(printed.out)[: len(ORDER)]} == {"not run"}
    assert printed.err.startswith("read, but no question asks for them: mine")


def test_a_log_line_of_50_000_samples_counts(tmp_path, graded):
    path = gan_run(tmp_path / "a") / "metrics.csv"
    *lines, log, final = path.read_text().splitlines()
    log, final = log.replace(",10000,", ",50000,"), final.replace(",50000,", ",10000,")
    path.write_text("\n".join([*lines, log, final]) + "\n")
    row = graded(path.parent)["1.5 WGAN-GP"]
    assert (row["measured"], row["verdict"]) == (45.5, "met")


def test_a_diffusion_run_without_an_epoch(tmp_path, capsys):
    ddpm_run(tmp_path / "a"), header_only(ddpm_run(tmp_path / "b"))
    for folder, words in ((tmp_path, "error 0.0500"), (tmp_path / "b", "    no epoch done")):
        assert grade.main([str(folder)]) == 0
        assert words in capsys.readouterr().out


def test_runs_are_found_at_any_depth(tmp_path, graded, capsys):
    """And what lies beside them is left alone."""
    gan_run(tmp_path / "alice/gan/data_wgan_gp")
    vae_run(tmp_path / "bob/hand in/final/vae/data/vae_latent1024")
    vae_run(tmp_path / "bob/.trash/vae_latent1024", 190.0)
    for name in ("carol", "alice/gan/datasets/CUB_200_2011", "cifar-10-batches-py"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "cifar-10-python.tar.gz").write_text("")
    rows = graded(*tmp_path.iterdir())
    assert rows["1.5 WGAN-GP"]["verdict"] == rows["2.2 VAE"]["verdict"] == "met"
    assert grade.main([str(tmp_path / "alice"), str(tmp_path / "carol")]) == 0
    assert capsys.readouterr().err == f"grade.py: no run in {tmp_path / 'carol'}\n"


def test_the_table_has_a_line_a_question_and_reasons_below(tmp_path, capsys):
    gan_run(tmp_path / "gan")
    gan_run(tmp_path / "lsgan", loss="q1_4", batch_size=64, final=None)
    vae_run(tmp_path / "vae", 150.0)
    assert grade.main([str(tmp_path)]) == 1
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["question", "run", "measured"]
    lsgan, *reasons, wgan = lines[1:5]
    assert lsgan.endswith("not comparable") and reasons == [
        "    10,000 samples instead of 50,000",
        "    batch_size 64 instead of 256",
    ]
    assert "FID 44.25" in wgan and "<= 50" in wgan and "32.41" in wgan and wgan.endswith(" met")
    (vae,) = (line for line in lines if line.startswith("2.2"))
    assert "recon 150.00" in vae and "< 145" in vae and vae.endswith("not met")


DAMAGE = [
    ("44.25", "4x.25", "line 4: score is '4x.25', expected a finite number >= 0"),
    ("44.25", "nan", "line 4: score is 'nan'"),
    ("44.25", "-3", "line 4: score is '-3'"),
    ("15000,log", "15000.5,log", "line 2: iteration is '15000.5', expected a whole number >= 0"),
    ("15000,log", "45000,log", "line 2: iteration is 45000"),
    ("15000,log", "30000,log", "line 3: iteration is 30000 after 30000"),
    ("15000,log", "15000,best", "line 2: kind is 'best', expected log or final"),
    ("iteration,", "iterations,", "no column iteration"),
    ("score_name", "name", "no column score_name"),
    (",FID,", ",,", "line 2: a score without score_name"),
    (",50000,train,inception-2015-12-05-f58cb9b6,0.5\n", "", "line 4: "),
    ("note", "precision", "line 2: score, kid, precision or recall is missing"),
    (",0.1,", ",0.01,", "line 2: discriminator_loss is"),  # it is the sum of its terms
    ("metrics.csv", "", "no column iteration"),
    ("metrics.csv", None, "missing"),
    ("config.json", None, "missing"),
    ("config.json", '{"loss": "q1_5", "batch', "not readable as JSON"),
    ("config.json", "[" * 100_000, "not readable as JSON"),
    ("config.json", "[]", "none of loss, loss_mode and model"),
    ('"batch_size": 256', '"batch_size": "big"', "batch_size is 'big'"),
    ('"images": 11780, ', "", "images is None"),
    ('"images": 11780', '"images": 0', "images is 0"),
]
OF_A_VAE = [
    ("136.0,61.0,", "136.0,,", "line 21: val_kl_loss is ''"),
    (",136.0,61.0,", ",136.0,1.0,", "line 21: val_loss is"),
    ("196.0,135.0,61.0,197.0", "196.0,1.0,61.0,197.0", "line 21: train_loss is"),
    (",18.0\n", ",1.0\n", "line 4: seconds is 1.0 after 9.0"),
    ("\n4,", "\n14,", "line 6: epoch is 14 after 3"),  # some are cut out
    *(('"images": [50000, 10000]', f'"images": {v}', "images is") for v in ("[]", "[1]", "5")),
    ('"images": [50000', '"images": ["a"', "images is"),
]


@pytest.mark.parametrize("old, new, expected", [*DAMAGE, *OF_A_VAE])
def test_damage_is_one_line_and_the_rest_is_graded(tmp_path, capsys, old, new, expected):
    gan, vae = gan_run(tmp_path / "gan", row={"note": 0.5}), vae_run(tmp_path / "vae")
    folder, other = (vae, "1.5") if (old, new, expected) in OF_A_VAE else (gan, "2.2")
    file = "config.json" if old.startswith(('"', "config")) else "metrics.csv"
    if new is None:
        (folder / file).unlink()
    elif old == file:
        (folder / file).write_text(new)
    else:
        change(folder / file, old, new)
    assert grade.main([str(tmp_path)]) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert str(folder / file) in line and expected in line
    assert any(row.startswith(other) and row.endswith(" met") for row in output.out.splitlines())


def test_a_reader_that_has_read_enough(tmp_path):
    gan_run(tmp_path / "gan")
    argv = [sys.executable, grade.__file__, "--json", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # as `| head -0`
    assert process.stderr.read() == b"" and process.wait() == 0


def test_strict_wants_a_number_that_compares(tmp_path, capsys):
    gan_run(tmp_path / "runs/wgan", dataset="synthetic")
    assert grade.main([str(tmp_path / "runs")]) == 0
    assert grade.main([str(tmp_path / "runs"), "--strict"]) == 1
    gan_run(tmp_path / "runs/wgan_cub")
    assert grade.main([str(tmp_path / "runs"), "--strict"]) == 0
