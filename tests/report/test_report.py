"""report/build_report.py: from run folders to Markdown and pages; the committed report."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import build_report
import grade
import pytest
import typeset
from build_report import HERE
from parts import PARTS, Parts
from PIL import Image
from run_folder import RUNS, RunError, find_runs, read_run


def pictures(folder, *names):
    for name in names:
        Image.new("RGB", (60, 40), "green").save(folder / name)


def build(folders, out):
    return build_report.build([read_run(folder) for folder in find_runs(folders)], out)


@pytest.fixture
def runs(tmp_path, make_gan, make_vae):
    """Runs that answer every question but 1.3 and 1.4."""
    folder = make_gan(tmp_path / "runs/wgan", scores=(300.0, 41.5, 45.5), period=10_000)
    pictures(folder, "samples_10000.png", "samples_30000.png", "interpolations_30000.png")
    settings = {
        f"ae{latent}": {"loss_mode": "ae", "latent_size": latent} for latent in (16, 128, 1024)
    }
    settings |= {
        "vae": {},
        "vae_fp32": {"number_format": "float32"},
        "low": {"target_beta_val": 0.8},
        "high": {"target_beta_val": 1.2},
        "linear": {"beta_mode": "linear"},
    }
    for number, (name, config) in enumerate(settings.items()):
        folder = make_vae(tmp_path / "runs" / name, 100.0 + number, **config)
        pictures(folder, "epoch_4_recons.png", "epoch_19_recons.png", "epoch_19_samples.png")
    return tmp_path / "runs"


def test_a_report_of_ones_own(runs, tmp_path, capsys):
    out = tmp_path / "mine"
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 0
    text = (out / "report.md").read_text()
    assert (
        "FID with 50,000 samples: **44.25** after 30,000 iterations; "
        "the best of the curve is 41.50, at iteration 20,000" in text
    )
    told = capsys.readouterr().out
    assert "no run for 1.3: python gan/q1_3.py\n" in told and "for 1.5" not in told
    assert "## 1.5 WGAN-GP" in text and "## 1.3 The" not in text and "A diffusion" not in text
    assert (
        "| 1.5 WGAN-GP | FID 44.25 | 30,000 iterations | cub, 11,780 | <= 50 | 32.41 | met |"
        in text
    )
    assert "| AE, 128 latents | 19 | 101.00 |" in text
    assert (
        "### Analysis" in text and "## Sources" in text
    )  # headings, and no words about other runs
    assert "Jensen" not in text and "EfficientNet" not in text and "report/runs" not in text
    assert "| beta-VAE, 0.8 | 19 | 105.00 | 61.00 | 166.00 |" in text
    assert "../runs/wgan/samples_30000.png" in text and "samples_10000.png" not in text
    assert "epoch_19_recons.png" in text and "epoch_4_recons.png" not in text
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(shown) > 20 and all((out / path).is_file() for path in shown)
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    assert not list(out.glob("**/.unfinished*"))


def test_each_question_starts_a_page(runs, tmp_path):
    build([runs], tmp_path / "out")
    markdown = (tmp_path / "out/report.md").read_text()
    headings = typeset.typeset(markdown, tmp_path / "out", tmp_path / "again.pdf").headings
    numbers = [heading.split()[0] for heading in headings if heading[0].isdigit()]
    assert numbers == "1.5 2.1 2.2 2.3.1 2.3.2".split()
    assert headings[-1] == "Sources"
    assert (tmp_path / "again.pdf").read_bytes().count(b"/Type /Page\n") >= len(headings)


def test_building_twice_gives_the_same_files(runs, tmp_path):
    contents = []
    for _ in range(2):
        build([runs], tmp_path / "out")
        contents.append(
            {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
        )
    assert contents[0] == contents[1]


def test_number_formats_are_set_side_by_side(runs, tmp_path):
    parts = Parts([read_run(folder) for folder in find_runs([runs])], tmp_path)
    assert (
        "| bfloat16 | reconstruction | 293.00 | 253.00 | 203.00 | 153.00 | 103.00 |"
        in parts.formats()
    )
    assert (
        "| float32 | reconstruction | 294.00 | 254.00 | 204.00 | 154.00 | 104.00 |"
        in parts.formats()
    )


def test_a_curve_is_of_one_sample_count(tmp_path, make_gan):
    path = make_gan(tmp_path / "run", scores=(9.0, 8.0, 7.0), period=10_000) / "metrics.csv"
    path.write_text(path.read_text().replace("10000,train", "500,train", 1))
    curve, measure = read_run(path.parent).score_curve()
    assert curve == {20_000: 8.0, 30_000: 7.0} and measure == "FID, 10,000 samples"


def test_seeds_and_variants_are_set_side_by_side(tmp_path, make_gan):
    make_gan(tmp_path / "runs/a", scores=(9.0, 8.0), final=None)
    make_gan(tmp_path / "runs/b", scores=(7.0, 6.0), final=None, seed=1)
    make_gan(tmp_path / "runs/c", scores=(5.0, 4.0), final=None, variant="scrambled upsampling")
    parts = Parts([read_run(folder) for folder in find_runs([tmp_path / "runs"])], tmp_path)
    assert (
        PARTS["seeds"](parts).splitlines()[0]
        == "| iterations | WGAN-GP, seed 0 | WGAN-GP, seed 1 |"
    )
    assert PARTS["seeds"](parts).splitlines()[-1] == "| 30,000 | 8.0 | 6.0 |"
    assert PARTS["upsampling"](parts).splitlines()[-1] == "| 30,000 | 8.0 | 4.0 |"


def test_neighbours_have_parts_and_rows(tmp_path, make_gan, make_vae, make_ddpm, capsys):
    runs = tmp_path / "runs"
    make_gan(runs / "mlp", loss="mlp_gan")
    make_vae(runs / "plain", 120.0, 69.0, latent_size=128)
    make_vae(runs / "planar", 121.0, 66.5, latent_size=128, flows=4)
    make_vae(runs / "anneal", 118.0, 70.0, latent_size=128, beta_mode="anneal", batch_size=64)
    make_vae(runs / "small", 30.0, loss_mode="ae", latent_size=2048, network="small")
    folder = make_ddpm(runs / "ddpm")
    assert grade.main([str(runs)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("more")]
    assert [line.rsplit("  ", 1)[1] for line in lines] == ["no reference"] * 6
    assert "recon 118.00" in lines[4] and "noise error 0.0500" in lines[5]
    parts = Parts([read_run(folder) for folder in find_runs([runs])], tmp_path)
    assert "**44.25**" in parts.mlp_gan()
    assert (
        "| VAE, 4 planar flows | `planar` | 20 | 121.00 | 66.50 | -187.50 |" in parts.neighbours()
    )
    assert "| AE, small | `small` | 20 | 30.00 |" in parts.neighbours()
    assert "| VAE, 128 latents | `plain` | 20 | 120.00 | 69.00 | -189.00 |" in parts.neighbours()
    assert not re.search(r"\| ddim", parts.ddpm())
    (folder / "samplers.csv").write_text(
        "sampler,steps,until,eta,images,seconds,score,score_name,features\n"
        "ddim,10,1,0.0,2000,61.5,321.04,FD (x.pt),x-12\n"
    )
    assert "| 2,000 | ddim | 1 | 10 | 0 | 321.04 |" in parts.ddpm()
    (folder / "samplers.csv").write_text(
        "sampler,steps,until,eta,images,seconds,score,score_name,features,kid,saturated\n"
        "ddpm,1000,1,1.0,500,61.5,1321.04,FD (x.pt),x-12,0.25,0.0123\n"
    )
    row = "| 500 | ddpm | 1 | 1,000 | 1 | 1,321.04 | 0.2500 | 1.23% |"
    assert row in parts.ddpm() and "| KID, `ddpm` | saturated, `ddpm` |" in parts.ddpm()
    (folder / "samplers.csv").write_text("sampler,steps\nddim,10\n")
    with pytest.raises(RunError, match=r"samplers.csv: no column eta"):
        parts.ddpm()


def test_the_small_autoencoder_alone_has_no_empty_curves(tmp_path, make_vae):
    make_vae(tmp_path / "runs/small", 30.0, loss_mode="ae", latent_size=2048, network="small")
    text = build_markdown(tmp_path, "neighbours")
    assert "| AE, small | `small` | 20 | 30.00 |" in text and "figures/" not in text


def build_markdown(tmp_path, *names):
    """report.md and the pages of the runs in tmp_path/runs, of some parts."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    (out / "report.md").write_text(
        "# T\n\n" + "\n\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in names or PARTS)
    )
    build([tmp_path / "runs"], out)
    return (out / "report.md").read_text()


def header_only(folder):
    text = (folder / "metrics.csv").read_text().splitlines()[0]
    (folder / "metrics.csv").write_text(text + "\n")


def final_only(folder):
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    scores = [
        lines[0].index(name) for name in ("score", "score_name", "num_gen", "fid_mode", "features")
    ]
    for row in lines[1:-1]:
        for column in scores:
            row[column] = ""
    (folder / "metrics.csv").write_text("\n".join(map(",".join, lines)))


def test_unusual_runs_make_a_report(tmp_path, make_gan, make_vae, make_ddpm):
    """Just begun, never scored, scored at the end alone, other kinds alone, with odd pictures."""
    runs = tmp_path / "runs"
    final_only(make_gan(runs / "a"))
    assert "**44.25** after 30,000 iterations." in build_markdown(tmp_path)
    header_only(make_vae(runs / "begun"))
    make_ddpm(runs / "ddpm")
    for latent in (16, 128, 1024):
        make_vae(runs / f"ae{latent}", 30.0, loss_mode="ae", latent_size=latent)
    make_vae(runs / "ae16_fp32", 30.0, loss_mode="ae", latent_size=16, number_format="float32")
    (runs / "a" / "samples_final.png").write_text("")
    text = build_markdown(tmp_path)
    assert "| AE, 16 latents | 19 | 30.00 |" in text and "begun" not in text
    for folder in runs.iterdir():
        shutil.rmtree(folder)
    header_only(make_gan(runs / "begun"))
    assert "|" not in build_markdown(tmp_path, "1.5", "2.1", "ddpm")


def test_scores_of_different_kinds_are_never_in_one_table(tmp_path, make_gan):
    other = {"row": {"score_name": "FD (x.pt)", "features": "x-12"}, "final": None}
    make_gan(tmp_path / "runs/a", loss="q1_3")
    make_gan(tmp_path / "runs/b", loss="q1_4", scores=(301.0, 46.0))
    make_gan(tmp_path / "runs/c", loss="q1_5", **other)
    make_gan(tmp_path / "runs/d", loss="mlp_gan")
    text = build_markdown(tmp_path, "comparison")
    assert "| iterations | GAN | LSGAN |\n" in text and "MLP" not in text
    make_gan(tmp_path / "runs/b", loss="q1_4", period=10_000, scores=(301.0, 46.0))
    text = build_markdown(tmp_path, "comparison")  # no row is lost where log periods differ
    assert all(f"| {step} |" in text for step in ("10,000", "15,000", "20,000", "30,000"))
    make_gan(tmp_path / "runs/e", loss="q1_3", seed=1, **other)
    assert "|" not in build_markdown(tmp_path, "seeds")


def test_references_stand_beside_comparable_numbers_only(tmp_path, make_vae):
    make_vae(tmp_path / "runs/a", 120.0, latent_size=128)
    make_vae(tmp_path / "runs/b", 120.0, epochs=3)
    make_vae(tmp_path / "runs/c", 120.0, latent_size=128, flows=4)
    make_vae(tmp_path / "runs/d", 120.0)
    make_vae(tmp_path / "runs/d_seed1", 124.0, seed=1)
    make_vae(tmp_path / "runs/e", 121.0, number_format="float32")
    elsewhere = "< 145 | 137.28, 136.56, 135.35; KL 60.58, 60.67 |"
    text = build_markdown(tmp_path, "all VAE runs")
    assert "| `a` | 120.00 | 61.00 |  | 120.4; KL 68.9 |" in text
    assert "| `b`, epoch 2 | 120.00 | 61.00 |  |  |" in text
    assert "`c`" not in text and "`e`" not in text
    assert f"| `d` x2 | 122.00 ± 2.83 | 61.00 ± 0.00 | {elsewhere}" in text


def test_batch_and_running_statistics(tmp_path, make_gan):
    folder = make_gan(tmp_path / "runs/a")
    for mode, score in (("train", 41.5), ("eval", 52.25)):
        row = {"score": score, "score_name": "FD (x.pt)", "num_gen": 2000}
        (folder / f"generator_score_{mode}.json").write_text(json.dumps(row))
    assert "| `a` | 30,000 | FD (x.pt), 2,000 samples | 41.50 | 52.25 |" in build_markdown(
        tmp_path, "statistics"
    )
    (folder / "generator_score_eval.json").write_text('{"score": "none"}')
    with pytest.raises(RunError, match="not a score"):
        build_markdown(tmp_path, "statistics")


def test_a_picture_that_cannot_be_read_changes_nothing(runs, tmp_path, capsys):
    out = tmp_path / "mine"
    build_report.main(["--runs", str(runs), "--out", str(out)])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    make_longer = (runs / "vae/metrics.csv").read_text().replace("336.0", "337.0")
    (runs / "vae/metrics.csv").write_text(make_longer)
    (runs / "vae/epoch_19_samples.png").write_text("")
    capsys.readouterr()
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "epoch_19_samples.png: cannot be read as a picture" in line
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_damaged_run_is_left_out_and_named(runs, tmp_path, capsys):
    out = tmp_path / "mine"
    (runs / "wgan/metrics.csv").write_text("iteration\n1\n")
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out:" in line and "wgan/metrics.csv: no column kind" in line
    text = (out / "report.md").read_text()
    assert "## 2.2" in text and "## 1.5" not in text and "| 1.5 WGAN-GP | - |" in text


def test_nothing_is_written_where_every_run_is_damaged(runs, tmp_path, capsys):
    out = tmp_path / "mine"
    for path in runs.glob("*/metrics.csv"):
        path.write_text("")
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 2
    assert "left out" in capsys.readouterr().err and not out.exists()


def test_a_part_without_a_place_is_named(runs, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "report.md").write_text("# Mine\n\n<!-- 2.2 -->\n<!-- /2.2 -->\n")
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "for 1.5, write <!-- 1.5 --> and <!-- /1.5 -->" in told and "for 2.2" not in told
    assert not (out / "figures/1.5_score.png").exists()  # nor a curve that nobody shows


def test_seeds_have_one_row_with_their_spread(tmp_path, make_vae):
    newer = {"free_bits": 0.0, "anneal_steps": 10000, "cycles": 4}  # an older config.json has none
    for seed, recon in enumerate((136.0, 138.0, 146.0)):
        make_vae(tmp_path / f"runs/seed{seed}", recon, seed=seed, **(newer if seed else {}))
    text = build_markdown(tmp_path, "results")
    assert "| 2.2 VAE | recon 140.00 ± 5.29 | 3 runs of 20 epochs |" in text
    assert text.count("2.2 VAE") == 1 and "| 2 met |" in text
    text = build_markdown(tmp_path, "2.2")
    assert "| VAE (3 seeds) | 19 | 140.00 ± 5.29 | 61.00 ± 0.00 | 201.00 ± 5.29 |" in text
    for seed in (0, 2):  # of one seed the first by its name, in every part
        make_vae(tmp_path / f"runs/seed{seed}_again", 134.0, seed=seed)
    text = build_markdown(tmp_path, "results", "2.2", "all VAE runs")
    assert "| 2.2 VAE | recon 140.00 ± 5.29 | 3 runs of 20 epochs |" in text
    assert "| VAE (3 seeds) | 19 | 140.00 ± 5.29 |" in text
    assert "| `seed0` x3 | 140.00 ± 5.29 |" in text


def test_seeds_of_an_autoencoder_are_within_the_band_or_not(tmp_path, make_vae):
    for seed, recon in enumerate((203.0, 204.0, 205.0)):
        make_vae(tmp_path / f"runs/{seed}", recon, seed=seed, loss_mode="ae", latent_size=16)
    assert "| recon 204.00 ± 1.00 | " in (text := build_markdown(tmp_path, "results"))
    assert "| 202-206 | all within |" in text
    make_vae(tmp_path / "runs/3", 210.0, seed=3, loss_mode="ae", latent_size=16)
    assert "| 202-206 | 3 within |" in build_markdown(tmp_path, "results")


def test_a_schedule_of_another_length_is_another_setting(tmp_path, make_vae):
    make_vae(tmp_path / "runs/a", 120.0, beta_mode="linear")
    make_vae(tmp_path / "runs/b", 150.0, beta_mode="linear", seed=1, num_epochs=50)
    text = build_markdown(tmp_path, "2.3.2", "all VAE runs")
    assert "| VAE, linear beta | 19 | 120.00 |" in text and "±" not in text
    make_vae(tmp_path / "runs/c", 136.0)  # of a constant beta it is not
    make_vae(tmp_path / "runs/d", 138.0, seed=1, num_epochs=50)
    assert "| VAE (2 seeds) | 19 | 137.00 ± 1.41 |" in build_markdown(tmp_path, "2.2")


def test_of_equal_runs_the_longest_stands_beside_another(tmp_path, make_vae):
    make_vae(tmp_path / "runs/a", 136.0)
    make_vae(tmp_path / "runs/a_try", 300.0, epochs=1, number_format="float32")
    make_vae(tmp_path / "runs/b", 137.0, number_format="float32")
    text = build_markdown(tmp_path, "formats")
    assert "| float32 | reconstruction | 327.00 |" in text and "300.00" not in text


AVERAGE_AND_QUALITY = (
    "score_ema,kid,kid_std,precision,recall",
    "250.4,,,,",
    "40.6,,,,",
    "39.9,-0.0012,0.0004,0.81,0.25",
)


def add_columns(folder, *cells):
    """More columns for a metrics.csv, a text for each of its lines."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    text = "\n".join(f"{line},{new}" for line, new in zip(lines, cells, strict=True))
    (folder / "metrics.csv").write_text(text + "\n")


def test_the_average_and_the_other_metrics(tmp_path, make_gan):
    folder = make_gan(tmp_path / "runs/a")
    add_columns(folder, *AVERAGE_AND_QUALITY)
    pictures(folder, "samples_9.png", "samples_ema_30000.png", "around_a_sample_30000.png")
    make_gan(tmp_path / "runs/b", seed=1)  # without these metrics
    text = build_markdown(tmp_path, "1.5", "quality", "average")
    assert "KID -0.0012 ± 0.0004, precision 0.810, recall 0.2500." in text
    row = "| WGAN-GP | `a` | 30,000 | 256 | 44.25 | -0.0012 ± 0.0004 | 0.810 | 0.2500 |"
    assert row in text and "| `b` |" not in text
    assert "FID, KID, precision and recall of 50,000 samples" in text
    assert "figures/averages.png" in text
    (run,) = map(read_run, find_runs([folder]))
    assert run.score_curve("score_ema") == ({15_000: 250.4, 30_000: 40.6}, "FID, 10,000 samples")
    assert "100 samples after 9 iterations" in text and "samples_ema_30000.png" in text


def test_losses_are_compared_at_equal_lengths(tmp_path, make_gan):
    for name, loss, period in (("a", "q1_3", 1000), ("b", "q1_5", 1000), ("c", "q1_5", 15_000)):
        add_columns(
            make_gan(tmp_path / f"runs/{name}", loss=loss, period=period), *AVERAGE_AND_QUALITY
        )
    add_columns(make_gan(tmp_path / "runs/d", networks=["MLP"]), *AVERAGE_AND_QUALITY)
    text = build_markdown(tmp_path, "quality", "average")
    rows = [
        line.split(" | ")[1:3] for line in text.splitlines() if re.match(r"\| W?GAN\S* \| `", line)
    ]
    assert rows == [["`a`", "2,000"], ["`b`", "2,000"]]
    # One run, made again longer, has one curve for its average; other decays and names their own.
    assert averaged(text) == {"a", "c", "d"}
    for name, decay in (("e", 0.99), ("x/e", 0.999)):
        add_columns(make_gan(tmp_path / f"runs/{name}", ema=decay), *AVERAGE_AND_QUALITY)
    assert averaged(build_markdown(tmp_path, "average")) == {"a", "c", "d", "runs/e", "x/e"}


def averaged(text):
    """The runs whose curves are together in a figure."""
    (caption,) = re.findall(r"!\[(.*): generators and averages\]", text)
    return set(re.findall("`(.*?)`", caption))


def test_scores_against_other_birds_are_not_in_one_table(tmp_path, make_gan):
    for name, loss, more in (
        ("a", "q1_3", {}),
        ("b", "q1_4", {"images": 5898}),
        ("c", "q1_5", {"data": "0123456789ab"}),
        ("d", "q1_5", {"variant": "scrambled upsampling"}),
    ):
        add_columns(make_gan(tmp_path / f"runs/{name}", loss=loss, **more), *AVERAGE_AND_QUALITY)
    assert "|" not in build_markdown(tmp_path, "comparison")
    text = build_markdown(tmp_path, "quality")
    assert text.count("| loss | run |") == 3 and "`d`" not in text


def test_an_unknown_part_is_named(tmp_path, runs, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "report.md").write_text("<!-- 9.9 -->\n<!-- /9.9 -->\n")
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 2
    assert "no part is called '9.9'" in capsys.readouterr().err


def test_words_survive(tmp_path, runs):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "report.md").write_text(
        "# Mine\n\nmy words\n\n<!-- 2.2 -->\nstale\n<!-- /2.2 -->\n\nmore words\n"
    )
    build([runs], out)
    text = (out / "report.md").read_text()
    assert (
        text.startswith("# Mine\n\nmy words\n")
        and text.endswith("more words\n")
        and "stale" not in text
    )


def test_markdown_blocks():
    text = "# T\n\none\ntwo **b** `c`\n- x\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<!-- no -->"
    text += "```sh\n# run | it\n```\nend"
    assert list(typeset.blocks(text)) == [
        ("heading", ("T", 1)),
        ("words", "one\ntwo **b** `c`\n- x"),
        ("table", [["a", "b"], ["1", "2"]]),
        ("words", "```sh\n# run | it\n```"),
        ("words", "end"),
    ]


def test_ones_own_words_are_set(tmp_path):
    """Emphasis of any kind, pictures of one's own beside report.md, paths with spaces."""
    pictures(tmp_path, "mine.png", "run (1).png")
    text = "# T\n\n**`bold code`** *`code`* ***both*** *a **b** c* x < y & <z>\n\n"
    text += "Before ![mine](mine.png) after.\n\n| a | b |\n|---|---|\n"
    text += "| ![one](<run (1).png>) |  |\n| words | ![two](mine.png) |\n"
    (kinds, contents) = zip(*typeset.blocks(text), strict=True)
    assert kinds == ("heading", "words", "pictures", "words", "pictures", "pictures")
    assert contents[4] == [("one", "run (1).png")]
    pages = typeset.typeset(text, tmp_path, tmp_path / "report.pdf")
    assert pages.figure_number == 3


@pytest.mark.parametrize("words", ["|" + " x |" * 90 + "\n|" + "---|" * 90, "![x](gone.png)"])
def test_what_cannot_be_set_is_one_line(words, runs, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "report.md").write_text(f"# T\n\n{words}\n")
    assert build_report.main(["--runs", str(runs), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be" in line and not (out / "report.pdf").exists()


def test_a_run_folder_with_brackets(tmp_path, make_gan):
    folder = make_gan(tmp_path / "runs/a (1)")
    pictures(folder, "samples_30000.png")
    assert "(<../runs/a (1)/samples_30000.png>)" in build_markdown(tmp_path, "1.5")


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(tmp_path, make_vae):
    make_vae(tmp_path / "runs/a", 136.0)
    make_vae(tmp_path / "runs/a_again", 136.0)
    make_vae(tmp_path / "runs/b", 138.0, seed=1)
    make_vae(tmp_path / "runs/c", 140.0, number_format="float32")
    text = build_markdown(tmp_path, "results")
    assert "| 2.2 VAE (`a`) | recon 137.00 ± 1.41 | 2 runs of 20 epochs |" in text
    assert "| 2.2 VAE (`c`) | recon 140.00 | 20 epochs |" in text


def test_a_row_with_half_of_its_metrics_is_damaged(tmp_path, make_gan, capsys):
    folder = make_gan(tmp_path / "runs/a")
    add_columns(folder, "precision", "", "", "0.5")
    assert grade.main([str(folder)]) == 2
    assert "kid, precision or recall is missing" in capsys.readouterr().err


def test_a_picture_has_each_of_its_pixels_once():
    """Zoomed grids would make the pages four or sixteen times as large."""
    small = Image.effect_noise((8, 6), 90).convert("RGB")
    for zoom in (1, 2, 4):
        large = small.resize((8 * zoom, 6 * zoom), Image.Resampling.NEAREST)
        assert typeset.unzoomed(large).tobytes() == small.tobytes()


@pytest.mark.parametrize(
    "cell, number",
    [("1,234", True), ("FD 392.66", True), ("< 145", True), ("-", True), ("10 epochs", True)]
    + [("recon 137.45 ± 0.92", True), ("202-206", True)]
    + [("met", False), ("cub, 5,898", False), ("1.5 WGAN-GP", False)],
)
def test_columns_of_numbers(cell, number):
    assert bool(typeset.NUMBER.fullmatch(cell)) == number


# ------------------------------------------------------------------------------------------------
# The committed report


def test_the_committed_tables_are_what_the_committed_runs_say(tmp_path):
    """Every number between the marks comes from a metrics.csv in report/runs."""
    shutil.copytree(RUNS, tmp_path / "report/runs")
    parts = Parts(
        [read_run(folder) for folder in find_runs([tmp_path / "report/runs"])], tmp_path / "report"
    )
    for path in (HERE / "report.md", HERE.parent / "README.md"):
        made = {name: part(parts) for name, part in PARTS.items()}
        assert build_report.refresh(path, path.read_text(), made) == path.read_text(), (
            f"run python report/build_report.py ({path.name})"
        )


def test_the_committed_pages_are_of_the_committed_text():
    digest = hashlib.sha256((HERE / "report.md").read_bytes()).hexdigest()
    assert f"sha256 {digest}".encode() in (HERE / "report.pdf").read_bytes(), (
        "run python report/build_report.py"
    )


def test_the_committed_pages_are_filled_and_small(tmp_path):
    """No page but the last holds a few lines alone."""
    pages = typeset.typeset((HERE / "report.md").read_text(), HERE, tmp_path / "report.pdf")
    assert all(filled > 0.25 for filled in pages.filled[:-1]), pages.filled
    assert (HERE / "report.pdf").stat().st_size < 2.5e6


def test_the_committed_report_answers_every_question():
    text = (HERE / "report.md").read_text()
    assert "TODO" not in text
    for name in PARTS.keys() - {"gan scores", "all VAE runs"}:
        assert f"<!-- {name} -->" in text, name
    assert "## Sources" in text
    assert all(Path(HERE, path).is_file() for path in re.findall(r"!\[.*?\]\((.*?)\)", text))
