"""The average of the generator: its formula, its pictures, its scores, and no trace in training."""

import torch
import train
import utils
from helpers import TINY, files, load, rows, same, start, stopped_at


def test_the_average_follows_its_formula_and_changes_nothing(birds, tmp_path, monkeypatch):
    plain = start(tmp_path / "plain", birds, "--log_period", 100)
    weights, step = [], train.generator_step
    weight_of = lambda gen: gen.dense.weight.detach().clone()
    keep = lambda gen, *rest: weights.append(weight_of(gen)) or step(gen, *rest)
    monkeypatch.setattr(train, "generator_step", keep)
    averaged = start(tmp_path / "run", birds, "--log_period", 100, "--ema", 0.75)
    assert same(plain, averaged) and "generator_ema.pt" not in files(tmp_path / "plain")
    last = dict(load(tmp_path / "run", "generator"))["dense.weight"]
    expected = weights[0]  # it begins there; after each of the two steps of the generator
    for now in (weights[1], last):
        expected = 0.75 * expected + 0.25 * now
    got = dict(load(tmp_path / "run", "generator_ema"))["dense.weight"]
    torch.testing.assert_close(got, expected)
    assert not torch.equal(got, last)


def test_a_run_with_an_average_is_resumed_bit_identical_and_scored(
    birds, tmp_path, monkeypatch, tiny_features
):
    options = ["--fid", tiny_features, "--num_gen", 8, 8, "--ema", 0.5]
    start(tmp_path / "whole", birds, *options)
    stopped_at(monkeypatch, 4, tmp_path / "cut", birds, *options)
    start(tmp_path / "cut", birds, "--resume")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    for name in files(tmp_path / "whole"):
        if name.endswith((".png", ".gif", "ema.pt")):
            both = [(tmp_path / run / name).read_bytes() for run in ("whole", "cut")]
            assert both[0] == both[1], name
    kinds = ("samples", "interpolations", "around_a_sample", "between_samples")
    expected = {f"{kind}{of}_{n}.png" for kind in kinds for of in ("", "_ema") for n in (3, 6, 7)}
    assert expected | {"generator_ema.pt", "samples.gif"} <= files(tmp_path / "cut")
    for row in rows(tmp_path / "cut"):
        assert float(row["score"]) > 0 and float(row["score_ema"]) > 0
        assert row["score"] != row["score_ema"]
    # Loaded elsewhere in eval mode the average must not meet the statistics of untrained weights.
    gen, z = TINY[0](), torch.randn(4, 128)
    gen.load_state_dict(dict(load(tmp_path / "cut", "generator_ema")))
    assert gen.norm.running_mean.abs().sum() > 0
    with torch.no_grad():
        loaded = gen.eval().forward_given_samples(z)
    torch.testing.assert_close(loaded, utils.draw(gen, {"z": z})["z"], atol=1e-4, rtol=1e-4)
