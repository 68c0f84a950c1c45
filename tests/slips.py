"""Small slips, written like a diff, and put into copies of the project's files.

@ FILE NAME words          where, what should see it, and a remark
- what stands there        (lines that follow each other are one text)
+ the slip
* the mend                 what the message advises, where there is such a line
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HANDIN = ROOT / "tests/report/handin"  # a right hand-in in the handout's own manner
IGNORED = shutil.ignore_patterns("__pycache__", "datasets", "data_*", "*.pt", "runs", ".mypy_cache")


@dataclass(frozen=True)
class Slip:
    """A change of one place in a file."""

    file: str
    name: str
    words: str
    old: str
    new: str
    mend: str

    def put_into(self, root: Path, mended: bool = False) -> None:
        """Change the file below `root`; a place that is not there, or there twice, is an error."""
        path = root / self.file.removeprefix("handin:")
        text = path.read_text()
        assert self.old in text, f"{self.file} has no {self.old!r}"
        path.write_text(text.replace(self.old, self.mend if mended else self.new))


def read(text: str) -> list[Slip]:
    """Those of a text."""
    slips = []
    for block in text.strip().removeprefix("@ ").split("\n@ "):
        head, *lines = block.split("\n")
        file, name, *words = head.split(" ", 2)
        parts = ["\n".join(line[2:] for line in lines if line[:1] == mark) for mark in "-+*"]
        slips.append(Slip(file, name, "".join(words), *parts))
    return slips


def packs(slips: list[Slip]) -> list[list[Slip]]:
    """Lists of slips of one half that can be tried together: of other names, in other places."""
    found: list[list[Slip]] = []
    for slip in slips:
        for pack in found:
            if half_of(pack[0]) == half_of(slip) and not any(_clash(slip, s) for s in pack):
                pack.append(slip)
                break
        else:
            found.append([slip])
    return found


def _clash(one: Slip, other: Slip) -> bool:
    overlap = one.file == other.file and (one.old in other.old or other.old in one.old)
    # Images or codes of another shape stop every other check of the model.
    alone = {"decoder_output", "vae_encoder_layers"} & {one.name, other.name}
    return one.name == other.name or overlap or bool(alone)


def half_of(slip: Slip) -> tuple[Path, str]:
    """Where it comes from (this project, or the hand-in), and gan, vae or diffusion."""
    source = HANDIN if slip.file.startswith("handin:") else ROOT
    return source, slip.file.removeprefix("handin:").partition("/")[0]


def changed(place: Path, slips: list[Slip], mended: bool = False) -> Path:
    """A copy of the half that the slips are of, with them in it."""
    source, half = half_of(slips[0])
    shutil.copytree(source / half, place / half, ignore=IGNORED)
    for slip in slips:
        slip.put_into(place, mended)
    return place / half
