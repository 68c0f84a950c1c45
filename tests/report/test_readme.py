"""Every command of the README that starts a script of report/, on runs in a folder of its own."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import readme

COMMANDS = readme.commands("report")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command(command, make_gan, make_vae, tmp_path, monkeypatch, capsys):
    script, *options = command
    make_gan(tmp_path / "gan/data_wgan_gp")
    make_vae(tmp_path / "vae/data/vae_latent1024")
    make_gan(tmp_path / "CLASS/alice/gan/data_wgan_gp")
    monkeypatch.chdir(tmp_path)
    if script == "report/check.py":
        shutil.copytree(Path(__file__).parent / "handin/vae", tmp_path / "HANDIN/vae")
        shutil.copytree(Path(__file__).parent / "handin/gan", tmp_path / "gan", dirs_exist_ok=True)
        with pytest.raises(SystemExit) if "--autograder" not in options else nullcontext() as stop:
            readme.run(monkeypatch, script, *options)
        assert (tmp_path / "autograder.zip").exists() or stop.value.code == 1  # a hand-in's half
        return
    readme.run(monkeypatch, script, *options)
    out = capsys.readouterr().out
    assert "1.5 WGAN-GP" in out or "report.pdf" in out
    assert script != "report/build_report.py" or list(tmp_path.rglob("report.pdf"))
