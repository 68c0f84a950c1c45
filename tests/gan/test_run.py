"""Whole runs: exact resuming, measuring without a trace, outputs, refusals."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from unittest import mock

import logger
import pytest
import q1_3
import q1_4
import q1_5
import torch
import train
import utils
from evaluate import evaluate
from helpers import TINY, files, load, refused, rows, same, start, stopped_at
from networks import Discriminator, Generator, reestimate_statistics
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TinyDiscriminator, TinyGenerator
from torch import nn
from torchvision import transforms as t
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid
from utils import get_args, picture_latents

from common import Interrupted, NonFiniteError

SCORES = ("--num_gen", "8", "8", "--fid")
SCALE = train.build_transforms().transforms


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("question", [q1_3, q1_4, q1_5])
def test_a_stopped_run_ends_bit_identical(question, birds, tmp_path, monkeypatch, tiny_features):
    """Before the first log line, and at one, its average too; --resume says nothing else."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = [*SCORES, tiny_features, "--ema", 0.5]
    expected = start(whole, birds, *options, question=question)
    for stop, how in ((2, options), (4, ["--resume"])):
        error = stopped_at(monkeypatch, stop, parts, birds, *how, question=question)
        assert error.exit_code == 143 and "python" in str(error).split("go on with: /")[1]
    assert same(expected, start(parts, birds, "--resume", question=question))
    assert rows(parts) == rows(whole) and files(parts) == files(whole)
    for name in files(whole):
        if name.endswith((".png", ".gif", "ema.pt")):
            assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    kinds = [(row["iteration"], row["kind"]) for row in rows(whole)]
    assert kinds == [("3", "log"), ("6", "log"), ("7", "log"), ("7", "final")]


def test_chance_in_the_transforms_is_resumed_and_per_epoch(birds, tmp_path, monkeypatch):
    """What is added to build_transforms takes effect, with torch's own random numbers."""
    plain = start(tmp_path / "plain", birds)
    flipped = lambda: t.Compose([t.RandomHorizontalFlip(), *SCALE])
    monkeypatch.setattr(train, "build_transforms", flipped)
    expected = start(tmp_path / "whole", birds)
    assert not same(plain, expected)
    stopped_at(monkeypatch, 5, tmp_path / "parts", birds)
    with monkeypatch.context() as patch:
        patch.setattr(train, "build_transforms", lambda: t.Compose(SCALE))
        refused("build_transforms was .*Flip", start, tmp_path / "parts", birds, "--resume")
    assert same(expected, start(tmp_path / "parts", birds, "--resume"))
    # The identity is that of the pixels, whatever is done to them.
    assert config_of(tmp_path / "plain")["data"] == config_of(tmp_path / "whole")["data"]


def test_a_signal_while_scoring_loses_nothing(birds, tmp_path, monkeypatch, tiny_features):
    expected = start(tmp_path / "whole", birds, *SCORES, tiny_features)
    stop, score = lambda: os.kill(os.getpid(), signal.SIGINT), utils.get_fid
    with monkeypatch.context() as patch:
        patch.setattr(utils, "get_fid", lambda *args, **how: stop() or score(*args, **how))
        with pytest.raises(Interrupted, match="at iteration 3 of 7"):
            start(tmp_path / "parts", birds, *SCORES, tiny_features)
    assert same(expected, start(tmp_path / "parts", birds, "--resume"))
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_what_comes_after_the_restored_step_is_cut(birds, tmp_path, monkeypatch):
    """Rows and events; the seconds go on, and a finished run does with more iterations."""
    monkeypatch.setattr(train, "SHOWN", 2)
    folder, path = tmp_path / "run", tmp_path / "run/state.pt"
    expected = start(tmp_path / "whole", birds, "--num_iterations", 8)
    start(folder, birds, "--num_iterations", 4)
    torch.save(torch.load(path, weights_only=True) | {"seconds": 1000.0}, path)
    old = path.read_bytes()
    start(folder, birds, "--resume", "--num_iterations", 10)
    assert len(rows(folder)) == 5
    path.write_bytes(old)  # as if the later part had been killed before it saved
    assert same(expected, start(folder, birds, "--resume", "--num_iterations", 8))
    assert [row["iteration"] for row in rows(folder)] == ["3", "4", "6", "8"]
    lines = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert [float(line.split(",")[-1]) >= 1000 for line in lines] == [False, False, True, True]
    events = EventAccumulator(str(folder)).Reload()
    assert [e.step for e in events.Scalars("iteration/discriminator_loss")] == [1, 3, 5, 7]
    assert [e.step for e in events.Scalars("discriminator_loss")] == [3, 4, 6, 8]


def test_measuring_never_changes_training_and_a_seed_does(
    birds, tmp_path, tiny_features, monkeypatch
):
    seen, step = [], train.discriminator_step
    keep = lambda *args: seen.append(args[2:4]) or step(*args)
    monkeypatch.setattr(train, "discriminator_step", keep)
    plain = start(tmp_path / "a", birds, "--log_period", 100)
    often = ["--log_period", 2, "--fid_mode", "eval", "--save_minutes", 1e-9]
    assert same(plain, start(tmp_path / "b", birds, *often, *SCORES, tiny_features))
    assert not same(plain, start(tmp_path / "c", birds, "--seed", 1))
    for first, again, other in zip(seen[0], seen[7], seen[14]):  # batches and latents
        assert torch.equal(first, again) and not torch.equal(first, other)


def test_outputs(birds, tmp_path, tiny_features):
    folder, options = tmp_path / "run", ["--num_gen", 8, 10, "--num_iterations", 1, "--lamb", 5]
    start(folder, birds, "--fid", tiny_features, *options)
    for kind in logger.PICTURES:  # 100 images, 10 a row
        assert Image.open(folder / f"{kind}_1.png").size == (342, 342)
    assert same(dict(load(folder, "generator")), dict(load(folder, "generator_best")))
    log, final = rows(folder)
    assert (log["kind"], log["num_gen"]) == ("log", "8")
    assert (final["kind"], final["num_gen"]) == ("final", "10")
    assert log["score_name"] == "FD (tiny.pt)" and log["fid_mode"] == "train"
    assert final["kid"] and not log["kid"] and float(log["gradient_norm"]) > 0
    config = config_of(folder)
    assert config["loss"] == "q1_5" and config["lamb"] == 5 and config["images"] == 48
    assert config["versions"]["torch"] == torch.__version__
    assert {"processor", "fast_bfloat16", "threads"} <= config["versions"].keys()
    assert not list(folder.glob(".unfinished*"))


def test_the_assignments_own_networks(birds, tmp_path, monkeypatch):
    """Their weights load; samples are of the same normal latents, with running statistics."""
    monkeypatch.setattr(reestimate_statistics, "__defaults__", (2, 16))
    monkeypatch.setattr("logger.interpolate_latent_space", lambda *rest: None)
    few = lambda seed, device: {"samples": picture_latents(seed, device)["samples"][:20]}
    monkeypatch.setattr("logger.picture_latents", few)
    start(tmp_path / "run", birds, "--num_iterations", 1, networks=(Generator, Discriminator))
    gen = Generator()
    gen.load_state_dict(dict(load(tmp_path / "run", "generator")))
    Discriminator().load_state_dict(dict(load(tmp_path / "run", "discriminator")))
    z = torch.randn(100, 128, generator=torch.Generator().manual_seed(2))[:20]
    reestimate_statistics(gen)
    with torch.no_grad():
        images = gen.eval().forward_given_samples(z)
    drawn = pil_to_tensor(Image.open(tmp_path / "run/samples_1.png").convert("RGB"))
    expected = make_grid(images.add(1).mul(127.5), nrow=10).round()
    torch.testing.assert_close(drawn.float(), expected, atol=1, rtol=0)


def test_log_lines_hold_the_means_since_the_last(birds, tmp_path, monkeypatch, plots):
    seen, step = [], train.discriminator_step
    keep = lambda *args: seen.append(step(*args)) or seen[-1]
    monkeypatch.setattr(train, "discriminator_step", keep)
    start(tmp_path / "run", birds, "--num_iterations", 4, "--log_period", 2)
    table = rows(tmp_path / "run")
    for row, steps in zip(table, (seen[:2], seen[2:])):
        for name in seen[1]:
            mean = sum(float(terms[name]) for terms in steps) / 2
            assert float(row[name]) == pytest.approx(mean, rel=1e-5), name
    assert len(seen[1]) == 5  # loss, norm, penalty, two scores
    steps, curves, _ = plots["losses_vs_iterations"]
    assert steps == [2, 4]
    assert curves["discriminator loss"] == [float(row["discriminator_loss"]) for row in table]
    assert curves["generator loss"][0] == float(table[0]["generator_loss"])
    assert curves["generator loss"][0] != curves["discriminator loss"][0]
    rates = [float(table[1][f"lr_{n}"]) for n in ("discriminator", "generator")]  # 4 steps and 1
    assert rates == pytest.approx([2e-4 * (1 - 8e-6), 2e-4 * (1 - 1e-5)], rel=1e-9)


def test_scores_their_period_and_their_curve(birds, tmp_path, tiny_features, monkeypatch, plots):
    scores, asked = iter([9.0, 4.0, 6.0, 6.0]), []
    get_fid = lambda *args, **options: asked.append(args[5]) or next(scores)
    monkeypatch.setattr(utils, "get_fid", get_fid)
    options = ["--log_period", 1, "--score_period", 3, "--num_gen", 8, 9, "--fid", tiny_features]
    start(tmp_path / "run", birds, *options)
    scored = [row["iteration"] for row in rows(tmp_path / "run") if row["score"]]
    assert scored == ["3", "6", "7", "7"] and asked == [8, 8, 8, 9]
    steps, curves, ylabel = plots["fid_vs_iterations"]
    assert (steps, curves) == ([3, 6, 7], [9.0, 4.0, 6.0])
    assert ylabel == "FD (tiny.pt), 8 samples"


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
    monkeypatch.undo()
    assert (train.SHOWN, train.FIRST_LOOK) == (50, 100)


def test_evaluations_do_not_outlive_their_weights(birds, tmp_path):
    """And --overwrite replaces what is the run's, nothing else."""
    folder = tmp_path / "run"
    start(folder, birds, "--num_iterations", 2)
    names = ("score_train.json", "samples.png", "interpolations.png")
    of_now = [folder / f"generator_{name}" for name in names]
    names = ("interpolations_99.png", "generator_best_score_train.json")
    others = [folder / name for name in (*names, "generator_mine_score_train.json", "notes.txt")]
    for path in (*of_now, *others):
        path.write_text("")
    start(folder, birds, "--resume")
    assert all(path.exists() for path in of_now)  # nothing was trained
    start(folder, birds, "--resume", "--num_iterations", 3)
    assert not any(path.exists() for path in of_now) and others[1].exists()
    start(folder, birds, "--overwrite", "--num_iterations", 1)
    assert [path.exists() for path in others] == [False, False, True, True]
    assert [row["iteration"] for row in rows(folder)] == ["1"]


def test_the_best_generator_compares_like_with_like(birds, tmp_path, tiny_features, monkeypatch):
    """A score in other units, or of more samples, is neither better nor worse."""
    scores = iter([5.0, 4.0, 1.0, 3.0, 3.0, 9.0, 9.0, 2.0, 2.0])
    monkeypatch.setattr(utils, "get_fid", lambda *args, **options: next(scores))
    kept, evaluation = tmp_path / "generator_best.pt", tmp_path / "generator_best_score_train.json"
    few = ["--num_iterations", 6, "--overwrite"]
    start(tmp_path, birds, *SCORES, tiny_features, *few)  # 5, 4; final 1
    first = kept.read_bytes()
    evaluation.write_text("")
    start(tmp_path, birds, "--resume", "--num_gen", 9, 9, "--num_iterations", 7)
    assert kept.read_bytes() == first and evaluation.exists()  # 3 of 9 samples is another measure
    start(tmp_path, birds, "--resume", "--num_gen", 8, 8, "--num_iterations", 8)  # 9 is worse
    assert kept.read_bytes() == first
    start(tmp_path, birds, "--resume", "--num_iterations", 9)
    assert kept.read_bytes() != first and not evaluation.exists()


def test_a_non_finite_loss_stops_with_step_terms_and_state(birds, tmp_path, monkeypatch):
    step, count = train.discriminator_step, iter(range(100))

    def poison(gen, disc, *rest):
        if next(count) == 4:
            nn.init.constant_(disc.dense.bias, float("inf"))
        return step(gen, disc, *rest)

    monkeypatch.setattr(train, "discriminator_step", poison)
    where = f"by iteration 6: discriminator loss.*--seed.*--lr.*{tmp_path}/run/state.pt"
    with pytest.raises(NonFiniteError, match=where) as error:
        start(tmp_path / "run", birds)
    state = torch.load(tmp_path / "run/state.pt", weights_only=True)
    assert error.value.exit_code == 3 and state["step"] == 3
    assert len(rows(tmp_path / "run")) == 1 and "samples_6.png" not in files(tmp_path / "run")
    assert torch.isfinite(state["parts"]["discriminator"]["dense.bias"]).all()


def test_weights_that_are_not_finite_are_never_saved(birds, tmp_path, monkeypatch):
    """Losses may be: they are those of the step before."""
    poison = lambda average, gen, decay: nn.init.constant_(gen.dense.bias, torch.nan)
    monkeypatch.setattr(train, "update_average", poison)
    with pytest.raises(NonFiniteError, match="not finite by iteration 1: a weight"):
        start(tmp_path / "run", birds, "--ema", 0.5)
    assert not (tmp_path / "run/state.pt").exists()


def test_the_state_is_saved_as_often_as_asked(birds, tmp_path, monkeypatch):
    saves, save = [], train.Run.save
    monkeypatch.setattr(train.Run, "save", lambda self: saves.append(self.step) or save(self))
    start(tmp_path / "a", birds)
    assert saves == [1, 3, 6, 7]  # after the first step, and at log lines
    start(tmp_path / "b", birds, "--save_minutes", 1e-9)
    assert sorted(set(saves[4:])) == [1, 2, 3, 4, 5, 6, 7]
    for minutes, due in ((4.9, 0), (5.1, 1)):
        run = mock.Mock(saved=time.monotonic() - 60 * minutes, settings={"save_minutes": 5})
        train.Run.end_step(run)
        assert run.save.call_count == due and run.check_signal.called


@pytest.fixture(scope="module")
def ended(tmp_path_factory, birds):
    folder = tmp_path_factory.mktemp("ended") / "run"
    return start(folder, birds, "--num_iterations", 2) and folder


@pytest.fixture
def finished(ended, tmp_path):
    return Path(shutil.copytree(ended, tmp_path / "run"))


REFUSED = {
    "a run is there": ([], "go on with: .*--resume, or give --overwrite or another"),
    "batch size": (["--resume", "--batch_size", 5], "batch_size was 4 .*, now 5"),
    "average": (["--resume", "--ema", 0.5], "ema was None .*, now 0.5"),
    "shorter": (["--resume", "--num_iterations", 1], "got 1, the run is at 2"),
    "no state": (["--resume", "missing.pt"], "no file missing.pt"),
    "another script": (["--resume"], "holds a run of q1_5, this is q1_4"),
    "and replaced": (["--overwrite"], "holds a run of q1_5, this is q1_4"),
    "another state": (["--resume", "{}.pt"], "holds a run of its own"),
    "other data": (["--resume"], "the data .the pixels. was"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_runs_touch_nothing(kind, finished, birds, monkeypatch):
    """And settings are compared before data are opened."""
    argv, message = REFUSED[kind]
    images = {"shorter": birds, "other data": birds.flip(0)}.get(kind)
    monkeypatch.setattr(train, "find_data", lambda options: pytest.fail("data were opened"))
    shutil.copy(finished / "state.pt", f"{finished}.pt")
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    argv = [str(word).format(finished) for word in argv]
    refused(message, start, finished, images, *argv, question=q1_4 if "q1_4" in message else q1_5)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def lacking(path):
    state = torch.load(path, weights_only=True)
    del state["parts"]["generator"]
    torch.save(state, path)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "old": lambda path: torch.save({"format": "gan-state-2"}, path),
    "pickled": lambda path: torch.save({"format": "gan-state-3", "run": Path("x")}, path),
    "lacks a network": lacking,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_unusable_states_are_refused(finished, birds, damage):
    damage(finished / "state.pt")
    refused("--resume: ", start, finished, birds, "--resume", "--num_iterations", 4)


def test_a_state_from_elsewhere_brings_its_results(finished, birds, tmp_path):
    (finished / "generator_best.pt").write_bytes(b"best")
    expected = start(tmp_path / "other", birds, "--resume", finished)  # the folder for its state
    assert rows(tmp_path / "other") == rows(finished)
    for name in ("generator.pt", "discriminator.pt", "samples_2.png", "generator_best.pt"):
        assert (tmp_path / "other" / name).read_bytes() == (finished / name).read_bytes()
    assert same(expected, start(tmp_path / "third", birds, "--num_iterations", 2))


def test_a_config_that_cannot_be_read_is_told_and_can_go(finished, birds):
    """Or a setting in it that somebody has edited; the state has all that a resume needs."""
    config = finished / "config.json"
    told, args = config_of(finished), utils.get_args(argv=["--evaluate", str(finished)])
    wrong = {"seed": "x", "data_dir": 5, "num_gen": 5}
    edits = [({n: v}, f"config.json: --{n}: got {v!r}, expected") for n, v in wrong.items()]
    edits += [({"fid": "gone", "dataset": "synthetic"}, "gone, which is not there; give --fid")]
    for edit, words in edits:
        config.write_text(json.dumps(told | edit))
        refused(words, evaluate, TinyGenerator(), args)
    config.write_text("{")
    refused("restore it", evaluate, TinyGenerator(), args)
    start(finished, birds, "--resume", "--num_iterations", 3)
    config.write_text("{")
    start(finished, birds, "--overwrite", "--num_iterations", 1)
    (finished / "state.pt").unlink()
    refused(r"holds a run \(.*\); give --overwrite or another", start, finished, birds)


def own(name, base=TinyGenerator, change=lambda x: x, of_latents=lambda z: z):
    """A network with one thing changed."""

    class Own(base):
        def forward_given_samples(self, z):
            return change(super().forward_given_samples(of_latents(z)))

        def forward(self, x):
            return change(super().forward(x))

    return type(name, (Own,), {})


def changed(at, make):
    """Optimizers and schedulers, one of which cannot step without an argument."""
    four = lambda *nets: [*train.get_optimizers_and_schedulers(*nets)]
    return lambda *nets: [*(made := four(*nets))[:at], make(made[0]), *made[at + 1 :]]


PLATEAU = torch.optim.lr_scheduler.ReduceLROnPlateau
LBFGS = lambda optimizer: torch.optim.LBFGS(optimizer.param_groups[0]["params"])
SWAPPED = lambda gen, disc: train.get_optimizers_and_schedulers(disc, gen)
D, IMAGE = TinyDiscriminator, "build_transforms: an image becomes .*"
NARROW = own("Narrow", of_latents=lambda z: z[:, :64])
LARGE = own("Large", change=lambda x: nn.functional.interpolate(x, scale_factor=2.0))
BRIGHT, VECTOR = own("Bright", change=lambda x: x * 127.5), own("Vector", D, lambda x: x[:, 0])
FROZEN = lambda: TinyGenerator().requires_grad_(False)
OTHER_IMAGES = [torch.rand(8, 3, 32, 32), torch.zeros(8, 3, 64, 64, dtype=torch.uint8), [[0]]]
OTHER_IMAGES += [torch.zeros(0, 3, 32, 32).byte(), torch.zeros(8, 3, 32, 32).byte().numpy()]
SLIPS = {
    "loss": [
        (lambda r, f, *rest: f - r, r"test_run.*returned \(3, 1\); expected"),
        (lambda r, f, *rest: 0.5, "returned 0.5; expected"),
        (lambda r, f, *rest: f.mean().detach(), "a loss without a gradient"),
        (lambda r, *rest: r.maen(), "test_run.*raised AttributeError: .*maen"),
        (lambda r, f, *rest: 0 * f.mean() / 0, "returned NaN"),
        (lambda *rest: torch.ones((), requires_grad=True), "gradient for TinyDiscrim"),
    ],
    "networks": [
        ((NARROW, D), "Narrow.forward_given_samples raised RuntimeError"),
        ((LARGE, D), r"Large.forward_given_samples returned \(3, 3, 64, 64\)"),
        ((BRIGHT, D), r"returned values from .*expected images in \[-1, 1\]"),
        ((FROZEN, D), "a loss without a gradient for TinyGen"),
        ((TinyGenerator, VECTOR), r"Vector.forward returned \(3,\)"),
        ((D, TinyGenerator), "TinyDiscriminator has no forward_given_samples"),
    ],
    "make_optimizers": [
        (lambda gen, disc: (1, 2), "returned tuple; expected .optim_disc"),
        (lambda gen: 1, "raised TypeError"),
        (SWAPPED, "returned another order; expected .optim_disc"),
        (changed(3, lambda optimizer: None), "returned NoneType, .*LambdaLR"),
        (changed(1, PLATEAU), "returned ReduceLROnPlateau, which has no"),
        (changed(0, LBFGS), "returned LBFGS, which has no"),
    ],
    "generator_every": [(0, "generator_every: got 0, expected int >= 1")],
    "transforms": [
        (lambda: t.Compose([t.PILToTensor()]), f"{IMAGE}torch.uint8"),
        (lambda: t.Compose([t.ToTensor(), t.Resize(64)]), rf"{IMAGE}float32 \(3, 64, 64\)"),
        (lambda: t.Compose([t.ToTensor(), lambda x: 300 * x]), f"{IMAGE}values from .* to"),
        (lambda: t.Compose([]), f"{IMAGE}Image"),
        (lambda: t.Compose([t.ToTensor(), lambda x: x[:0]]), f"{IMAGE}Tensor"),
        (lambda: t.ToTensor(), "no pixel becomes less than 0"),
        (lambda: t.ToTensor, "raised TypeError"),
        (lambda: t.ToTenser(), "raised AttributeError"),
        (lambda: lambda image: torch.full((3, 32, 32), torch.nan), "values from nan to nan"),
    ],
    "images": [(images, "images: got .*expected") for images in OTHER_IMAGES],
    "--lamb": [(5, "--lamb: this loss has no gradient penalty")],
}
CASES = [(kind, *case) for kind, cases in SLIPS.items() for case in cases]


@pytest.mark.parametrize("kind, slip, message", CASES)
def test_slips_in_what_is_ones_own(kind, slip, message, birds, tmp_path, monkeypatch):
    class Own:
        compute_generator_loss = q1_3.compute_generator_loss
        compute_discriminator_loss = slip if kind == "loss" else q1_3.compute_discriminator_loss

    if kind == "transforms":
        monkeypatch.setattr(train, "build_transforms", slip)
    images, argv = slip if kind == "images" else birds, [kind, slip] if kind[0] == "-" else []
    more = {kind: slip} if kind in ("networks", "make_optimizers", "generator_every") else {}
    refused(message, start, tmp_path / "run", images, *argv, question=Own, **more)
    assert not (tmp_path / "run").exists()


LOSSES = [
    (q1_5.compute_discriminator_loss, True),
    (lambda r, f, d, i, lamb: f.mean() + d.mean(), True),  # the score of x^ alone
    (lambda r, f, d, i, lamb: f.mean() + i.mean(), True),
    (q1_3.compute_discriminator_loss, False),
]


@pytest.mark.parametrize("loss, uses_interp", LOSSES)
def test_trying_finds_out_what_a_loss_needs_and_leaves_no_trace(loss, uses_interp):
    gen, disc = TINY[0](), TINY[1]()
    state = lambda: [*gen.state_dict().values(), *disc.state_dict().values()]
    before, rng = [value.clone() for value in state()], torch.get_rng_state()
    args = get_args("", ["--fid", "off"])
    found = train.try_losses(gen, disc, loss, q1_5.compute_generator_loss, args)
    assert found == uses_interp
    assert torch.equal(torch.get_rng_state(), rng) and gen.training
    assert all(map(torch.equal, state(), before))
    assert all(p.grad is None for net in (gen, disc) for p in net.parameters())


# The average of the generator's weights
def test_the_average_follows_its_formula_and_changes_nothing(
    birds, tmp_path, monkeypatch, tiny_features
):
    plain, folder = start(tmp_path / "plain", birds, "--log_period", 100), tmp_path / "run"
    weights, step = [], train.generator_step
    weight_of = lambda gen: gen.dense.weight.detach().clone()
    keep = lambda gen, *rest: weights.append(weight_of(gen)) or step(gen, *rest)
    monkeypatch.setattr(train, "generator_step", keep)
    assert same(plain, start(folder, birds, *SCORES, tiny_features, "--ema", 0.75))
    last = dict(load(folder, "generator"))["dense.weight"]
    expected = weights[0]  # it begins there; after each of the two steps of the generator
    for now in (weights[1], last):
        expected = 0.75 * expected + 0.25 * now
    average = dict(load(folder, "generator_ema"))
    torch.testing.assert_close(average["dense.weight"], expected)
    assert not torch.equal(average["dense.weight"], last)
    kinds = ("samples", "interpolations", "around_a_sample", "between_samples")
    expected = {f"{kind}{of}_{n}.png" for kind in kinds for of in ("", "_ema") for n in (3, 6, 7)}
    assert expected | {"samples.gif"} <= files(folder)
    assert not [name for name in files(tmp_path / "plain") if "_ema" in name]
    for row in rows(folder):
        assert float(row["score"]) > 0 and float(row["score_ema"]) > 0
        assert row["score"] != row["score_ema"]
    # Loaded elsewhere in eval mode the average must not meet the statistics of untrained weights.
    gen, z = TINY[0](), torch.randn(4, 128)
    gen.load_state_dict(average)
    assert gen.norm.running_mean.abs().sum() > 0
    with torch.no_grad():
        loaded = gen.eval().forward_given_samples(z)
    torch.testing.assert_close(loaded, utils.draw(gen, {"z": z})["z"], atol=1e-4, rtol=1e-4)
