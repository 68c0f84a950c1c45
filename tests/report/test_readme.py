"""Every command of the README that starts a script of report/, on runs in a folder of its own."""

import shutil
import sys
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
        shutil.copytree(Path(__file__).parent / "handin", tmp_path / "HANDIN")
        with pytest.raises(SystemExit) as stop:  # an old library's argument stands in it
            readme.run(monkeypatch, script, *options)
        assert stop.value.code == 1 and "With that apart it is right" in capsys.readouterr().out
        return
    if script == "report/build_report.py" and not options:  # it would write into this checkout
        copy = tmp_path / "copy"
        ignored = shutil.ignore_patterns("*.pdf", "__pycache__")
        shutil.copytree(readme.ROOT / "report", copy / "report", ignore=ignored)
        shutil.copy(readme.ROOT / "README.md", copy)
        for name in ("build_report", "run_folder", "parts", "grade"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(copy / "report"))
        monkeypatch.setattr(readme, "ROOT", copy)
    readme.run(monkeypatch, script, *options)
    out = capsys.readouterr().out
    assert "1.5 WGAN-GP" in out or "report.pdf" in out
    assert script != "report/build_report.py" or list(tmp_path.rglob("report.pdf"))
