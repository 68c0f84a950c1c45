"""Other people's files, folders, habits and machines: nothing silent, nothing rude."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dataset
import download
import fid
import numpy as np
import pytest
import q1_3
import torch
import train
from logger import LAYOUT
from networks import Discriminator, Generator
from PIL import Image
from resize_dataset import resize_folder
from settings import Settings
from tiny_networks import TinyFeatures, save_script

from common import InputError, Interrupted
from common.command_line import exit_codes
from common.device import check_kernels
from common.files import locked
from common.measure import ANOTHER_RUN
from common.run import RunFolder, StopSignal

GAN = Path(train.__file__).parent


def start(folder, images, loss=q1_3, iterations=2, **options):
    torch.manual_seed(0)
    return train.train_model(
        Generator(),
        Discriminator(),
        iterations,
        4,
        prefix=folder,
        gen_loss_fn=loss.compute_generator_loss,
        disc_loss_fn=loss.compute_discriminator_loss,
        images=images,
        interpolates=False,
        settings=Settings(fid="off"),
        **{"log_period": 100} | options,
    )


# ------------------------------------------------------------------------------------------------
# Pictures


def test_one_reader_finds_the_images_of_a_folder(tmp_path):
    """In any case, of any kind, through links, and never a dot file; what is left out is named."""
    for name in ("a.jpg", "b.JPG", "c.jpeg", "d.png", "e.WebP", "f.TIFF", "._a.jpg", "g.txt"):
        Image.new("RGB", (32, 32)).save(tmp_path / name, format="PNG")
    (tmp_path / ".unfinished.7.h.jpg").write_bytes(b"half")
    below = tmp_path / "elsewhere" / "class"
    below.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(below / "i.png")
    inside = tmp_path / "classes"
    inside.mkdir()
    (inside / "link").symlink_to(below)
    (inside / "again").symlink_to(inside)  # a circle
    images, others = dataset.find_images(tmp_path)
    assert [path.name for path in images] == [
        "a.jpg",
        "b.JPG",
        "c.jpeg",
        "d.png",
        "e.WebP",
        "f.TIFF",
    ]
    assert others == ["g.txt"]
    assert [path.name for path in dataset.find_images(inside, deep=True)[0]] == ["i.png"]
    assert len(dataset.Dataset(tmp_path, lambda image: image)) == 6
    assert len(dataset.load_images(tmp_path)) == 6
    assert len(fid.image_files(tmp_path)) == 7
    outcome = resize_folder(inside, tmp_path / "small")
    assert outcome["resized"] == ["i.jpg"]


def stored(path, mode):
    """A left half of 25 % grey and a right half of white, in a mode of Pillow's, as PNG or TIFF."""
    grey = np.full((8, 8), 64, dtype=np.uint8)
    grey[:, 4:] = 255
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "LA":
        image = Image.fromarray(grey).convert("LA")
    elif mode == "RGBA":  # black, and so transparent that white shows through
        alpha = 255 - np.where(grey == 255, 255, 64).astype(np.uint8)
        image = Image.fromarray(np.stack([0 * grey] * 3 + [alpha], axis=-1))
    elif mode == "P":
        image = Image.fromarray(grey).convert("P")
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32) / 255)
    elif mode == "I":
        image = Image.fromarray(grey.astype(np.int32))
    else:
        image = Image.fromarray(grey).convert(mode)
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "LA", "RGBA", "P", "CMYK", "1"])
def test_pixels_are_what_a_viewer_shows(mode, tmp_path):
    path = stored(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), mode)
    image, _ = dataset.read_rgb(path)
    left, right = (image.getpixel((x, 4)) for x in (1, 6))
    assert image.mode == "RGB" and right == (255, 255, 255)
    if mode != "1":
        assert all(abs(value - 64) <= 1 for value in left), left
    if mode != "CMYK":  # scored and trained on alike
        (batch,) = fid.image_batches(fid.image_files(tmp_path))
        assert batch[0, :, 4, 1].tolist() == list(left)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_white_are_refused_by_name(mode, tmp_path, tiny_features, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    path = stored(folder / "a.tif", mode)
    with pytest.raises(InputError, match=f"cannot decode .*a.tif .*mode {mode}"):
        dataset.load_images(folder, 8)
    with pytest.raises(InputError, match=f"cannot decode .*a.tif .*mode {mode}"):
        list(fid.image_batches(fid.image_files(folder)))
    with pytest.raises(InputError, match="none of the 1 images .* can be used .a.jpg"):
        resize_folder(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists() and path.exists()


def test_photographs_are_turned_as_their_camera_was(tmp_path):
    image = Image.new("RGB", (8, 4), "white")
    image.paste("black", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    image.save(tmp_path / "a.png", exif=exif)
    turned, _ = dataset.read_rgb(tmp_path / "a.png")
    assert turned.size == (4, 8) and turned.getpixel((2, 1)) == (0, 0, 0)


def test_a_killed_resizing_leaves_nothing_that_is_trained_on(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.new("RGB", (40, 40)).save(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".unfinished.123.a.jpg").write_bytes(b"half")
    assert not dataset.find_images(out)[0]
    resize_folder(tmp_path / "in", out)
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(8, 3, 32, 32),
        torch.rand(8, 3, 32, 32) * 255,
        torch.zeros(3, 32, 32, dtype=torch.uint8),
        [[0]],
    ],
)
def test_floats_are_not_scaled_a_second_time(images, tmp_path):
    with pytest.raises(InputError, match="images: got .*expected uint8"):
        start(tmp_path / "run", images)
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------
# Folders


def test_a_run_owns_its_folder(birds, tmp_path):
    """A second start is refused before any work, whatever it asks for; afterwards it may."""
    folder = tmp_path / "run"
    with RunFolder(folder, LAYOUT):
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(InputError, match="another run is at work in"):
                start(folder, birds, **options)
    assert not folder.exists()
    start(folder, birds)
    with RunFolder(folder, LAYOUT, resume=True), pytest.raises(InputError, match="at work"):
        start(folder, birds, iterations=4, resume=True)
    start(folder, birds, iterations=3, resume=True)


def test_two_processes_do_not_share_a_folder(tmp_path):
    """And one that is killed leaves no lock behind."""
    argv = [sys.executable, str(GAN / "q1_3.py"), "--dataset", "synthetic", "--batch_size", "8"]
    argv += ["--num_iterations", "100000", "--out_dir", str(tmp_path / "run"), "--device", "cpu"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = subprocess.run([*argv, "--resume"], capture_output=True, text=True, env=env)
    first.kill()
    first.wait()
    assert second.returncode == 2 and "another run is at work" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    with RunFolder(tmp_path / "run", LAYOUT, resume=True) as run:
        assert run.state is not None


def test_a_file_system_without_locks_is_no_obstacle(birds, tmp_path, monkeypatch):
    import fcntl

    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    start(tmp_path / "run", birds)
    with locked(tmp_path), locked(tmp_path, wait=False):
        pass


def test_a_lock_leaves_no_file_in_a_folder_that_is_only_read(tmp_path):
    with locked(tmp_path):
        assert not list(tmp_path.iterdir())
        with pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
            pass
    with locked(tmp_path, wait=False):
        pass


def test_a_slip_in_ones_own_loss_leaves_no_run(birds, tmp_path):
    class Slip:
        compute_generator_loss = q1_3.compute_generator_loss

        @staticmethod
        def compute_discriminator_loss(discrim_real, *rest):
            return discrim_real.maen()

    folder = tmp_path / "run"
    with pytest.raises(AttributeError):
        start(folder, birds, Slip)
    start(folder, birds)  # corrected, it starts: there is nothing to resume or to overwrite


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    """A mounted volume, say; and one that was begun is gone on with."""
    volume = tmp_path / "volume"
    volume.mkdir()
    with pytest.raises(InputError, match="nothing in .*add --download"):
        download.prepare_cub(volume, download=False)
    tries = []

    def unpack(archive, originals):
        tries.append(originals)
        if len(tries) == 1:
            raise OSError("the power went")
        (originals / "images").mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(originals / "images" / "bird.jpg")

    monkeypatch.setattr(download, "fetch_archive", lambda archive: None)
    monkeypatch.setattr(download, "unpack", unpack)
    with pytest.raises(InputError, match="the power went"):
        download.prepare_cub(volume)
    assert download.prepare_cub(volume) == volume and len(tries) == 2
    assert [path.name for path in volume.iterdir()] == ["bird.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["volume"]
    download.prepare_cub(volume, download=False)


def test_a_run_folder_stands_for_its_files(birds, tmp_path):
    start(tmp_path / "a", birds)
    start(tmp_path / "b", birds, iterations=4, resume=tmp_path / "a")
    assert (tmp_path / "b" / "state.pt").exists()


@pytest.mark.parametrize("missing", ["settings", "rows", "seconds", "generator"])
def test_a_state_without_a_part_is_one_line(missing, birds, tmp_path):
    start(tmp_path / "run", birds)
    path = tmp_path / "run" / "state.pt"
    state = torch.load(path, weights_only=True)
    del state[missing]
    torch.save(state, path)
    with pytest.raises(InputError, match=f"--resume: .*{missing}"):
        start(tmp_path / "run", birds, iterations=4, resume=True)


def test_nothing_is_written_beside_a_named_data_folder(bird_folder, tmp_path, tiny_features):
    from main import run
    from settings import get_args

    argv = ["--data_dir", str(bird_folder), "--fid", str(tiny_features), "--num_gen", "8", "8"]
    argv += ["--batch_size", "4", "--num_iterations", "1", "--out_dir", str(tmp_path / "run")]
    losses = q1_3.compute_discriminator_loss, q1_3.compute_generator_loss
    before = sorted(path.name for path in tmp_path.iterdir())
    run(get_args("", "data_x", argv), train.Losses(*losses, interpolates=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "run"])
    assert list((tmp_path / "run").glob("fid_*.npz"))


# ------------------------------------------------------------------------------------------------
# Signals, words


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_every_signal_that_asks_for_an_end_saves(name, birds, tmp_path, monkeypatch, request):
    iterate, number = train.Trainer.iterate, getattr(signal, name)
    if name != "SIGINT":  # whatever the tests were started under
        request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
        signal.signal(number, signal.SIG_DFL)

    def iterate_and_signal(self):
        iterate(self)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "iterate", iterate_and_signal)
        with pytest.raises(Interrupted, match=name) as stopped:
            start(tmp_path / "run", birds)
    assert stopped.value.exit_code == 128 + number
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["iteration"] == 1


def test_under_nohup_a_closed_terminal_is_ignored():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.parametrize("script", ["q1_5.py", "mlp_gan.py", "fid.py", "resize_dataset.py"])
def test_a_slip_is_told_before_torch_loads(script, tmp_path):
    """With a torch that cannot be imported at all."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    argv = [sys.executable, str(GAN / script), "--no_such_option"]
    process = subprocess.run(argv, capture_output=True, text=True, env=env)
    assert process.returncode == 2 and "error: " in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_ctrl_c_while_modules_load_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("import time; print('loading', flush=True); time.sleep(60)")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, str(GAN / "q1_5.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        # As at a terminal, whatever the tests were started under.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err == "q1_5.py: stopped\n" and process.returncode in (130, -signal.SIGINT)


@pytest.mark.parametrize("script", ["train.py", "main.py"])
def test_a_part_is_no_command(script):
    process = subprocess.run([sys.executable, str(GAN / script)], capture_output=True, text=True)
    assert process.returncode == 2 and "run q1_3.py, q1_4.py or q1_5.py" in process.stderr


@pytest.mark.parametrize(
    "number, mend",
    [
        (errno.ENOSPC, "free the space"),
        (errno.EACCES, "mend the permission"),
        (errno.EEXIST, "mend that"),
    ],
)
def test_what_to_do_fits_what_went_wrong(number, mend, capsys):
    with pytest.raises(SystemExit) as stop, exit_codes():
        raise OSError(number, os.strerror(number), "some/path")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and mend in error and "some/path" in error


def test_advice_for_a_loss_that_is_not_finite():
    assert "--lr" in ANOTHER_RUN and "--seed" in ANOTHER_RUN


def test_equal_sets_are_at_distance_0_and_not_below(tiny_features, birds):
    features = fid.Features(str(tiny_features))(birds)
    mean, cov, _ = fid.moments([features])
    assert 0 <= fid.frechet_distance(mean, cov, mean.clone(), cov.clone()) < 1e-6


def test_only_clean_fids_own_file_gives_a_fid(tiny_inception, capsys):
    assert fid.Features("inception", "cpu", tiny_inception).name != "FID"
    assert "is not clean-fid's file" in capsys.readouterr().out


def test_a_lack_of_memory_is_not_called_a_wrong_shape(tmp_path, monkeypatch, birds):
    features = fid.Features(str(save_script(TinyFeatures(), tmp_path / "tiny.pt")))
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ):

        def fail(images, error=error):
            raise error

        features.network = fail
        with pytest.raises(InputError, match="needs more memory than there is"):
            features(birds)


# ------------------------------------------------------------------------------------------------
# GPUs that are not here


@pytest.mark.parametrize(
    "capability, built, fits",
    [
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),  # a V100 with today's wheel
        ((7, 5), ["sm_75", "sm_80"], True),
        ((8, 9), ["sm_75", "sm_86"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_90", "compute_90"], True),  # by PTX
        ((9, 0), ["sm_90a"], True),
    ],
)
def test_a_gpu_that_torch_was_not_built_for_is_refused(capability, built, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "A card")
    if fits:
        check_kernels(torch.device("cuda"))
    else:
        with pytest.raises(InputError, match="no kernels for A card"):
            check_kernels(torch.device("cuda"))


def test_a_start_says_where_and_how_it_computes(birds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    start(tmp_path / "run", birds)
    out = capsys.readouterr().out
    assert "Computing on the CPU, " in out and "in float32; without fast bfloat16" in out


def test_a_run_does_not_wait_for_itself(bird_folder, tmp_path, monkeypatch):
    """Its data, or the Inception weights, are fetched into the folder that it owns."""
    with RunFolder(tmp_path, LAYOUT):
        with locked(tmp_path), locked(tmp_path):
            pass
        with pytest.raises(InputError, match="at work"):
            RunFolder(tmp_path, LAYOUT)
        monkeypatch.setattr(download, "make", lambda folder, *rest: folder.mkdir())
        download.prepare_cub(tmp_path / "cub32")
    RunFolder(tmp_path, LAYOUT).close()


def test_settings_become_builtins(birds, tmp_path):
    """So that a state and a config.json made from them can be read again."""
    settings = Settings(num_iterations=np.int64(7), data_dir=Path("x"), num_gen=[8, np.int32(9)])
    assert (settings.num_iterations, settings.data_dir, settings.num_gen) == (7, "x", (8, 9))
    assert [type(value) for value in settings.num_gen] == [int, int]
    with pytest.raises(InputError, match="--num_iterations: got None"):
        Settings(num_iterations=None)
    start(tmp_path / "run", birds, iterations=np.int64(1))
    start(tmp_path / "run", birds, iterations=2, resume=True)


def test_a_background_job_can_be_interrupted():
    """A shell script starts those with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignal() as stop, pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
            stop.check()
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_fast_penalty_needs_a_loss_that_can_do_without(birds):
    import q1_5

    def handouts_loss(discrim_real, discrim_fake, discrim_interp, interp, lamb):
        (slope,) = torch.autograd.grad(discrim_interp.sum(), interp, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return discrim_fake.mean() - discrim_real.mean() + lamb * penalty

    losses = train.Losses(handouts_loss, q1_5.compute_generator_loss, True)
    settings = Settings(batch_size=2, fast_penalty=True)
    with pytest.raises(InputError, match="--fast_penalty"):
        train.Trainer(Generator(), Discriminator(), losses, birds, settings)
