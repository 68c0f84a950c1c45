"""The functions that the handout names are the ones that run: where one raises, the script ends.

And the handout's own scripts, with nothing but the formulas filled in, run against this code.
"""

import ast
import json

import pytest
import readme
from forks import ends, run_in_a_fork

Q1_5 = "gan/q1_5.py --dataset synthetic --num_iterations 1 --batch_size 2 --num_gen 4 4 --fid f.pt"
VAE = "--dataset synthetic --num_epochs 1 --batch_size 5 --eval_interval 1 --out_dir out"
PRESET = f"vae/train.py vae_latent16 {VAE}"
LINEAR = f"vae/train.py vae_latent1024_beta_linear1 {VAE}"
DOORS = {
    (Q1_5, "gan/q1_5.py"): "compute_discriminator_loss compute_generator_loss",
    (Q1_5, "gan/train.py"): "train_model build_transforms get_optimizers_and_schedulers",
    (Q1_5, "gan/dataset.py"): "Dataset.__init__ Dataset.__getitem__",
    (Q1_5, "gan/utils.py"): "get_args get_fid interpolate_latent_space",
    (Q1_5, "gan/common/files.py"): "save_plot",
    (PRESET, "vae/train.py"): "main run_train_epoch get_val_metrics",
    (PRESET, "vae/utils.py"): "get_dataloaders preprocess_data vis_recons vis_samples",
    (PRESET, "vae/losses.py"): "vae_loss",
    (PRESET, "vae/schedules.py"): "constant_beta_scheduler",
    (LINEAR, "vae/schedules.py"): "linear_beta_scheduler",
    (PRESET.replace("vae_", "ae_"), "vae/losses.py"): "ae_loss",
}
DOORS = [(*place, name) for place, names in DOORS.items() for name in names.split()]


def shut(path, name):
    """The body of a function, or of a class's method, becomes a `raise`."""
    text = path.read_text()
    nodes = ast.parse(text).body
    for part in name.split("."):
        (node,) = (n for n in nodes if getattr(n, "name", None) == part)
        nodes = node.body
    lines = text.splitlines()
    first, last = node.body[0].lineno - 1, node.body[-1].end_lineno
    indent = " " * node.body[0].col_offset
    lines[first:last] = [f'{indent}raise KeyError("the door {name}")']
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("command, path, name", DOORS, ids=[f"{p}:{n}" for _, p, n in DOORS])
def test_the_script_goes_through_this_door(command, path, name, tree):
    shut(tree / path, name)
    code, told = run_in_a_fork(tree, command)
    assert code and f"the door {name}" in told


MAIN = """
if __name__ == "__main__":
    import os
    args = get_args()
    gen = Generator()
    disc = Discriminator()
    prefix = "{}/"
    os.makedirs(prefix, exist_ok=True)
    train_model(
        gen, disc, num_iterations=int(2), batch_size=2, prefix=prefix,
        gen_loss_fn=compute_generator_loss, disc_loss_fn=compute_discriminator_loss,
        log_period=2, amp_enabled=not args.disable_amp,
    )
"""
PREFIXES = {"q1_3": "data_gan", "q1_4": "data_ls_gan", "q1_5": "data_wgan_gp"}


@pytest.mark.parametrize("name, prefix", PREFIXES.items())
def test_the_handouts_own_scripts(name, prefix, tree):
    functions, _, _ = (tree / f"gan/{name}.py").read_text().partition("\n\nif __name__")
    (tree / f"gan/{name}.py").write_text(functions + MAIN.format(prefix))
    options = f"gan/{name}.py --dataset synthetic --fid f.pt --num_gen 4 5"
    ends(tree, f"{options} --disable_amp")
    run = tree / "gan" / prefix  # beside the script, whatever the working directory
    config = json.loads((run / "config.json").read_text())
    expected = {"loss": name, "number_format": "float32", "dataset": "synthetic"}
    expected |= {"num_gen": [4, 5], "batch_size": 2, "num_iterations": 2}
    assert config | expected == config
    assert (run / "samples_2.png").exists() and (run / "fid_vs_iterations.png").exists()
    header, log, _ = (run / "metrics.csv").read_text().splitlines()
    norm = dict(zip(header.split(","), log.split(",")))["gradient_norm"]
    assert bool(norm) == (name == "q1_5")
    # Every option takes effect, or is refused in a line that says what to write.
    given = ("--batch_size 4", "--num_iterations 9", "--lamb 3", "--log_period 1")
    advice = {option: "{0}=args.{0}".format(option[2:].split()[0]) for option in given}
    advice |= {"--seed 3": "manual_seed(args.seed)", "--out_dir elsewhere": "prefix=args.prefix"}
    for option, words in (advice | {"--evaluate": "see the end of q1_5.py"}).items():
        told = ends(tree, f"{options} {option}", 2)
        assert option.split()[0] in told and words in told, (option, told)
        assert len(told.strip().splitlines()) == 1


def test_the_handouts_own_command_line_of_the_autoencoders(tree):
    own = "--log_dir mine --loss_mode vae --beta_mode linear --latent_size 5 --target_beta_val 0.5"
    ends(tree, f"vae/train.py {own} {VAE}")
    config = json.loads((tree / "out/mine_synthetic/config.json").read_text())
    got = [config[key] for key in ("loss_mode", "beta_mode", "latent_size", "target_beta_val")]
    assert got == ["vae", "linear", 5, 0.5]


def test_the_readmes_loss_of_ones_own(tree):
    """A copy of q1_3.py with the two functions that stand there."""
    hinge, _ = readme.blocks("python")
    text = (tree / "gan/q1_3.py").read_text()
    before, _, _ = text.partition("def compute_discriminator_loss")
    main = text[text.index('if __name__ == "__main__"') :]
    (tree / "gan/hinge.py").write_text(f"{before}{hinge}\n\n{main}")
    small = "gan/hinge.py --dataset synthetic"
    ends(tree, f"{small} --num_iterations 2 --batch_size 2 --log_period 1")
    config = json.loads((tree / "gan/data_hinge_synthetic/config.json").read_text())
    assert config["loss"] == "hinge"
    ends(tree, f"{small} --resume --num_iterations 3")
    assert (tree / "gan/data_hinge_synthetic/samples_3.png").exists()


def test_the_readmes_autoencoder_of_ones_own(tree):
    _, mine = readme.blocks("python")
    assert len(mine.splitlines()) <= 40
    (tree / "vae/mine.py").write_text(mine.replace("latent_size=64", "latent_size=3"))
    ends(tree, "vae/mine.py --dataset synthetic --num_epochs 1")
    config = json.loads((tree / "vae/data/mine/config.json").read_text())
    assert config["loss_mode"] == "mine.absolute_error_vae"
    assert config["beta_mode"] == "mine.warm_up"
    for wrong in ("--log_dir x", "vae_latent16", "--evaluate x"):
        assert wrong.split()[0] in ends(tree, f"vae/mine.py {wrong}", 2)
    ends(tree, "vae/mine.py --resume --num_epochs 2")
    assert (tree / "vae/data/mine/epoch_1_samples.png").exists()
