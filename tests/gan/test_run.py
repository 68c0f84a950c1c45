"""Whole runs: exact resuming, measuring without a trace, outputs, refusals."""

import json
import os
import signal
import time
from pathlib import Path

import logger
import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
from forks import Fork
from helpers import (
    TINY,
    TinyDiscriminator,
    TinyGenerator,
    files,
    load,
    rows,
    same,
    signal_at,
    start,
)
from networks import Discriminator, Generator, reestimate_statistics
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid
from utils import get_args, picture_latents

from common import InputError, Interrupted, NonFiniteError

GAN = Path(train.__file__).parent
SCORES = ("--num_gen", "8", "8", "--fid")


@pytest.mark.parametrize("question", [q1_3, q1_4, q1_5])
def test_a_stopped_run_ends_bit_identical(question, birds, tmp_path, monkeypatch, tiny_features):
    """Before the first log line, and at one; --resume says nothing else."""
    expected = start(tmp_path / "whole", birds, *SCORES, tiny_features, question=question)
    for stop in (2, 4):
        with monkeypatch.context() as patch:
            signal_at(patch, stop)
            with pytest.raises(Interrupted, match="go on with: python .*--resume") as stopped:
                how = ["--resume"] if stop == 4 else [*SCORES, tiny_features]
                start(tmp_path / "parts", birds, *how, question=question)
            assert stopped.value.exit_code == 143
    got = start(tmp_path / "parts", birds, "--resume", question=question)
    assert same(expected, got)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert [(row["iteration"], row["kind"]) for row in rows(tmp_path / "whole")] == [
        *(("3", "log"), ("6", "log"), ("7", "log"), ("7", "final"))
    ]
    seconds = [
        float(line.split(",")[-1]) for line in open(tmp_path / "parts/metrics.csv").readlines()[1:]
    ]
    assert seconds == sorted(seconds)  # they go on, too


def test_chance_in_the_transforms_is_resumed_and_per_epoch(birds, tmp_path, monkeypatch):
    """What is added to build_transforms takes effect, with torch's own random numbers."""
    steps = [transforms.RandomHorizontalFlip(), *train.build_transforms().transforms]
    plain = start(tmp_path / "plain", birds)
    monkeypatch.setattr(train, "build_transforms", lambda: transforms.Compose(steps))
    expected = start(tmp_path / "whole", birds)
    assert not same(plain, expected)
    with monkeypatch.context() as patch:
        signal_at(patch, 5)
        with pytest.raises(Interrupted):
            start(tmp_path / "parts", birds)
    assert same(expected, start(tmp_path / "parts", birds, "--resume"))
    configs = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("plain", "whole")]
    assert configs[0]["data"] == configs[1]["data"]  # of the pixels, whatever is done to them


def test_a_function_among_the_transforms_is_called_for_each_image(birds, tmp_path, monkeypatch):
    calls = []
    steps = [transforms.ToTensor(), lambda x: calls.append(1) or (x - 0.5) * 2]
    monkeypatch.setattr(train, "build_transforms", lambda: transforms.Compose(steps))
    handouts = start(tmp_path / "a", birds)
    assert len(calls) == 1 + 7 * 4  # a trial, and seven batches
    monkeypatch.undo()
    assert same(handouts, start(tmp_path / "b", birds))  # the same bits


@pytest.mark.parametrize(
    "steps, got",
    [
        ([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)], None),
        ([transforms.PILToTensor()], "torch.uint8"),
        ([transforms.ToTensor(), transforms.Resize(64)], r"shape \(3, 64, 64\)"),
        ([transforms.ToTensor(), lambda x: 300 * x], "values from .* to"),
        ([], "Image"),
    ],
)
def test_what_transforms_give_is_checked_once(steps, got, birds, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "build_transforms", lambda: transforms.Compose(steps))
    if got is None:
        start(tmp_path / "run", birds)
        return
    with pytest.raises(InputError, match=f"build_transforms: an image becomes .*{got}"):
        start(tmp_path / "run", birds)
    assert not (tmp_path / "run").exists()


def test_a_signal_while_scoring_loses_nothing(birds, tmp_path, monkeypatch, tiny_features):
    expected = start(tmp_path / "whole", birds, *SCORES, tiny_features)
    get_fid = logger.get_fid

    def score_and_signal(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return get_fid(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(logger, "get_fid", score_and_signal)
        with pytest.raises(Interrupted, match="at iteration 3 of 7"):
            start(tmp_path / "parts", birds, *SCORES, tiny_features)
    assert same(expected, start(tmp_path / "parts", birds, "--resume"))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_rows_after_the_restored_step_are_cut(birds, tmp_path):
    folder = tmp_path / "run"
    expected = start(tmp_path / "whole", birds, "--num_iterations", 5)
    start(folder, birds, "--num_iterations", 4)
    old = (folder / "state.pt").read_bytes()
    start(folder, birds, "--resume", "--num_iterations", 7)
    assert len(rows(folder)) == 4
    (folder / "state.pt").write_bytes(old)  # as if the later part had been killed before it saved
    again = start(folder, birds, "--resume", "--num_iterations", 5)
    assert same(expected, again)
    assert [row["iteration"] for row in rows(folder)] == ["3", "4", "5"]


def test_events_after_the_restored_step_are_cut(birds, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SHOWN", 2)
    start(tmp_path, birds, "--num_iterations", 6, "--overwrite")
    old = (tmp_path / "state.pt").read_bytes()
    start(tmp_path, birds, "--resume", "--num_iterations", 10)
    (tmp_path / "state.pt").write_bytes(old)
    start(tmp_path, birds, "--resume", "--num_iterations", 8)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Scalars("iteration/discriminator_loss")] == [1, 3, 5, 7]
    assert [e.step for e in events.Scalars("discriminator_loss")] == [3, 6, 8]


def test_a_finished_run_goes_on_with_more_iterations(birds, tmp_path):
    start(tmp_path / "run", birds, "--num_iterations", 3)
    longer = start(tmp_path / "run", birds, "--resume", "--num_iterations", 6)
    assert same(longer, start(tmp_path / "whole", birds, "--num_iterations", 6))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_measuring_never_changes_training(birds, tmp_path, tiny_features):
    plain = start(tmp_path / "a", birds, "--log_period", 100)
    often = ["--log_period", 2, "--fid_mode", "eval", "--save_minutes", 1e-9]
    assert same(plain, start(tmp_path / "b", birds, *often, *SCORES, tiny_features))


def test_a_seed_fixes_the_run(birds, tmp_path):
    first = start(tmp_path / "a", birds)
    assert same(first, start(tmp_path / "b", birds))
    assert not same(first, start(tmp_path / "c", birds, "--seed", 1))


def test_outputs(birds, tmp_path, tiny_features, real_plots):
    folder, options = tmp_path / "run", ["--num_gen", 8, 10, "--num_iterations", 1]
    start(folder, birds, "--fid", tiny_features, *options)
    for kind in logger.PICTURES:  # 100 images, 10 a row
        assert Image.open(folder / f"{kind}_1.png").size == (342, 342)
    for name in ("fid_vs_iterations", "losses_vs_iterations"):
        assert Image.open(folder / f"{name}.png").size == (900, 600)
    assert same(dict(load(folder, "generator")), dict(load(folder, "generator_best")))
    log, final = rows(folder)
    assert (log["kind"], log["num_gen"], final["kind"], final["num_gen"]) == (
        "log",
        "8",
        "final",
        "10",
    )
    assert log["score_name"] == "FD (tiny.pt)" and log["fid_mode"] == "train"
    assert final["kid"] and not log["kid"] and float(log["gradient_norm"]) > 0
    config = json.loads((folder / "config.json").read_text())
    assert config["loss"] == "q1_5" and config["batch_size"] == 4 and config["images"] == 48
    assert config["versions"]["torch"] == torch.__version__
    assert {"processor", "fast_bfloat16", "threads"} <= config["versions"].keys()
    assert not list(folder.glob(".unfinished*"))


def test_the_assignments_own_networks(birds, tmp_path, monkeypatch):
    """Their weights load; samples are of the same normal latents, with running statistics."""
    monkeypatch.setattr(reestimate_statistics, "__defaults__", (2, 16))
    monkeypatch.setattr("logger.interpolate_latent_space", lambda *rest: None)
    few = lambda seed, device: {"samples": picture_latents(seed, device)["samples"]}  # noqa: E731
    monkeypatch.setattr("logger.picture_latents", few)
    folder, networks = tmp_path / "run", (Generator, Discriminator)
    start(folder, birds, "--num_iterations", 1, networks=networks)
    gen = Generator()
    gen.load_state_dict(dict(load(folder, "generator")))
    Discriminator().load_state_dict(dict(load(folder, "discriminator")))
    z = torch.randn(100, 128, generator=torch.Generator().manual_seed(2))
    reestimate_statistics(gen)
    with torch.no_grad():
        images = gen.eval().forward_given_samples(z)
    drawn = pil_to_tensor(Image.open(folder / "samples_1.png").convert("RGB"))
    expected = make_grid(images.add(1).mul(127.5), nrow=10).round()
    torch.testing.assert_close(drawn.float(), expected, atol=1, rtol=0)


def test_log_lines_hold_the_means_since_the_last(birds, tmp_path, monkeypatch, plots):
    seen, step = [], train.discriminator_step

    def discriminator_step(*args):
        seen.append(step(*args))
        return seen[-1]

    monkeypatch.setattr(train, "discriminator_step", discriminator_step)
    start(tmp_path / "run", birds, "--num_iterations", 4, "--log_period", 2)
    names = ["discriminator_loss", "real_score", "fake_score", "gradient_norm", "gradient_penalty"]
    for row, steps in zip(rows(tmp_path / "run"), (seen[:2], seen[2:])):
        for name in names:
            mean = sum(float(terms[name]) for terms in steps) / 2
            assert float(row[name]) == pytest.approx(mean, rel=1e-5), name
    steps, curves, _ = plots["losses_vs_iterations"]
    table = rows(tmp_path / "run")
    assert steps == [2, 4]
    assert curves["discriminator loss"] == [float(row["discriminator_loss"]) for row in table]
    assert curves["generator loss"][0] == float(table[0]["generator_loss"])
    assert curves["generator loss"][0] != curves["discriminator loss"][0]


def test_the_score_curve_is_in_order(birds, tmp_path, tiny_features, monkeypatch, plots):
    scores = iter([9.0, 4.0, 6.0, 6.0])
    monkeypatch.setattr(logger, "get_fid", lambda *args, **options: next(scores))
    start(tmp_path / "run", birds, *SCORES, tiny_features)
    steps, curves, ylabel = plots["fid_vs_iterations"]
    assert (steps, curves[None]) == ([3, 6, 7], [9.0, 4.0, 6.0])
    assert ylabel == "FD (tiny.pt), 8 samples"


def test_scores_have_a_period_of_their_own(birds, tmp_path, tiny_features, monkeypatch):
    asked = []
    monkeypatch.setattr(logger, "get_fid", lambda *args, **options: asked.append(args[5]) or 1.0)
    options = ["--log_period", 2, "--score_period", 4, "--num_gen", 8, 9, "--fid", tiny_features]
    start(tmp_path / "run", birds, *options)
    assert [bool(row["score"]) for row in rows(tmp_path / "run")] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert asked == [8, 8, 9]
    with pytest.raises(InputError, match="expected a multiple of --log_period, 4"):
        get_args("", ["--log_period", "4", "--score_period", "6"])


def test_there_is_something_to_see_before_the_first_log_line(birds, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SHOWN", 2)
    monkeypatch.setattr(train, "FIRST_LOOK", 4)
    start(tmp_path, birds, "--log_period", 100, "--overwrite")
    assert {"samples_4.png", "samples_7.png"} <= files(tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("discriminator_loss", "gradient_norm", "gradient_penalty"):
        assert [e.step for e in events.Scalars(f"iteration/{name}")] == [1, 3, 5, 7]
    assert [e.step for e in events.Scalars("iteration/generator_loss")] == [1]  # of its own steps
    assert events.Tags()["images"] == ["samples"]


def test_evaluations_do_not_outlive_their_weights(birds, tmp_path):
    folder = tmp_path / "run"
    start(folder, birds, "--num_iterations", 2)
    names = ("score_train.json", "samples.png", "interpolations.png")
    of_now = [folder / f"generator_{name}" for name in names]
    of_the_best = folder / "generator_best_score_train.json"
    for path in (*of_now, of_the_best):
        path.write_text("")
    start(folder, birds, "--resume")
    assert all(path.exists() for path in of_now)  # nothing was trained
    start(folder, birds, "--resume", "--num_iterations", 3)
    assert not any(path.exists() for path in of_now) and of_the_best.exists()
    mine = folder / "generator_mine_score_train.json"
    mine.write_text("")
    start(folder, birds, "--overwrite")
    assert not of_the_best.exists() and mine.exists()


def test_the_best_generator_compares_like_with_like(
    birds, tmp_path, tiny_features, monkeypatch, capsys
):
    """A score in other units, or of more samples, is neither better nor worse."""
    scores = iter([5.0, 4.0, 1.0, 3.0, 3.0, 9.0, 9.0])
    monkeypatch.setattr(logger, "get_fid", lambda *args, **options: next(scores))
    kept = tmp_path / "generator_best.pt"
    evaluation = tmp_path / "generator_best_score_train.json"
    start(
        tmp_path, birds, *SCORES, tiny_features, "--num_iterations", 6, "--overwrite"
    )  # 5, 4; final 1
    first = kept.read_bytes()
    evaluation.write_text("")
    start(tmp_path, birds, "--resume", "--num_gen", 9, 9, "--num_iterations", 7)
    assert kept.read_bytes() == first and evaluation.exists()  # 3 of 9 samples is another measure
    assert "generator_best.pt stays" in capsys.readouterr().out
    start(tmp_path, birds, "--resume", "--num_gen", 8, 8, "--num_iterations", 8)  # 9 is worse
    assert kept.read_bytes() == first
    scores = iter([2.0, 2.0])
    start(tmp_path, birds, "--resume", "--num_iterations", 9)
    assert kept.read_bytes() != first and not evaluation.exists()


def test_state_holds_tensors_and_builtins_only(birds, tmp_path):
    start(tmp_path / "run", birds)
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert {"settings", "rows", "seconds", "step", "rng", "parts"} <= set(state)
    names = {"generator", "discriminator", "optim_gen", "optim_disc", "sched_gen", "sched_disc"}
    assert names | {"scaler", "rng", "batches", "means"} == set(state["parts"])


def test_a_non_finite_loss_stops_with_step_terms_and_state(birds, tmp_path, monkeypatch):
    step, count = train.discriminator_step, iter(range(100))

    def poison(gen, disc, *rest):
        if next(count) == 4:
            torch.nn.init.constant_(disc.dense.bias, float("inf"))
        return step(gen, disc, *rest)

    monkeypatch.setattr(train, "discriminator_step", poison)
    with pytest.raises(NonFiniteError) as error:
        start(tmp_path / "run", birds)
    told = str(error.value)
    assert (
        "step 5" in told and "discriminator loss" in told and str(tmp_path / "run/state.pt") in told
    )
    assert error.value.exit_code == 3
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert (
        state["step"] == 3 and torch.isfinite(state["parts"]["discriminator"]["dense.bias"]).all()
    )


def test_weights_that_are_not_finite_are_never_saved(birds, tmp_path, monkeypatch):
    """Losses may be: they are those of the step before."""
    monkeypatch.setattr(train.RunningMeans, "check_finite", lambda self: None)
    after = train.update_average

    def poison(average, gen, decay):
        after(average, gen, decay)
        torch.nn.init.constant_(gen.dense.bias, float("nan"))

    monkeypatch.setattr(train, "update_average", poison)
    with pytest.raises(NonFiniteError, match="a weight became"):
        start(tmp_path / "run", birds, "--ema", 0.5)
    assert not (tmp_path / "run/state.pt").exists()


def test_the_state_is_saved_as_often_as_asked(birds, tmp_path, monkeypatch):
    saves = []
    save = train.Run.save
    monkeypatch.setattr(train.Run, "save", lambda self: saves.append(self.step) or save(self))
    start(tmp_path / "a", birds)
    assert saves == [1, 3, 6, 7]  # after the first step, and at log lines
    saves.clear()
    start(tmp_path / "b", birds, "--save_minutes", 1e-9)
    assert sorted(set(saves)) == [1, 2, 3, 4, 5, 6, 7]


# ------------------------------------------------------------------------------------------------
# Refusals: nothing is touched


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def ended(tmp_path_factory, birds):
    folder = tmp_path_factory.mktemp("ended") / "run"
    return start(folder, birds, "--num_iterations", 2) and folder


@pytest.fixture
def finished(ended, tmp_path):
    import shutil

    return Path(shutil.copytree(ended, tmp_path / "run"))


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "go on with: .*--resume, or give --overwrite or another"),
        (["--resume", "--batch_size", 5], "batch_size was 4 .*, now 5"),
        (["--resume", "--seed", 3], "seed was 0 .*, now 3"),
        (["--resume", "--lamb", 5], "lamb was 10.0 .*, now 5.0"),
        (["--resume", "--ema", 0.5], "ema was None .*, now 0.5"),
        (["--resume", "--num_iterations", 1], "got 1, the run is at 2"),
        (["--resume", "missing.pt"], "no file missing.pt"),
    ],
)
def test_refused_runs_touch_nothing(finished, birds, argv, message):
    before = listing(finished)
    with pytest.raises(InputError, match=message):
        start(finished, birds, *argv)
    assert listing(finished) == before


@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_another_scripts_run_is_never_replaced(finished, birds, how):
    before = listing(finished)
    with pytest.raises(InputError, match="holds a run of q1_5, this is q1_4"):
        start(finished, birds, how, question=q1_4)
    assert listing(finished) == before


def test_another_runs_state_does_not_replace_this_one(finished, birds, tmp_path):
    (tmp_path / "earlier.pt").write_bytes((finished / "state.pt").read_bytes())
    before = listing(finished)
    with pytest.raises(InputError, match="holds a run of its own"):
        start(finished, birds, "--resume", tmp_path / "earlier.pt")
    assert listing(finished) == before


def test_settings_are_compared_before_data_are_opened(finished, monkeypatch):
    monkeypatch.setattr(train, "find_data", lambda options: pytest.fail("data were opened"))
    with pytest.raises(InputError, match="seed was 0"):
        start(finished, None, "--resume", "--seed", 3)


def test_other_data_is_refused_on_resume(finished, birds):
    with pytest.raises(InputError, match="the data .the pixels. was"):
        start(finished, birds[:40], "--resume")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "pickled", "old"])
def test_unusable_states_are_refused(finished, birds, damage):
    path = finished / "state.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        states = {"foreign": {"model": torch.zeros(3)}, "old": {"format": "gan-state-2"}}
        torch.save(states.get(damage, {"format": "gan-state-3", "run": Path("x")}), path)
    with pytest.raises(InputError, match="--resume"):
        start(finished, birds, "--resume")


@pytest.mark.parametrize("missing", ["settings", "rows", "seconds", "step", "parts", "generator"])
def test_a_state_without_a_part_is_one_line(missing, finished, birds):
    path = finished / "state.pt"
    state = torch.load(path, weights_only=True)
    del (state["parts"] if missing == "generator" else state)[missing]
    torch.save(state, path)
    with pytest.raises(InputError, match=f"--resume: .*{missing}"):
        start(finished, birds, "--resume", "--num_iterations", 4)


def test_a_state_from_elsewhere_brings_its_results(finished, birds, tmp_path):
    (finished / "generator_best.pt").write_bytes(b"best")
    expected = start(tmp_path / "other", birds, "--resume", finished)  # the folder for its state
    assert rows(tmp_path / "other") == rows(finished)
    for name in ("generator.pt", "discriminator.pt", "samples_2.png", "generator_best.pt"):
        assert (tmp_path / "other" / name).read_bytes() == (finished / name).read_bytes()
    assert same(expected, start(tmp_path / "third", birds, "--num_iterations", 2))


def test_overwrite_replaces_the_run_and_nothing_else(finished, birds):
    (finished / "notes.txt").write_text("mine")
    (finished / "samples_99.png").write_bytes(b"old")
    start(finished, birds, "--num_iterations", 1, "--overwrite")
    assert (finished / "notes.txt").read_text() == "mine"
    assert not (finished / "samples_99.png").exists()
    assert [row["iteration"] for row in rows(finished)] == ["1"]


# ------------------------------------------------------------------------------------------------
# Slips in a student's own loss or networks: one line that names the function, and nothing written


class Slips:
    compute_generator_loss = staticmethod(q1_3.compute_generator_loss)
    compute_discriminator_loss = staticmethod(q1_3.compute_discriminator_loss)


class Narrow(TinyGenerator):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 16)


class Large(TinyGenerator):
    def forward_given_samples(self, z):
        return F_interpolate(super().forward_given_samples(z))


class Bright(TinyGenerator):
    def forward_given_samples(self, z):
        return (super().forward_given_samples(z) + 1) * 127.5


class Frozen(TinyGenerator):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class OfTwo(TinyGenerator):
    def forward_given_samples(self, z):
        return super().forward_given_samples(z.view(2, 128))


def F_interpolate(x):
    return nn.functional.interpolate(x, scale_factor=2.0)


class Vector(TinyDiscriminator):
    def forward(self, x):
        return super().forward(x).squeeze(1)


LOSS_SLIPS = {
    "not reduced": (lambda real, fake, *rest: fake - real, r"returned \(3, 1\); expected"),
    "a float": (lambda real, fake, *rest: 0.5, "returned 0.5; expected"),
    "detached": (lambda real, fake, *rest: fake.mean().detach(), "a loss without a gradient"),
    "a typing slip": (lambda real, *rest: real.maen(), "raised AttributeError: .*maen"),
    "not a number": (lambda real, fake, *rest: 0 * fake.mean() / 0, "returned NaN"),
    "four arguments": (lambda a, b, c, d: a.mean(), "raised TypeError"),
    "a constant": (lambda *rest: torch.ones((), requires_grad=True), "gradient for TinyDiscrim"),
    "needs more": (lambda r, f, d, i, lamb: i.x, "raised AttributeError"),
}


@pytest.mark.parametrize("function, message", LOSS_SLIPS.values(), ids=LOSS_SLIPS)
def test_slips_in_a_loss(function, message, birds, tmp_path):
    class Own(Slips):
        compute_discriminator_loss = staticmethod(function)

    with pytest.raises(InputError, match=f"test_run.*{message}"):
        start(tmp_path / "run", birds, question=Own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "networks, message",
    [
        ((Narrow, TinyDiscriminator), "Narrow.forward_given_samples raised RuntimeError"),
        ((Large, TinyDiscriminator), r"Large.forward_given_samples returned \(3, 3, 64, 64\)"),
        ((Bright, TinyDiscriminator), r"returned values from .*expected images in \[-1, 1\]"),
        ((Frozen, TinyDiscriminator), "a loss without a gradient for Frozen"),
        ((OfTwo, TinyDiscriminator), "OfTwo.forward_given_samples raised RuntimeError"),
        ((TinyGenerator, Vector), r"Vector.forward returned \(3,\)"),
        ((TinyDiscriminator, TinyGenerator), "TinyDiscriminator has no forward_given_samples"),
    ],
)
def test_slips_in_a_network(networks, message, birds, tmp_path):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", birds, networks=networks)
    assert not (tmp_path / "run").exists()


def swapped(gen, disc):
    disc_and_schedule, gen_and_schedule = [train.get_optimizers_and_schedulers(gen, disc)] * 2
    return *gen_and_schedule[2:], *disc_and_schedule[:2]


@pytest.mark.parametrize(
    "own, message",
    [
        ({"make_optimizers": lambda gen, disc: (1, 2)}, "returned tuple; expected .optim_disc"),
        ({"make_optimizers": lambda gen: 1}, "raised TypeError"),
        ({"make_optimizers": swapped}, "returned another order; expected .optim_disc"),
        ({"generator_every": 0}, "generator_every: got 0, expected int >= 1"),
    ],
)
def test_slips_in_optimizers(own, message, birds, tmp_path):
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", birds, **own)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: transforms.ToTensor(), "no pixel becomes less than 0"),
        (lambda: transforms.ToTensor, "raised TypeError"),
        (lambda: transforms.Compose([transforms.Normalize(0.5, 0.5)]), "raised"),
        (lambda: transforms.ToTenser(), "raised AttributeError"),
        (lambda: lambda image: torch.full((3, 32, 32), torch.nan), "values from nan to nan"),
    ],
)
def test_slips_in_transforms(make, message, birds, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "build_transforms", make)
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", birds)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(8, 3, 32, 32),
        torch.zeros(8, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(8, 32, 32, 3, dtype=torch.uint8),
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        [[0]],
    ],
)
def test_images_that_cannot_be_used(images, tmp_path):
    with pytest.raises(InputError, match="images: got .*expected"):
        start(tmp_path / "run", images)
    assert not (tmp_path / "run").exists()


def test_a_weight_of_no_penalty_is_refused(birds, tmp_path):
    with pytest.raises(InputError, match="--lamb: this loss has no gradient penalty"):
        start(tmp_path / "run", birds, "--lamb", 5, question=q1_3)
    start(tmp_path / "run", birds, "--lamb", 5)
    assert json.loads((tmp_path / "run/config.json").read_text())["lamb"] == 5


def test_trying_leaves_no_trace(birds):
    args = get_args("", ["--fid", "off"])
    gen, disc = TINY[0](), TINY[1]()
    before = {**gen.state_dict(), **disc.state_dict()}
    before = {name: value.clone() for name, value in before.items()}
    rng = torch.get_rng_state()
    losses = q1_5.compute_discriminator_loss, q1_5.compute_generator_loss
    assert train.try_losses(gen, disc, *losses, args)
    losses = q1_3.compute_discriminator_loss, q1_3.compute_generator_loss
    assert not train.try_losses(gen, disc, *losses, args)
    assert torch.equal(torch.get_rng_state(), rng) and gen.training
    assert all(
        torch.equal(v, before[n]) for n, v in {**gen.state_dict(), **disc.state_dict()}.items()
    )
    assert all(p.grad is None for net in (gen, disc) for p in net.parameters())


@pytest.mark.parametrize(
    "loss, uses",
    [
        (lambda r, f, d, i, lamb: f.mean() + d.mean(), True),  # the score of x^ alone
        (lambda r, f, d, i, lamb: f.mean() + i.mean(), True),
        (lambda r, f, d, i, lamb: f.mean() - r.mean(), False),
    ],
)
def test_whether_a_loss_needs_interpolates_is_found_out(loss, uses):
    args = get_args("", ["--fid", "off"])
    gen, disc = TINY[0](), TINY[1]()
    assert train.try_losses(gen, disc, loss, q1_5.compute_generator_loss, args) == uses


# ------------------------------------------------------------------------------------------------
# Scripts


def test_killed_and_interrupted_scripts_end_bit_identical(tmp_path):
    """From another folder, and gone on with by what the program says."""

    def script(options):
        errors = tmp_path / f"errors{len(list(tmp_path.glob('errors*')))}"
        return Fork(GAN.parent, f"gan/mlp_gan.py {options}", tmp_path, errors)

    length = "--dataset synthetic --batch_size 8 --num_iterations 24 --log_period 12"
    assert script(f"{length} --out_dir whole").wait()[0] == 0
    parts = script(f"{length} --save_minutes 0.00001 --out_dir parts")
    folder, deadline = tmp_path / "parts", time.monotonic() + 600
    while not (folder / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    parts.send_signal(signal.SIGKILL)  # as a power cut would
    parts.wait()
    stopped_at = torch.load(folder / "state.pt", weights_only=True)["step"]
    assert 0 < stopped_at < 24
    resumed = script("--out_dir parts --resume")
    while time.monotonic() < deadline and resumed.poll() is None:
        time.sleep(0.02)
        if torch.load(folder / "state.pt", weights_only=True)["step"] > stopped_at:
            break
    if resumed.poll() is None:
        resumed.send_signal(signal.SIGINT)
    code, err = resumed.wait()
    if code != 0:  # it may have been quicker than the signal
        line = f"python {GAN / 'mlp_gan.py'} --out_dir {folder} --resume"
        assert code == 130 and err.strip().endswith(f"go on with: {line}")
        assert script("--out_dir parts --resume").wait()[0] == 0
    for name in ("generator.pt", "discriminator.pt", "samples_24.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (folder / name).read_bytes()
    assert rows(tmp_path / "whole") == rows(folder)
    assert not list(folder.glob(".unfinished*.png"))
