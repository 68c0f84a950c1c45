"""Whole runs: exact resuming, measuring without a trace, outputs, command line, wrong inputs."""

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import logger
import main
import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from networks import Discriminator, Generator, reestimate_statistics
from PIL import Image
from settings import Settings, get_args
from tiny_networks import TinyFeatures, save_script
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

from common import InputError, Interrupted, NonFiniteError
from common.device import Precision
from common.run import Forecast

GAN = Path(main.__file__).parent
QUESTIONS = [q1_3, q1_4, q1_5]


def start(folder, birds, question=q1_5, iterations=7, **options):
    """A short run by `train_model`; options that it does not take itself go into the settings."""
    torch.manual_seed(0)
    gen, disc = Generator(), Discriminator()
    doors = {"batch_size": 4, "log_period": 3, "images": birds, "interpolates": question is q1_5}
    own = inspect.signature(train.train_model).parameters
    doors |= {name: value for name, value in options.items() if name in own}
    more = {name: value for name, value in options.items() if name not in own}
    train.train_model(
        gen,
        disc,
        iterations,
        prefix=folder,
        gen_loss_fn=question.compute_generator_loss,
        disc_loss_fn=question.compute_discriminator_loss,
        settings=Settings(**{"fid": "off"} | more),
        **doors,
    )
    return {
        f"{net}.{name}": value
        for net, module in (("gen", gen), ("disc", disc))
        for name, value in module.state_dict().items()
    }


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


def files(folder):
    return {path.name for path in folder.iterdir()} - {p.name for p in folder.glob("events.*")}


def same(weights1, weights2):
    return all(torch.equal(value, weights2[name]) for name, value in weights1.items())


def interrupt_at(monkeypatch, iteration, number=signal.SIGINT):
    iterate = train.Trainer.iterate

    def iterate_and_signal(self):
        iterate(self)
        if self.iteration == iteration:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(train.Trainer, "iterate", iterate_and_signal)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_stopped_run_ends_bit_identical(question, birds, tmp_path, monkeypatch, tiny_features):
    options = {"question": question, "fid": str(tiny_features), "num_gen": (8, 8)}
    expected = start(tmp_path / "whole", birds, **options)
    for stop in (2, 6):  # before the first log line, and at one
        with monkeypatch.context() as patch:
            interrupt_at(patch, stop, signal.SIGTERM)
            with pytest.raises(Interrupted) as stopped:
                start(tmp_path / "parts", birds, resume=stop == 6, **options)
            assert stopped.value.exit_code == 143
    got = start(tmp_path / "parts", birds, resume=True, **options)
    assert same(expected, got)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert [(row["iteration"], row["kind"]) for row in rows(tmp_path / "whole")] == [
        ("3", "log"),
        ("6", "log"),
        ("7", "log"),
        ("7", "final"),
    ]


def test_a_signal_while_scoring_loses_nothing(birds, tmp_path, monkeypatch, tiny_features):
    import fid

    options = {"fid": str(tiny_features), "num_gen": (8, 8), "iterations": 4}
    expected = start(tmp_path / "whole", birds, **options)
    measure = fid.Scorer.measure

    def measure_and_signal(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        return measure(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fid.Scorer, "measure", measure_and_signal)
        with pytest.raises(Interrupted, match="at iteration 3"):
            start(tmp_path / "parts", birds, **options)
    assert same(expected, start(tmp_path / "parts", birds, resume=True, **options))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_rows_after_the_restored_step_are_cut(birds, tmp_path):
    folder = tmp_path / "run"
    expected = start(folder, birds, iterations=4)
    old = (folder / "state.pt").read_bytes()
    start(folder, birds, iterations=7, resume=True)
    assert len(rows(folder)) == 4
    (folder / "state.pt").write_bytes(old)  # as if the later part had been killed before it saved
    again = start(folder, birds, iterations=4, resume=True)
    assert same(expected, again) and [row["iteration"] for row in rows(folder)] == ["3", "4"]


def test_a_finished_run_goes_on_with_more_iterations(birds, tmp_path):
    start(tmp_path / "run", birds, iterations=3)
    longer = start(tmp_path / "run", birds, iterations=6, resume=True)
    assert same(longer, start(tmp_path / "whole", birds, iterations=6))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_measuring_never_changes_training(birds, tmp_path, tiny_features):
    plain = start(tmp_path / "a", birds, log_period=100)
    measured = start(
        tmp_path / "b",
        birds,
        log_period=2,
        fid=str(tiny_features),
        num_gen=(8, 8),
        fid_mode="eval",
        save_minutes=1e-9,
    )
    assert same(plain, measured)


def test_a_seed_fixes_the_run(birds, tmp_path):
    first = start(tmp_path / "a", birds, iterations=2)
    assert same(first, start(tmp_path / "b", birds, iterations=2))
    assert not same(first, start(tmp_path / "c", birds, iterations=2, seed=1))


def test_outputs(birds, tmp_path, tiny_features, all_pictures):
    folder = tmp_path / "run"
    weights = start(folder, birds, iterations=4, fid=str(tiny_features), num_gen=(8, 10))
    for step in (3, 4):
        for kind in ("samples", "interpolations", "around_a_sample", "between_samples"):
            assert Image.open(folder / f"{kind}_{step}.png").size == (
                342,
                342,
            )  # 100 images, 10 a row
    for name in ("fid_vs_iterations", "losses_vs_iterations"):
        assert Image.open(folder / f"{name}.png").size == (900, 600)
    gen, disc = Generator(), Discriminator()
    gen.load_state_dict(torch.load(folder / "generator.pt", weights_only=True))
    disc.load_state_dict(torch.load(folder / "discriminator.pt", weights_only=True))
    assert all(
        torch.equal(value, weights[f"gen.{name}"]) for name, value in gen.state_dict().items()
    )
    table = rows(folder)
    best = min((row for row in table if row["kind"] == "log"), key=lambda row: float(row["score"]))
    if best["iteration"] == "4":
        best_weights = torch.load(folder / "generator_best.pt", weights_only=True)
        assert all(
            torch.equal(value, weights[f"gen.{name}"]) for name, value in best_weights.items()
        )
    assert [(row["kind"], row["num_gen"]) for row in table] == [
        ("log", "8"),
        ("log", "8"),
        ("final", "10"),
    ]
    assert table[0]["score_name"] == "FD (tiny.pt)" and table[0]["fid_mode"] == "train"
    config = json.loads((folder / "config.json").read_text())
    assert config["loss"] == "q1_5" and config["batch_size"] == 4 and config["images"] == 48
    assert config["versions"]["torch"] == torch.__version__
    assert {"processor", "fast_bfloat16", "threads"} <= config["versions"].keys()
    assert not list(folder.glob(".unfinished*"))


def test_pictures_are_of_the_same_normal_latents(birds, tmp_path, all_pictures):
    """With running statistics, in [0, 255], 100 to a picture."""
    start(tmp_path / "run", birds, iterations=2, log_period=2, seed=5)
    gen = Generator().eval()
    gen.load_state_dict(torch.load(tmp_path / "run/generator.pt", weights_only=True))
    reestimate_statistics(gen)
    with torch.no_grad():
        images = gen.forward_given_samples(
            torch.randn(100, 128, generator=torch.Generator().manual_seed(5 + 2))
        )
    with Image.open(tmp_path / "run/samples_2.png") as picture:
        drawn = pil_to_tensor(picture.convert("RGB"))
    expected = make_grid(images.add(1).mul(127.5), nrow=10).round()
    torch.testing.assert_close(drawn.float(), expected, atol=1, rtol=0)


@pytest.mark.parametrize("fast", [False, True])
def test_log_lines_hold_the_means_since_the_last(fast, birds, tmp_path, monkeypatch):
    seen, step = [], train.discriminator_step

    def discriminator_step(*args, **options):
        seen.append(step(*args, **options))
        return seen[-1]

    monkeypatch.setattr(train, "discriminator_step", discriminator_step)
    start(tmp_path / "run", birds, iterations=4, log_period=2, fast_penalty=fast)
    names = ["discriminator_loss", "real_score", "fake_score", *["gradient_penalty"] * fast]
    assert ("gradient_penalty" in seen[0]) == fast
    for row, steps in zip(rows(tmp_path / "run"), (seen[:2], seen[2:])):
        for name in names:
            mean = sum(float(terms[name]) for terms in steps) / 2
            assert float(row[name]) == pytest.approx(mean, rel=1e-5), name


def test_evaluations_do_not_outlive_their_weights(birds, tmp_path):
    folder = tmp_path / "run"
    start(folder, birds, iterations=2, log_period=2)
    of_now = [
        folder / f"generator_{name}"
        for name in ("score_train.json", "samples.png", "interpolations.png")
    ]
    of_the_best = folder / "generator_best_score_train.json"
    for path in (*of_now, of_the_best):
        path.write_text("")
    start(folder, birds, iterations=2, log_period=2, resume=True)
    assert all(path.exists() for path in of_now)  # nothing was trained
    start(folder, birds, iterations=3, log_period=2, resume=True)
    assert not any(path.exists() for path in of_now) and of_the_best.exists()
    mine = folder / "generator_mine_score_train.json"
    mine.write_text("")
    start(folder, birds, iterations=2, log_period=2, overwrite=True)
    assert not of_the_best.exists() and mine.exists()


def test_an_evaluation_of_the_best_goes_with_it(birds, tmp_path, tiny_features, monkeypatch):
    import fid

    scores = iter([7.0, 7.0, 3.0, 9.0, 9.0])  # at 2, at the end; at 4, at 5, at the end
    monkeypatch.setattr(fid.Scorer, "measure", lambda *args: {"score": next(scores)})
    options = {"log_period": 2, "fid": str(tiny_features), "num_gen": (8, 8)}
    evaluation = tmp_path / "run/generator_best_score_train.json"
    start(tmp_path / "run", birds, iterations=2, **options)
    evaluation.write_text("")
    start(tmp_path / "run", birds, iterations=5, resume=True, **options)
    assert not evaluation.exists()


def test_tensorboard_events_hold_losses_score_and_grids(birds, tmp_path, tiny_features):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start(tmp_path, birds, iterations=3, fid=str(tiny_features), num_gen=(8, 8), overwrite=True)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"discriminator_loss", "generator_loss", "score", "final/score"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("score")] == [3]
    assert events.Tags()["images"] == ["samples"]
    assert events.Scalars("discriminator_loss")[0].value == pytest.approx(
        float(rows(tmp_path)[0]["discriminator_loss"])
    )


def test_state_holds_tensors_and_builtins_only(birds, tmp_path):
    start(tmp_path / "run", birds, iterations=3)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert {
        "generator",
        "discriminator",
        "optim_gen",
        "optim_disc",
        "sched_gen",
        "sched_disc",
        "scaler",
        "rng",
        "global_rng",
        "batches",
        "means",
        "rows",
        "iteration",
    } <= set(state)


def test_a_non_finite_loss_stops_with_step_terms_and_state(birds, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    iterate = train.Trainer.iterate

    def poison(self):
        if self.iteration == 4:
            torch.nn.init.constant_(self.disc.dense.bias, float("inf"))
        iterate(self)

    monkeypatch.setattr(train.Trainer, "iterate", poison)
    with pytest.raises(NonFiniteError) as error:
        start(folder, birds, iterations=9)
    assert (
        "step 5" in str(error.value)
        and "discriminator loss" in str(error.value)
        and str(folder / "state.pt") in str(error.value)
    )
    assert error.value.exit_code == 3
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["iteration"] == 3 and torch.isfinite(state["discriminator"]["dense.bias"]).all()


# ------------------------------------------------------------------------------------------------
# Refusals: nothing is touched


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def finished(birds, tmp_path):
    folder = tmp_path / "run"
    start(folder, birds, iterations=2)
    return folder


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "--resume, --overwrite or another folder"),
        ({"resume": True, "batch_size": 5}, "--batch_size was 4 .*, now 5"),
        ({"resume": True, "seed": 3}, "--seed was 0 .*, now 3"),
        ({"resume": True, "question": q1_4}, "the script was 'q1_5' .*, now 'q1_4'"),
        ({"resume": True, "lamb": 5}, "lamb was 10 .*, now 5"),
        ({"resume": True, "iterations": 1}, "--num_iterations: got 1, the run is at 2"),
        ({"resume": "missing.pt"}, "no file missing.pt"),
    ],
)
def test_refused_runs_touch_nothing(finished, birds, options, message):
    before = listing(finished)
    with pytest.raises(InputError, match=message):
        start(finished, birds, **options)
    assert listing(finished) == before


def test_another_runs_state_does_not_replace_this_one(finished, birds, tmp_path):
    state = tmp_path / "earlier.pt"
    state.write_bytes((finished / "state.pt").read_bytes())
    before = listing(finished)
    with pytest.raises(InputError, match="holds a run of its own"):
        start(finished, birds, resume=state)
    assert listing(finished) == before


def test_a_missing_state_is_found_before_the_data(tmp_path, capsys):
    argv = ["--resume", "--out_dir", str(tmp_path), "--data_dir", "no/such/folder"]
    with pytest.raises(SystemExit) as stop:
        main.run(get_args("", "data_x", argv), None)
    assert stop.value.code == 2 and "--resume: no file" in capsys.readouterr().err


def test_other_data_is_refused_on_resume(finished, birds):
    with pytest.raises(InputError, match="--data_dir or --dataset"):
        start(finished, birds[:40], resume=True)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "pickled"])
def test_unusable_states_are_refused(finished, birds, damage):
    path = finished / "state.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    else:
        torch.save({"format": "gan-state-2", "run": Path("x")}, path)
    with pytest.raises(InputError, match="--resume"):
        start(finished, birds, resume=True)


def test_a_state_from_elsewhere_brings_its_results(finished, birds, tmp_path):
    expected = start(tmp_path / "other", birds, iterations=2, resume=finished / "state.pt")
    assert rows(tmp_path / "other") == rows(finished)
    for name in ("generator.pt", "discriminator.pt", "samples_2.png", "losses_vs_iterations.png"):
        assert (tmp_path / "other" / name).read_bytes() == (finished / name).read_bytes()
    assert same(expected, start(tmp_path / "third", birds, iterations=2))


def test_best_generator_compares_like_with_like(birds, tmp_path, tiny_features, monkeypatch):
    """A score in other units, or of more samples, is neither better nor worse."""
    import fid

    scores = iter(
        [5.0, 1.0, 7.0, 1.0, 9.0]
    )  # log 3, final 3, then with more samples: log 6, log 7, final 7
    monkeypatch.setattr(fid.Scorer, "measure", lambda self, *args: {"score": next(scores)})
    options = {"fid": str(tiny_features)}
    start(tmp_path, birds, iterations=3, num_gen=(8, 8), overwrite=True, **options)
    first = (tmp_path / "generator_best.pt").read_bytes()
    monkeypatch.setattr(logger, "save_weights", lambda module, path: saved.append(path.name))
    saved = []
    start(tmp_path, birds, iterations=7, num_gen=(10, 10), resume=True, **options)
    assert saved.count("generator_best.pt") == 2  # 7.0 is the first of its kind, 1.0 beats it
    assert (tmp_path / "generator_best.pt").read_bytes() == first


def test_a_run_says_once_how_long_it_will_take(birds, tmp_path, capsys):
    """Measured on its own first iterations, generator steps in their share."""
    start(tmp_path / "run", birds, iterations=13)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "for one iteration" in line]
    assert " minutes for the 7 left" in line and "--resume" in line


def test_a_forecast_in_hours(capsys, monkeypatch):
    clock = iter((0, 50))
    monkeypatch.setattr("common.run.time.perf_counter", lambda: next(clock))
    forecast = Forecast("iteration", 1006, 5, Precision(torch.device("cpu"), torch.bfloat16))
    for _ in range(20):
        forecast.step()
    assert "On cpu in bfloat16: 10.00 s for one iteration, about 2.8 hours for the 1,000 left" in (
        capsys.readouterr().out
    )


def test_losses_of_any_kind_have_a_name():
    import functools

    assert train.loss_name(q1_3.compute_discriminator_loss) == "q1_3"
    assert train.loss_name(functools.partial(q1_3.compute_discriminator_loss)) == "q1_3"
    assert train.loss_name(start) == "test_run.start"
    assert train.loss_name(Generator()) == "Generator"


def test_overwrite_replaces_the_run_and_nothing_else(finished, birds):
    (finished / "notes.txt").write_text("mine")
    (finished / "samples_99.png").write_bytes(b"old")
    start(finished, birds, iterations=1, overwrite=True)
    assert (finished / "notes.txt").read_text() == "mine" and not (
        finished / "samples_99.png"
    ).exists()
    assert [row["iteration"] for row in rows(finished)] == ["1"]


# ------------------------------------------------------------------------------------------------
# The command line


def command(question, *argv):
    losses = question.compute_discriminator_loss, question.compute_generator_loss
    losses = train.Losses(*losses, interpolates=question is q1_5)
    main.run(get_args(question.__doc__, "data_test", argv), losses)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--device", "gpu"], "--device: got 'gpu'"),
        (["--device", "cuda:99"], "--device: got 'cuda:99'"),
        (["--num_iterations", "0"], "expected int >= 1"),
        (["--batch_size", "many"], "expected int >= 1"),
        (["--save_minutes", "nan"], "expected float > 0"),
        (["--num_gen", "10", "1"], "expected int >= 2"),
        (["--fid", "missing.pt"], "expected inception, off or a TorchScript file"),
        (["--data_dir", "/no/such/folder"], "--download"),
        (["--resume", "--overwrite"], "exclude each other"),
        (["--resume"], "no file"),
        (["--seed", "18446744073709551616"], "expected int <= 4611686018427387903"),
        (["--batch_size", "21"], "expected 1 to 20"),
        (["--evaluate", "missing.pt", "--log_period", "3"], "trains nothing"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(argv, message, bird_folder, tmp_path, capsys):
    out = tmp_path / "out"
    data = [] if "--data_dir" in argv else ["--data_dir", str(bird_folder)]
    with pytest.raises(SystemExit) as stop:
        command(q1_5, *data, "--fid", "off", "--batch_size", "4", "--out_dir", str(out), *argv)
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1
    assert not out.exists()


def test_unwritable_output_folder(bird_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SystemExit) as stop:
            command(q1_5, "--data_dir", str(bird_folder), "--fid", "off", "--out_dir", str(out))
        assert stop.value.code == 2 and "cannot be written" in capsys.readouterr().err


def test_no_network_for_fid_is_found_before_training(bird_folder, tmp_path, monkeypatch, capsys):
    import fid

    monkeypatch.setattr(fid, "inception_url", "http://127.0.0.1:9/inception-2015-12-05.pt")
    with pytest.raises(SystemExit) as stop:
        command(
            q1_5,
            "--data_dir",
            str(bird_folder),
            "--batch_size",
            "4",
            "--out_dir",
            str(tmp_path / "out"),
            "--inception_weights",
            str(tmp_path / "weights"),
        )
    assert stop.value.code == 2 and "--inception_weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_train_and_evaluate_with_inception(
    bird_folder, tiny_inception, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("fid.INCEPTION_SHA256", "")  # any file is clean-fid's
    out = tmp_path / "out"
    options = ["--data_dir", str(bird_folder), "--inception_weights", str(tiny_inception)]
    options += ["--out_dir", str(out), "--device", "cpu", "--num_gen", "8", "12"]
    command(q1_4, *options, "--num_iterations", "2", "--batch_size", "4")
    final = rows(out)[-1]
    assert final["score_name"] == "FID" and final["num_gen"] == "12"
    printed = capsys.readouterr().out
    assert "FID = " in printed and "12 samples, statistics of batches of 256, inception" in printed
    # Data, features and counts are those that the run recorded; nothing else is asked.
    command(q1_4, "--out_dir", str(out), "--evaluate", "--device", "cpu")
    score = json.loads((out / "generator_score_train.json").read_text())
    assert score["score"] == pytest.approx(float(final["score"]), rel=1e-6)
    assert (
        score["num_gen"] == 12
        and score["data"] == json.loads((out / "config.json").read_text())["data"]
    )
    for kind in ("samples", "interpolations", "around_a_sample", "between_samples"):
        assert Image.open(out / f"generator_{kind}.png").size == (342, 342)
    with pytest.raises(SystemExit) as stop:
        command(q1_4, "--evaluate", str(out / "discriminator.pt"))
    assert stop.value.code == 2


def test_an_evaluation_uses_what_the_run_recorded_or_is_refused(birds, tmp_path, capsys):
    """Never a default in its place: a run on one's own images is not scored against CUB."""
    out, others = tmp_path / "out", tmp_path / "others"
    start(out, birds, iterations=2, fid="off")  # from a program, with images of its own
    others.mkdir()
    for index, image in enumerate(birds[:4]):
        to_pil_image(image).save(others / f"{index}.png")
    features = str(save_script(TinyFeatures(), tmp_path / "tiny.pt"))

    def refusal(*options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command(q1_5, "--evaluate", str(out), "--device", "cpu", *options)
        error = capsys.readouterr().err.strip()
        assert stop.value.code == 2 and len(error.splitlines()) == 1
        return error

    assert "does not name its data" in refusal("--fid", features)
    assert "was trained on other pixels" in refusal("--fid", features, "--data_dir", str(others))
    assert "trains nothing; leave --batch_size out" in refusal("--batch_size", "4")
    assert not list(out.glob("generator_*"))
    # Nothing is scored where the run scored nothing: its data may be gone.
    recorded = json.loads((out / "config.json").read_text())
    moved = recorded | {"dataset": "cub", "data_dir": str(tmp_path / "gone")}
    (out / "config.json").write_text(json.dumps(moved))
    command(q1_5, "--evaluate", str(out), "--device", "cpu", "--out_dir", str(tmp_path / "drawn"))
    assert (tmp_path / "drawn/generator_samples.png").exists()
    (out / "config.json").write_text("[]")
    assert "config.json" in refusal("--fid", features)
    (out / "config.json").unlink()  # a generator from anywhere, with no run beside it
    elsewhere = ["--fid", "off", "--out_dir", str(tmp_path / "new/place"), "--device", "cpu"]
    command(q1_5, "--evaluate", str(out / "generator.pt"), *elsewhere)
    assert (tmp_path / "new/place/generator_samples.png").exists()
    assert not (out / "generator_samples.png").exists()


def script(name, *argv, **options):
    # Long before Ctrl-C and kill are of interest the run has written its state for step 0.
    argv = [
        sys.executable,
        str(GAN / name),
        "--dataset",
        "synthetic",
        "--batch_size",
        "8",
        "--device",
        "cpu",
        *argv,
    ]
    # Two of them run side by side: with two threads each they would wait for each other.
    options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}} | options
    return subprocess.Popen(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("name", ["q1_3.py", "q1_4.py", "q1_5.py"])
def test_scripts_run_from_any_directory(name, tmp_path):
    # As `cd gan && python q1_5.py` and as `python gan/q1_5.py`; both find their modules.
    process = script(name, "--num_iterations", "2", "--out_dir", "out", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (tmp_path / "out" / "generator.pt").exists() and (
        tmp_path / "out" / "samples_2.png"
    ).exists()
    assert "Results are in" in out


def test_killed_and_interrupted_scripts_end_bit_identical(tmp_path):
    length = ("--num_iterations", "30", "--log_period", "10")
    whole = script("q1_5.py", *length, "--out_dir", str(tmp_path / "whole"))
    parts = script(
        "q1_5.py", *length, "--out_dir", str(tmp_path / "parts"), "--save_minutes", "0.00001"
    )
    state = tmp_path / "parts" / "state.pt"
    deadline = time.monotonic() + 200
    while not (tmp_path / "parts" / "samples_10.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parts.kill()
    parts.communicate()
    assert whole.wait(timeout=300) == 0
    stopped_at = torch.load(state, weights_only=True)["iteration"]
    assert 0 < stopped_at < 30
    resumed = script(
        "q1_5.py",
        *length,
        "--out_dir",
        str(tmp_path / "parts"),
        "--resume",
        "--save_minutes",
        "0.00001",
    )
    time.sleep(0.1)
    while (
        torch.load(state, weights_only=True)["iteration"] <= stopped_at
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    resumed.send_signal(signal.SIGINT)
    _, err = resumed.communicate(timeout=300)
    if resumed.returncode != 0:  # it may have been quicker than the signal
        assert resumed.returncode == 130 and "go on with --resume" in err
        last = script("q1_5.py", *length, "--out_dir", str(tmp_path / "parts"), "--resume")
        assert last.wait(timeout=300) == 0
    for name in ("generator.pt", "discriminator.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert not list((tmp_path / "parts").glob(".unfinished*.png"))
