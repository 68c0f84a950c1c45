"""report/build_report.py: from run folders to Markdown and pages; the committed report."""

import hashlib
import json
import re
import shutil

import build_report
import grade
import pytest
import typeset
from build_report import HERE
from helpers import change, ddpm_run, gan_run, header_only, vae_run
from parts import PARTS, PUBLISHED, Parts
from PIL import Image
from questions import QUESTIONS
from run_folder import RUNS, RunError, find_runs, read_run


def pictures(folder, *names):
    for name in names:
        Image.new("RGB", (60, 40), "green").save(folder / name)


def built(tmp_path, *names):
    """Some parts of a report of the runs in tmp_path/runs; without names report.md, and pages."""
    runs, out = [*map(read_run, find_runs([tmp_path / "runs"]))], tmp_path / "out"
    if names:
        parts = Parts(runs, out)
        return "\n\n".join(PARTS[name](parts) for name in names)
    out.mkdir(exist_ok=True)
    marks = [f"<!-- {name} -->\n<!-- /{name} -->" for name in PARTS]
    (out / "report.md").write_text("\n\n".join(["# T", *marks]))
    build_report.build(runs, out)
    return (out / "report.md").read_text()


SETTINGS = {f"ae{n}": {"loss_mode": "ae", "latent_size": n} for n in (16, 128, 1024)}
SETTINGS |= {"vae": {}, "vae_fp32": {"number_format": "float32"}, "low": {"target_beta_val": 0.8}}
SETTINGS |= {"high": {"target_beta_val": 1.2}, "linear": {"beta_mode": "linear"}}


@pytest.fixture
def runs(tmp_path):
    """Runs that answer every question but 1.3 and 1.4."""
    folder = gan_run(tmp_path / "runs/wgan", scores=(300.0, 41.5, 45.5), period=10_000)
    pictures(folder, "samples_10000.png", "samples_30000.png", "interpolations_30000.png")
    for number, (name, config) in enumerate(SETTINGS.items()):
        folder = vae_run(tmp_path / "runs" / name, 100.0 + number, **config)
        pictures(folder, "epoch_4_recons.png", "epoch_19_recons.png", "epoch_19_samples.png")
    return tmp_path / "runs"


@pytest.fixture
def made(runs, tmp_path, capsys):
    """A call of build_report.py over these runs: what it prints; refused ones write nothing."""
    out = tmp_path / "mine"

    def call(words=None, code=0):
        if words is not None:
            out.mkdir(exist_ok=True)
            (out / "report.md").write_text(words)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert build_report.main(["--runs", str(runs), "--out", str(out)]) == code
        after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        told = capsys.readouterr()
        if code == 2:
            assert before == after
            assert told.err.count("\n") == max(1, told.err.count("left out"))
        return told.err if code else told.out

    return call


def test_a_report_of_ones_own(made, tmp_path):
    told, out = made(), tmp_path / "mine"
    assert "no run for 1.3: python gan/q1_3.py\n" in told and "for 1.5" not in told
    text = (out / "report.md").read_text()
    for words in (
        "FID with 50,000 samples: **44.25** after 30,000 iterations; "
        "the best of the curve is 41.50, at iteration 20,000",
        "| 1.5 WGAN-GP | FID 44.25 | 30,000 iterations | cub, 11,780 | <= 50 | 32.41 | met |",
        "| AE, 128 latents | 19 | 101.00 |",
        "| beta-VAE, 0.8 | 19 | 105.00 | 61.00 | 166.00 |",
        *("../runs/wgan/samples_30000.png", "epoch_19_recons.png"),
        *("## 1.5 WGAN-GP", "### Analysis", "## Sources"),
    ):
        assert words in text, words
    # Headings, and no words about other runs; the last pictures alone.
    for words in (
        *("## 1.3 The", "A diffusion", "Jensen", "EfficientNet", "report/runs"),
        *("samples_10000.png", "epoch_4_recons.png"),
    ):
        assert words not in text, words
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(shown) > 20 and all((out / path).is_file() for path in shown)
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    first = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    made()  # again: the same files, and nothing beside them
    assert first == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not list(out.glob("**/.unfinished*"))
    # Each question starts a page.
    headings = typeset.typeset(text, out, tmp_path / "again.pdf").headings
    numbers = [heading.split()[0] for heading in headings if heading[0].isdigit()]
    assert numbers == "1.5 2.1 2.2 2.3.1 2.3.2".split() and "## Sources" in text
    assert (tmp_path / "again.pdf").read_bytes().count(b"/Type /Page\n") >= len(headings)


def test_seeds_and_variants_are_set_side_by_side(tmp_path):
    gan_run(tmp_path / "runs/a", scores=(9.0, 8.0), final=None)
    gan_run(tmp_path / "runs/b", scores=(7.0, 6.0), final=None, seed=1)
    gan_run(tmp_path / "runs/c", scores=(5.0, 4.0), final=None, variant="scrambled upsampling")
    header, *_, last = built(tmp_path, "seeds").splitlines()
    assert header == "| iterations | WGAN-GP, seed 0 | WGAN-GP, seed 1 |"
    assert last == "| 30,000 | 8.0 | 6.0 |"
    assert built(tmp_path, "upsampling").endswith("\n| 30,000 | 8.0 | 4.0 |")


def test_neighbours_have_parts_and_rows(tmp_path, capsys):
    runs = tmp_path / "runs"
    gan_run(runs / "mlp", loss="mlp_gan")
    vae_run(runs / "plain", 120.0, 69.0, latent_size=128)
    vae_run(runs / "planar", 121.0, 66.5, latent_size=128, flows=4)
    vae_run(runs / "anneal", 118.0, 70.0, latent_size=128, beta_mode="anneal", batch_size=64)
    vae_run(runs / "small", 30.0, loss_mode="ae", latent_size=2048, network="small")
    file = ddpm_run(runs / "ddpm") / "samplers.csv"
    assert grade.main([str(runs)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("more")]
    assert [line.rsplit("  ", 1)[1] for line in lines] == ["no reference"] * 6
    assert "recon 118.00" in lines[4] and "noise error 0.0500" in lines[5]
    text = built(tmp_path, "mlp gan", "neighbours", "ddpm")
    for words in (
        "**44.25**",
        "| VAE, 4 planar flows | `planar` | 20 | 121.00 | 66.50 | -187.50 |",
        "| AE, small | `small` | 20 | 30.00 |",
        "| VAE, 128 latents | `plain` | 20 | 120.00 | 69.00 | -189.00 |",
    ):
        assert words in text
    assert "| ddim" not in text
    columns = "sampler,steps,until,eta,images,seconds,score,score_name"
    file.write_text(f"{columns},features\nddim,10,1,0.0,2000,61.5,321.04,FD (x.pt),x-12\n")
    assert "| 2,000 | ddim | 1 | 10 | 0 | 321.04 |" in built(tmp_path, "ddpm")
    row = "ddpm,1000,1,1.0,500,61.5,1321.04,FD (x.pt),0.25,0.0123"
    file.write_text(f"{columns},kid,saturated\n{row}\n")
    text = built(tmp_path, "ddpm")
    assert "| 500 | ddpm | 1 | 1,000 | 1 | 1,321.04 | 0.2500 | 1.23% |" in text
    assert "| KID, `ddpm` | saturated, `ddpm` |" in text
    file.write_text("sampler,steps\nddim,10\n")
    with pytest.raises(RunError, match=r"samplers.csv: no column"):
        built(tmp_path, "ddpm")


def test_unusual_runs_make_a_report(tmp_path):
    """Just begun, never scored, scored at the end alone, other kinds alone, with odd pictures."""
    runs = tmp_path / "runs"
    vae_run(runs / "small", 30.0, loss_mode="ae", latent_size=2048, network="small")
    text = built(tmp_path, "neighbours")
    assert "| AE, small | `small` | 20 | 30.00 |" in text and "figures/" not in text
    gan_run(runs / "a (1)", scores=(None, None))
    pictures(runs / "a (1)", "samples_30000.png")
    text = built(tmp_path)
    assert "**44.25** after 30,000 iterations." in text
    assert "(<../runs/a (1)/samples_30000.png>)" in text
    header_only(vae_run(runs / "begun"))
    ddpm_run(runs / "ddpm")
    for latent in (16, 128, 1024):
        vae_run(runs / f"ae{latent}", 30.0, loss_mode="ae", latent_size=latent)
    vae_run(runs / "ae16_fp32", 30.0, loss_mode="ae", latent_size=16, number_format="float32")
    (runs / "a (1)/samples_final.png").write_text("")
    text = built(tmp_path)
    assert "| AE, 16 latents | 19 | 30.00 |" in text and "begun" not in text
    for folder in runs.iterdir():
        shutil.rmtree(folder)
    header_only(gan_run(runs / "begun"))
    assert "|" not in built(tmp_path, "1.5", "2.1", "ddpm")


def test_scores_of_different_kinds_are_never_in_one_table(tmp_path):
    other = {"row": {"score_name": "FD (x.pt)", "features": "x-12"}, "final": None}
    gan_run(tmp_path / "runs/a", loss="q1_3")
    gan_run(tmp_path / "runs/b", loss="q1_4", scores=(301.0, 46.0))
    gan_run(tmp_path / "runs/c", loss="q1_5", **other)
    gan_run(tmp_path / "runs/d", loss="mlp_gan")
    text = built(tmp_path, "comparison")
    assert "| iterations | GAN | LSGAN |\n" in text and "MLP" not in text
    gan_run(tmp_path / "runs/b", loss="q1_4", period=10_000, scores=(301.0, 46.0))
    text = built(tmp_path, "comparison")  # no row is lost where log periods differ
    assert all(f"| {step} |" in text for step in ("10,000", "15,000", "20,000", "30,000"))
    gan_run(tmp_path / "runs/e", loss="q1_3", seed=1, **other)
    assert "|" not in built(tmp_path, "seeds")


def test_references_stand_beside_comparable_numbers_only(tmp_path):
    vae_run(tmp_path / "runs/a", 120.0, latent_size=128)
    vae_run(tmp_path / "runs/b", 120.0, epochs=3)
    vae_run(tmp_path / "runs/c", 120.0, latent_size=128, flows=4)
    vae_run(tmp_path / "runs/d", 120.0)
    vae_run(tmp_path / "runs/d_seed1", 124.0, seed=1)
    vae_run(tmp_path / "runs/e", 121.0, number_format="float32")
    elsewhere = "< 145 | 137.28, 136.56, 135.35; KL 60.58, 60.67 |"
    text = built(tmp_path, "all VAE runs")
    assert "| `a` | 120.00 | 61.00 |  | 120.4; KL 68.9 |" in text
    assert "| `b`, epoch 2 | 120.00 | 61.00 |  |  |" in text
    assert "`c`" not in text and "`e`" not in text
    assert f"| `d` x2 | 122.00 ± 2.83 | 61.00 ± 0.00 | {elsewhere}" in text


def test_batch_and_running_statistics(tmp_path):
    folder = gan_run(tmp_path / "runs/a")
    for file, score in (("_score_train", 41.5), ("_score_eval", 52.25), ("_best_score_train", 3.5)):
        row = {"score": score, "score_name": "FD (x.pt)", "num_gen": 2000}
        (folder / f"generator{file}.json").write_text(json.dumps(row))
    text = built(tmp_path, "statistics")
    assert "| `a` | 30,000 | FD (x.pt), 2,000 samples | 41.50 | 52.25 |" in text
    assert text.count("| `a` |") == 1
    (folder / "generator_best_score_eval.json").write_text(json.dumps(row))
    gan_run(folder, scores=(30.5, 46.0))
    text = built(tmp_path, "statistics")
    assert "| `a` | 15,000 | FD (x.pt), 2,000 samples | 3.50 | 3.50 |" in text
    (folder / "generator_score_eval.json").write_text('{"score": "none"}')
    with pytest.raises(RunError, match="not a score"):
        built(tmp_path, "statistics")


def test_a_damaged_run_is_left_out_and_named(made, runs, tmp_path):
    (runs / "wgan/metrics.csv").write_text("iteration\n1\n")
    (line,) = made(code=1).splitlines()
    assert "left out:" in line and "wgan/metrics.csv: no column num_gen" in line
    text = (tmp_path / "mine/report.md").read_text()
    assert "## 2.2" in text and "## 1.5" not in text and "| 1.5 WGAN-GP | - |" in text
    for path in runs.glob("*/metrics.csv"):
        path.write_text("")
    assert "left out" in made(code=2)  # every run


def test_ones_own_words_stay_and_a_part_without_a_place_is_named(made, tmp_path):
    told = made("# Mine\n\nmy words\n\n<!-- 2.2 -->\nstale\n<!-- /2.2 -->\n\nmore words\n")
    assert "for 1.5, write <!-- 1.5 --> and <!-- /1.5 -->" in told and "for 2.2" not in told
    text = (tmp_path / "mine/report.md").read_text()
    assert text.startswith("# Mine\n\nmy words\n") and text.endswith("more words\n")
    assert "stale" not in text
    assert not (tmp_path / "mine/figures/1.5_score.png").exists()  # nor a curve that nobody shows


def test_what_cannot_be_read_or_set_is_one_line_and_changes_nothing(made, runs):
    made()
    change(runs / "vae/metrics.csv", "354.0,293.0", "355.0,294.0")  # other curves
    (runs / "vae/epoch_19_samples.png").write_text("")
    assert "epoch_19_samples.png: cannot be read as a picture" in made(code=2)
    for words in ("|" + " x |" * 90 + "\n|" + "---|" * 90, "![x](gone.png)"):
        assert "cannot be" in made(f"# T\n\n{words}\n", code=2)
    assert "no part is called '9.9'" in made("# T\n\n<!-- 9.9 -->\n<!-- /9.9 -->\n", code=2)


def test_seeds_have_one_row_with_their_spread(tmp_path):
    newer = {"free_bits": 0.0, "anneal_steps": 10000, "cycles": 4}  # an older config.json has none
    for seed, (recon, ae) in enumerate(((136.0, 203.0), (138.0, 204.0), (146.0, 205.0))):
        vae_run(tmp_path / f"runs/seed{seed}", recon, seed=seed, **(newer if seed else {}))
        vae_run(tmp_path / f"runs/ae{seed}", ae, seed=seed, loss_mode="ae", latent_size=16)
    text = built(tmp_path, "results")
    assert text.count("2.2 VAE") == 1 and "| 2 met |" in text
    assert "| recon 204.00 ± 1.00 | " in text and "| 202-206 | all within |" in text
    for seed in (0, 2):  # of one seed the first by its name, in every part
        vae_run(tmp_path / f"runs/seed{seed}_again", 134.0, seed=seed)
    text = built(tmp_path, "results", "2.2", "all VAE runs")
    assert "| 2.2 VAE | recon 140.00 ± 5.29 | 3 runs of 20 epochs |" in text
    assert "| VAE (3 seeds) | 19 | 140.00 ± 5.29 | 61.00 ± 0.00 | 201.00 ± 5.29 |" in text
    assert "| `seed0` x3 | 140.00 ± 5.29 |" in text


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(tmp_path):
    vae_run(tmp_path / "runs/a", 136.0)
    vae_run(tmp_path / "runs/a_again", 136.0)
    vae_run(tmp_path / "runs/b", 138.0, seed=1)
    vae_run(tmp_path / "runs/c", 140.0, number_format="float32")
    vae_run(tmp_path / "runs/b_try", 300.0, epochs=1, number_format="float32")
    # A schedule of another length is another setting; of a constant beta it is not.
    vae_run(tmp_path / "runs/d", 120.0, beta_mode="linear")
    vae_run(tmp_path / "runs/e", 150.0, beta_mode="linear", seed=1, num_epochs=50)
    text = built(tmp_path, "results", "2.3.2")
    assert "| 2.2 VAE (`a`) | recon 137.00 ± 1.41 | 2 runs of 20 epochs |" in text
    assert "| 2.2 VAE (`c`) | recon 140.00 | 20 epochs |" in text
    assert "| VAE, linear beta | 19 | 120.00 |" in text
    vae_run(tmp_path / "runs/b", 138.0, seed=1, num_epochs=50)
    assert "| VAE (2 seeds) | 19 | 137.00 ± 1.41 |" in built(tmp_path, "2.2")
    text = built(tmp_path, "formats")  # of equal runs the longest stands beside another
    assert "| bfloat16 | reconstruction | 326.00 | 286.00 | 236.00 | 186.00 | 136.00 |" in text
    assert "| float32 | reconstruction | 330.00 |" in text and "300.00" not in text


METRICS = ("score_ema,kid,kid_std,precision,recall", "250.4,,,,", "40.6,,,,")
METRICS += ("39.9,-0.0012,0.0004,0.81,0.25",)


def measured(folder, **config):
    """A run with more columns in its metrics.csv."""
    path = gan_run(folder, **config) / "metrics.csv"
    lines = zip(path.read_text().splitlines(), METRICS, strict=True)
    path.write_text("".join(f"{line},{new}\n" for line, new in lines))
    return folder


def test_the_average_and_the_other_metrics(tmp_path):
    folder = measured(tmp_path / "runs/a")
    pictures(folder, "samples_9.png", "samples_ema_30000.png", "around_a_sample_30000.png")
    gan_run(tmp_path / "runs/b", seed=1)  # without these metrics
    text = built(tmp_path, "1.5", "quality", "average")
    for words in (
        "KID -0.0012 ± 0.0004, precision 0.810, recall 0.2500.",
        "| WGAN-GP | `a` | 30,000 | 256 | 44.25 | -0.0012 ± 0.0004 | 0.810 | 0.2500 |",
        "FID, KID, precision and recall of 50,000 samples",
        *("figures/averages.png", "100 samples after 9 iterations", "samples_ema_30000.png"),
    ):
        assert words in text, words
    assert "| `b` |" not in text
    curve = read_run(folder).score_curve("score_ema")
    assert curve == ({15_000: 250.4, 30_000: 40.6}, "FID, 10,000 samples")
    change(folder / "metrics.csv", "10000,train", "500,train")  # a curve is of one sample count
    assert read_run(folder).score_curve()[0] == {30_000: 45.5}


def test_losses_are_compared_at_equal_lengths(tmp_path):
    for name, loss, period in (("a", "q1_3", 1000), ("b", "q1_5", 1000), ("c", "q1_5", 15_000)):
        measured(tmp_path / f"runs/{name}", loss=loss, period=period)
    for name, loss, batch in (("f", "q1_3", 64), ("g", "q1_5", 64), ("h", "q1_5", 16)):
        measured(tmp_path / f"runs/{name}", loss=loss, period=15_000, batch_size=batch)
    measured(tmp_path / "runs/d", networks=["MLP"])
    text = built(tmp_path, "quality", "average")
    rows = re.findall(r"^\| W?GAN\S* \| `(.)` \| (\S+) \| (\d+)", text, flags=re.MULTILINE)
    assert rows == [(n, "30,000", "64") for n in "fg"] + [(n, "2,000", "256") for n in "ab"]
    caption = lambda text: re.search(r"!\[(.*): generators and averages\]", text)[1]
    averaged = lambda text: set(re.findall("`(.*?)`", caption(text)))  # together in a figure
    # One run, made again longer, has one curve for its average; other decays and names their own.
    assert averaged(text) == {*"acdfgh"}
    for name, decay in (("e", 0.99), ("x/e", 0.999)):
        measured(tmp_path / f"runs/{name}", ema=decay)
    assert averaged(built(tmp_path, "average")) == {*"acdfgh", "runs/e", "x/e"}


def test_scores_against_other_birds_are_not_in_one_table(tmp_path):
    measured(tmp_path / "runs/a", loss="q1_3")
    measured(tmp_path / "runs/b", loss="q1_4", images=5898)
    measured(tmp_path / "runs/c", loss="q1_5", data="0123456789ab")
    measured(tmp_path / "runs/d", loss="q1_5", variant="scrambled upsampling")
    assert "|" not in built(tmp_path, "comparison")
    text = built(tmp_path, "quality")
    assert text.count("| loss | run |") == 3 and "`d`" not in text


def test_markdown_blocks(tmp_path):
    """Emphasis of any kind, pictures of one's own beside report.md, paths with spaces."""
    text = "# T\n\none\ntwo **b** `c`\n- x\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<!-- no -->"
    text += "```sh\n# run | it\n```\nend"
    assert list(typeset.blocks(text)) == [
        ("heading", ("T", 1)),
        ("words", "one\ntwo **b** `c`\n- x"),
        ("table", [["a", "b"], ["1", "2"]]),
        ("words", "```sh\n# run | it\n```"),
        ("words", "end"),
    ]
    pictures(tmp_path, "mine.png", "run (1).png")
    text = "# T\n\n**`bold code`** *`code`* ***both*** *a **b** c* x < y & <z>\n\n"
    text += "Before ![mine](mine.png) after.\n\n| a | b |\n|---|---|\n"
    text += "| ![one](<run (1).png>) |  |\n| words | ![two](mine.png) |\n"
    (kinds, contents) = zip(*typeset.blocks(text), strict=True)
    assert kinds == ("heading", "words", "pictures", "words", "pictures", "pictures")
    assert contents[4] == [("one", "run (1).png")]
    assert typeset.typeset(text, tmp_path, tmp_path / "report.pdf").figure_number == 3
    # Columns of numbers are set to the right.
    cells = ["1,234", "FD 392.66", "< 145", "-", "10 epochs", "recon 137.45 ± 0.92", "202-206"]
    others = ["met", "cub, 5,898", "1.5 WGAN-GP"]
    assert [c for c in cells + others if typeset.NUMBER.fullmatch(c)] == cells


def test_a_picture_has_each_of_its_pixels_once():
    """Zoomed grids would make the pages four or sixteen times as large."""
    small = Image.effect_noise((8, 6), 90).convert("RGB")
    for zoom in (1, 2, 4):
        large = small.resize((8 * zoom, 6 * zoom), Image.Resampling.NEAREST)
        assert typeset.unzoomed(large).tobytes() == small.tobytes()


TEXT = (HERE / "report.md").read_text()


def test_the_committed_tables_are_what_the_committed_runs_say(tmp_path):
    """Every number between the marks comes from a metrics.csv in report/runs."""
    shutil.copytree(RUNS, tmp_path / "report/runs")
    runs = [read_run(folder) for folder in find_runs([tmp_path / "report/runs"])]
    parts = Parts(runs, tmp_path / "report")
    tables = {name: part(parts) for name, part in PARTS.items()}
    for path in (HERE / "report.md", HERE.parent / "README.md"):
        fresh = build_report.refresh(path, path.read_text(), tables)
        assert fresh == path.read_text(), f"run python report/build_report.py ({path.name})"
    assert "TODO" not in TEXT and "## Sources" in TEXT
    for name in PARTS.keys() - {"gan scores", "all VAE runs"}:  # the README's
        assert f"<!-- {name} -->" in TEXT, name


def test_the_committed_pages_are_of_the_committed_text_filled_and_small(tmp_path):
    """No page but the last holds a few lines alone."""
    pages = (HERE / "report.pdf").read_bytes()
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert f"sha256 {digest}".encode() in pages, "run python report/build_report.py"
    filled = typeset.typeset(TEXT, HERE, tmp_path / "report.pdf").filled
    assert all(share > 0.25 for share in filled[:-1]), filled
    assert len(pages) < 2.5e6


# Every number in the words of report.md and README.md is in a run, or in a benchmark's output.
# Numbers between the marks are made by parts.py, and have a test of their own.
NUMBER = r"(?<![\w.,/-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w/-]|[.,]\d)"
# What is no measurement: a fact of the data, another's number.
FACTS = "1.38 2009 2022 2,949 46.78 50.84 56.0 78.69 90.74 130.67 148.30 202.8 204.7 243.11".split()
# A difference, a mean: how it comes from what is there.
DERIVED = {
    "1,551": "0.2630 x 5,898",
    "1,337": "0.2267 x 5,898",
    "1,202": "0.2038 x 5,898",
    "493": "0.0836 x 5,898",
    "901": "steps of a thousand from 1,000 to 100, and one more",
}


def words(path):
    """The text without tables, parts, code, links and headings."""
    text = path.read_text()
    text = re.sub(r"<!-- ([^/\n]*?) -->\n.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
    text = text.partition("\n## Sources")[0]
    code_and_links = r"```.*?```|`[^`]*`|https?://\S+|arXiv \S+|\(equation \d+\)"
    text = re.sub(code_and_links, "", text, flags=re.DOTALL)
    return re.sub(r"^(#|\|).*$", "", text, flags=re.MULTILINE)


def numbers(row):
    """Those of a row, and sum or difference of its two terms."""
    found = {abs(float(v)) for v in row.values() if isinstance(v, int | float)}
    found.add(row.get("val_recon_loss", 0) + row.get("val_kl_loss", 0))
    return found | {row.get("real_score", 0) - row.get("fake_score", 0)}


@pytest.fixture(scope="module")
def known():
    """All numbers of the runs, sums and scores; and those of the benchmarks."""
    found = set()
    for run in map(read_run, find_runs([RUNS])):
        scores = [json.loads(path.read_text()) for path in run.folder.glob("*_score*.json")]
        found |= set().union(*map(numbers, (*run.rows, *scores, run.config)))
    for path in RUNS.glob("*/samplers.csv"):
        found |= set(map(float, re.findall(r"(?<=,)-?\d+(?:\.\d+)?(?=[,\n])", path.read_text())))
    told = (HERE / "benchmarks.txt").read_text() + str(PUBLISHED) + str(QUESTIONS)
    for path in (HERE / "report.md", HERE.parent / "README.md"):  # means of seeds, say
        told += "".join(re.findall(r"^\|.*$", path.read_text(), flags=re.MULTILINE))
    return found | {float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", told)}


def is_known(token, known):
    value, places = float(token.replace(",", "")), len(token.partition(".")[2])
    return any(abs(value - v) <= 0.5 * 10**-places + 1e-9 for v in known)


@pytest.mark.parametrize("path", [HERE / "report.md", HERE.parent / "README.md"])
def test_each_number_has_a_source(path, known):
    lost = [
        token
        for token in re.findall(NUMBER, words(path))
        if len(re.sub(r"\D", "", token).lstrip("0")) > 2
        and token not in (*FACTS, *DERIVED)
        and not is_known(token, known)
    ]
    assert not lost


def test_what_is_said_of_an_epoch_or_iteration_stands_in_its_row():
    """N at epoch E: some run has N there."""
    rows = {}
    for run in map(read_run, find_runs([RUNS])):
        for row in run.rows:
            rows.setdefault(row.get("iteration", row.get("epoch")), set()).update(numbers(row))
    pattern = rf"(?<! of )({NUMBER}) at (?:epoch |iteration )?({NUMBER})"  # 12 of 100 at 9,000
    found = re.findall(pattern, " ".join(words(HERE / "report.md").split()))
    assert len(found) > 15
    of = {step: rows.get(float(step.replace(",", ""))) for _, step in found}
    assert not [(n, step) for n, step in found if of[step] and not is_known(n, of[step])]
