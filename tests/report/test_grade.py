"""report/grade.py: which numbers compare, what they earn, what it says of damaged files."""

import json
import subprocess
import sys

import grade
import pytest


def graded(capsys, *folders):
    """(exit code, {question: row of --json}) of a run of grade.py."""
    code = grade.main(["--json", *map(str, folders)])
    rows = json.loads(capsys.readouterr().out)
    assert [
        row["question"] for row in rows
    ] == "1.3 1.4 1.5 2.1 2.1 2.1 2.2 2.3.1 2.3.1 2.3.2".split()
    return code, {f"{row['question']} {row['title']}": row for row in rows}


@pytest.mark.parametrize(
    "loss, question, at_limit",
    [("q1_3", "1.3 GAN", 150), ("q1_4", "1.4 LSGAN", 90), ("q1_5", "1.5 WGAN-GP", 50)],
)
def test_fid_is_met_up_to_its_reference(tmp_path, capsys, make_gan, loss, question, at_limit):
    for score, verdict, code in ((at_limit, "met", 0), (at_limit + 0.01, "not met", 1)):
        make_gan(tmp_path / "run", final=score, loss=loss)
        got, rows = graded(capsys, tmp_path)
        assert (got, rows[question]["verdict"], rows[question]["measured"]) == (
            code,
            verdict,
            score,
        )
        assert all(row["verdict"] == "not run" for name, row in rows.items() if name != question)


@pytest.mark.parametrize(
    "question, limit, config",
    [
        ("2.2 VAE", 145, {}),
        ("2.3.1 beta-VAE, 0.8", 130, {"target_beta_val": 0.8}),
        ("2.3.1 beta-VAE, 1.2", 155, {"target_beta_val": 1.2}),
        ("2.3.2 VAE, linear beta", 125, {"beta_mode": "linear"}),
    ],
)
def test_reconstruction_is_met_below_its_reference(
    tmp_path, capsys, make_vae, question, limit, config
):
    for recon, verdict, code in ((limit - 0.01, "met", 0), (limit, "not met", 1)):
        make_vae(tmp_path / "run", recon, **config)
        got, rows = graded(capsys, tmp_path)
        assert (got, rows[question]["verdict"], rows[question]["measured"]) == (
            code,
            verdict,
            recon,
        )
        assert sum(row["verdict"] != "not run" for row in rows.values()) == 1


def test_autoencoders_have_a_band_but_no_reference(tmp_path, capsys, make_vae):
    make_vae(tmp_path / "run", 203.0, loss_mode="ae", latent_size=16)
    assert (
        graded(capsys, tmp_path)[1]["2.1 AE, 16 latents"]["verdict"]
        == "no reference (within the public band 202-206)"
    )
    make_vae(tmp_path / "run", 40.0, loss_mode="ae", latent_size=1024)
    code, rows = graded(capsys, tmp_path)
    assert (code, rows["2.1 AE, 1024 latents"]["verdict"]) == (
        0,
        "no reference (outside the public band 25-31)",
    )


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"images": 5_898}, "5,898 images instead of the 11,780 of CUB"),
        ({"dataset": "synthetic", "images": 6_000}, "synthetic data"),
        ({"batch_size": 64}, "batch_size 64 instead of 256"),
        ({"lamb": 1}, "lamb 1 instead of 10"),
        ({"final": None}, "10,000 samples instead of 50,000"),
        ({"period": 5_000}, "10,000 iterations instead of 30,000"),
        ({"period": 20_000, "num_iterations": 40_000}, "40,000 iterations instead of 30,000"),
        ({"row": {"fid_mode": "eval"}}, "running instead of batch statistics"),
        ({"row": {"score_name": "FD (x.pt)", "features": "x-1234"}}, "FD (x.pt) is not FID"),
        (
            {"row": {"features": "inception-2015-12-05-00000000"}},
            "other Inception weights (inception-2015-12-05-00000000)",
        ),
    ],
)
def test_what_keeps_a_gan_from_comparing(tmp_path, capsys, make_gan, change, reason):
    """And a number that does not compare is never called met, nor missed."""
    for final in (1.0, 1e4):
        make_gan(tmp_path / "run", **{"final": final} | change)
        code, rows = graded(capsys, tmp_path)
        assert (code, rows["1.5 WGAN-GP"]["verdict"], rows["1.5 WGAN-GP"]["reasons"]) == (
            0,
            "not comparable",
            [reason],
        )


@pytest.mark.parametrize(
    "change, reason",
    [
        (
            {"dataset": "synthetic", "images": [5_000, 1_000]},
            "synthetic data, 5,000 training and 1,000 validation images "
            "instead of 50,000 and 10,000",
        ),
        ({"epochs": 12}, "12 epochs instead of 20"),
        ({"batch_size": 128}, "batch_size 128 instead of 256"),
        ({"lr": 0.01}, "lr 0.01 instead of 0.001"),
        ({"grad_clip": 5.0}, "grad_clip 5.0 instead of 1"),
        (
            {"images": [50_000, 100]},
            "cifar10 data, 50,000 training and 100 validation images instead of 50,000 and 10,000",
        ),
    ],
)
def test_what_keeps_a_vae_from_comparing(tmp_path, capsys, make_vae, change, reason):
    make_vae(tmp_path / "run", 1.0, **change)
    code, rows = graded(capsys, tmp_path)
    assert (code, rows["2.2 VAE"]["verdict"], rows["2.2 VAE"]["reasons"]) == (
        0,
        "not comparable",
        [reason],
    )


def test_a_longer_vae_run_is_read_at_epoch_19(tmp_path, capsys, make_vae):
    make_vae(tmp_path / "run", 100.0, epochs=25, num_epochs=25)
    make_vae(tmp_path / "linear", 100.0, epochs=25, num_epochs=25, beta_mode="linear")
    rows = graded(capsys, tmp_path)[1]
    assert (rows["2.2 VAE"]["measured"], rows["2.2 VAE"]["verdict"]) == (150.0, "not met")
    assert rows["2.3.2 VAE, linear beta"]["reasons"] == ["a slope for 25 epochs instead of 20"]


def test_the_comparable_run_answers_then_the_longest(tmp_path, capsys, make_gan):
    make_gan(tmp_path / "a", period=1_000)
    make_gan(tmp_path / "b", period=2_000)
    assert graded(capsys, tmp_path)[1]["1.5 WGAN-GP"]["run"].endswith("b")
    make_gan(tmp_path / "c", final=60.0)
    code, rows = graded(capsys, tmp_path)
    assert (code, rows["1.5 WGAN-GP"]["run"][-1], rows["1.5 WGAN-GP"]["verdict"]) == (
        1,
        "c",
        "not met",
    )


def test_a_run_that_went_on_is_graded_where_the_assignment_ends(tmp_path, capsys, make_gan):
    folder = make_gan(tmp_path / "a", num_iterations=31_000)
    text = (folder / "metrics.csv").read_text()
    last = text.splitlines()[2].replace("30000,log", "31000,log").replace("45.5", "99.0")
    (folder / "metrics.csv").write_text(text + last + "\n")
    row = graded(capsys, folder)[1]["1.5 WGAN-GP"]
    assert (row["measured"], row["verdict"], row["done"]) == (44.25, "met", 31_000)


@pytest.mark.parametrize(
    "own", [{"generator_every": 1}, {"optimizers": "mine.make"}, {"networks": ["A", "B"]}]
)
def test_other_networks_rates_or_steps_answer_no_question(tmp_path, capsys, make_gan, own):
    make_gan(tmp_path / "a", **own)
    assert graded(capsys, tmp_path)[1]["1.5 WGAN-GP"]["verdict"] == "not run"


@pytest.mark.parametrize(
    "own", [{"flows": 4}, {"free_bits": 0.5}, {"network": "small"}, {"latent_size": 512}]
)
def test_other_models_answer_no_question(tmp_path, capsys, make_vae, own):
    make_vae(tmp_path / "mine", 1.0, **own)
    assert grade.main(["--json", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert all(row["verdict"] == "not run" for row in json.loads(printed.out)[:10])
    assert printed.err == "read, but no question asks for them: mine\n"


def test_no_comparable_run_hides_behind_another(tmp_path, capsys, make_gan, make_vae):
    """Whatever the folders are called, and however long the others are."""
    for better, worse in ("ab", "ba"):
        make_gan(tmp_path / better, final=40.0)
        make_gan(tmp_path / worse, final=60.0)
        assert grade.main(["--json", str(tmp_path)]) == 1
        rows = [row for row in json.loads(capsys.readouterr().out) if row["question"] == "1.5"]
        assert [(row["measured"], row["verdict"]) for row in rows] == [
            (40.0, "met"),
            (60.0, "not met"),
        ]
    make_vae(tmp_path / "vae/short", 150.0)
    make_vae(tmp_path / "vae/long", 80.0, epochs=25, num_epochs=25)
    assert grade.main(["--json", str(tmp_path / "vae")]) == 1
    rows = [row for row in json.loads(capsys.readouterr().out) if row["question"] == "2.2"]
    assert [row["measured"] for row in rows] == [130.0, 150.0]


@pytest.mark.parametrize(
    "other", [{"score_name": "FD (x.pt)", "features": "x-1"}, {"fid_mode": "eval"}]
)
def test_a_fid_is_found_among_scores_of_another_kind(tmp_path, capsys, make_gan, other):
    """A run that went on beyond 30,000 iterations and was scored otherwise there."""
    folder = make_gan(tmp_path / "a", num_iterations=31_000)
    header, *lines = (folder / "metrics.csv").read_text().splitlines()
    row = (
        dict(zip(header.split(","), lines[1].split(",")))
        | {"iteration": "31000", "score": "500.0"}
        | other
    )
    (folder / "metrics.csv").write_text("\n".join([header, *lines, ",".join(row.values())]) + "\n")
    row = graded(capsys, folder)[1]["1.5 WGAN-GP"]
    assert (row["measured"], row["verdict"], row["done"]) == (44.25, "met", 31_000)


def test_a_log_line_of_50_000_samples_counts(tmp_path, capsys, make_gan):
    folder = make_gan(tmp_path / "a")
    text = (folder / "metrics.csv").read_text()
    header, early, log, final = text.splitlines()
    log, final = log.replace(",10000,", ",50000,"), final.replace(",50000,", ",10000,")
    (folder / "metrics.csv").write_text("\n".join([header, early, log, final]) + "\n")
    row = graded(capsys, folder)[1]["1.5 WGAN-GP"]
    assert (row["measured"], row["verdict"]) == (45.5, "met")


def test_a_diffusion_run_without_an_epoch(tmp_path, capsys, make_ddpm):
    for name in "ab":
        folder = make_ddpm(tmp_path / name)
    (folder / "metrics.csv").write_text((folder / "metrics.csv").read_text().splitlines()[0] + "\n")
    assert grade.main([str(tmp_path)]) == 0
    assert "noise error 0.0500" in capsys.readouterr().out
    assert grade.main([str(folder)]) == 0
    assert "    no epoch done" in capsys.readouterr().out


def test_runs_are_found_where_the_scripts_leave_them(tmp_path, capsys, make_gan, make_vae):
    make_gan(tmp_path / "gan/data_wgan_gp")
    make_vae(tmp_path / "vae/data/vae_latent1024")
    (tmp_path / "gan/datasets/CUB_200_2011").mkdir(parents=True)
    rows = graded(capsys, tmp_path / "gan", tmp_path / "vae")[1]
    assert rows["1.5 WGAN-GP"]["verdict"] == rows["2.2 VAE"]["verdict"] == "met"


def test_a_run_that_does_not_name_its_data(tmp_path, capsys, make_gan):
    """One started from a program: train_model knows pixels, not names."""
    folder = make_gan(tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    del config["dataset"]
    (folder / "config.json").write_text(json.dumps(config))
    assert graded(capsys, folder)[1]["1.5 WGAN-GP"]["reasons"] == ["unnamed data"]


def test_other_folders_beside_the_runs_are_left_alone(tmp_path, capsys, make_gan):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-python.tar.gz").write_text("")
    make_gan(tmp_path / "run")
    assert graded(capsys, *tmp_path.iterdir())[1]["1.5 WGAN-GP"]["verdict"] == "met"


def test_a_variant_answers_no_question(tmp_path, capsys, make_gan):
    make_gan(tmp_path / "a", variant="scrambled upsampling")
    assert graded(capsys, tmp_path)[1]["1.5 WGAN-GP"]["verdict"] == "not run"


def test_a_run_without_scores(tmp_path, capsys, make_gan):
    folder = make_gan(tmp_path / "a", final=None)
    lines = (folder / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    blank = [
        columns.index(name) for name in ("score", "score_name", "num_gen", "fid_mode", "features")
    ]
    cells = [line.split(",") for line in lines]
    for row in cells[1:]:
        for column in blank:
            row[column] = ""
    (folder / "metrics.csv").write_text("\n".join(map(",".join, cells)))
    row = graded(capsys, folder)[1]["1.5 WGAN-GP"]
    assert (row["verdict"], row["measured"], row["reasons"]) == (
        "not comparable",
        None,
        ["no score measured"],
    )


def test_the_table_has_a_line_a_question(tmp_path, capsys, make_gan, make_vae):
    make_gan(tmp_path / "gan")
    make_vae(tmp_path / "vae", 150.0)
    assert grade.main([str(tmp_path)]) == 1
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["question", "run", "measured"] and len(lines) == 10
    wgan, vae = (
        next(line for line in lines if line.startswith(number)) for number in ("1.5", "2.2")
    )
    assert "FID 44.25" in wgan and "<= 50" in wgan and "32.41" in wgan and wgan.endswith(" met")
    assert "recon 150.00" in vae and "< 145" in vae and vae.endswith("not met")


def test_reasons_stand_below_their_line(tmp_path, capsys, make_gan):
    make_gan(tmp_path / "a", batch_size=64, lamb=1)
    grade.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("1.5"))
    assert lines[at].endswith("not comparable") and lines[at + 3].startswith("2.1")
    assert lines[at + 1 : at + 3] == [
        "    batch_size 64 instead of 256",
        "    lamb 1 instead of 10",
    ]


def replace(old, new):
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    "file, tamper, expected",
    [
        (
            "metrics.csv",
            replace("44.25", "4x.25"),
            "line 4: score is '4x.25', expected a finite number >= 0",
        ),
        ("metrics.csv", replace("44.25", "nan"), "line 4: score is 'nan'"),
        ("metrics.csv", replace("44.25", "-3"), "line 4: score is '-3'"),
        (
            "metrics.csv",
            replace("15000,log", "15000.5,log"),
            "line 2: iteration is '15000.5', expected a whole number >= 0",
        ),
        ("metrics.csv", replace("15000,log", "45000,log"), "line 2: iteration is 45000"),
        (
            "metrics.csv",
            replace("15000,log", "30000,log"),
            "line 3: iteration is 30000 after 30000",
        ),
        (
            "metrics.csv",
            replace("15000,log", "15000,best"),
            "line 2: kind is 'best', expected log or final",
        ),
        ("metrics.csv", replace("iteration,", "iterations,"), "no column iteration"),
        ("metrics.csv", replace("score_name", "name"), "no column score_name"),
        ("metrics.csv", replace(",FID,", ",,"), "line 2: a score without score_name"),
        ("metrics.csv", lambda text: text[:-30], "line 4: "),
        ("metrics.csv", lambda text: "", "no column iteration"),
        ("metrics.csv", lambda text: None, "missing"),
        ("config.json", lambda text: None, "missing"),
        ("config.json", lambda text: text[:40], "not readable as JSON"),
        ("config.json", lambda text: "[]", "none of loss, loss_mode and model"),
        ("config.json", replace('"batch_size": 256', '"batch_size": "big"'), "batch_size is 'big'"),
        ("config.json", replace('"images": 11780, ', ""), "images is None"),
        ("config.json", replace('"images": 11780', '"images": 0'), "images is 0"),
        ("config.json", lambda text: "[" * 100_000, "not readable as JSON"),
    ],
)
def test_damage_is_one_line_and_the_rest_is_graded(
    tmp_path, capsys, make_gan, make_vae, file, tamper, expected
):
    folder = make_gan(tmp_path / "gan")
    make_vae(tmp_path / "vae")
    text = tamper((folder / file).read_text())
    (folder / file).unlink() if text is None else (folder / file).write_text(text)
    assert grade.main([str(tmp_path)]) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert str(folder / file) in line and expected in line
    assert any(line.startswith("2.2") and line.endswith(" met") for line in output.out.splitlines())


def test_a_vae_row_without_kl(tmp_path, capsys, make_vae):
    folder = make_vae(tmp_path / "vae")
    text = (folder / "metrics.csv").read_text().splitlines()
    text[3] = text[3].replace(",61.0,", ",,")
    (folder / "metrics.csv").write_text("\n".join(text))
    assert grade.main([str(folder)]) == 2
    assert "line 4: val_kl_loss is ''" in capsys.readouterr().err


@pytest.mark.parametrize("images", [[], ["a", 2], [1], 5])
def test_image_counts_of_a_vae(tmp_path, capsys, make_vae, images):
    assert grade.main([str(make_vae(tmp_path / "vae", images=images))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "config.json: images is" in line


def test_folders_without_runs(tmp_path, capsys):
    for path, expected in ((tmp_path, "no run in it"), (tmp_path / "none", "no such folder")):
        assert grade.main([str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line and expected in line


@pytest.mark.parametrize(
    "column, value",
    [
        ("val_recon_loss", "99.0"),
        ("val_kl_loss", "1.0"),
        ("train_recon_loss", "1.0"),
        ("train_loss", "900.0"),
    ],
)
def test_an_edited_number_is_found_by_the_others_in_its_row(
    tmp_path, capsys, make_vae, column, value
):
    folder = make_vae(tmp_path / "vae")
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    lines[-1][lines[0].index(column)] = value
    (folder / "metrics.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    assert grade.main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "line 21" in line and f"{column.split('_')[0]}_loss is" in line


def test_a_critics_loss_is_the_sum_of_its_terms(tmp_path, capsys, make_gan):
    folder = make_gan(tmp_path / "gan")
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.replace(",0.1,", ",0.01,", 1))
    assert grade.main([str(folder)]) == 2
    assert "line 2: discriminator_loss is" in capsys.readouterr().err


def test_time_runs_forward(tmp_path, capsys, make_vae):
    folder = make_vae(tmp_path / "vae")
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.replace(",18.0\n", ",1.0\n"))
    assert grade.main([str(folder)]) == 2
    assert "line 4: seconds is 1.0 after 9.0" in capsys.readouterr().err


def test_runs_are_found_at_any_depth(tmp_path, capsys, make_gan, make_vae):
    make_gan(tmp_path / "class/alice/gan/data_wgan_gp")
    make_vae(tmp_path / "class/bob/hand in/final/vae/data/vae_latent1024")
    make_vae(tmp_path / "class/bob/.trash/vae_latent1024")
    (tmp_path / "class/carol").mkdir()
    folders = [str(tmp_path / "class" / name) for name in ("alice", "bob", "carol")]
    assert grade.main(["--json", *folders]) == 0
    printed = capsys.readouterr()
    rows = {row["question"]: row for row in json.loads(printed.out)}
    assert rows["1.5"]["verdict"] == rows["2.2"]["verdict"] == "met"
    assert "final" in rows["2.2"]["run"]
    assert printed.err == f"grade.py: no run in {folders[2]}\n"


def test_a_reader_that_has_read_enough(tmp_path, make_gan):
    make_gan(tmp_path / "gan")
    argv = [sys.executable, grade.__file__, "--json", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # as `| head -0`
    assert process.stderr.read() == b"" and process.wait() == 0


def test_strict_wants_a_number_that_compares(tmp_path, capsys, make_gan):
    make_gan(tmp_path / "runs/wgan", dataset="synthetic")
    assert grade.main([str(tmp_path / "runs")]) == 0
    assert grade.main([str(tmp_path / "runs"), "--strict"]) == 1
    make_gan(tmp_path / "runs/wgan_cub")
    assert grade.main([str(tmp_path / "runs"), "--strict"]) == 0
