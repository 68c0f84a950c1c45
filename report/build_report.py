"""From run folders to the report: curves, tables, report.md and report.pdf.

    python report/build_report.py                              the runs in report/runs
    python report/build_report.py --runs gan vae --out mine    your own, into another folder

The words are written by hand in report.md; what lies there between `<!-- NAME -->` and
`<!-- /NAME -->` comes from the runs and is written anew. A new folder gets a report.md with the
headings that its runs have something to say under, and no words. report.pdf is report.md, set in
pages. Exit codes: 1 where a damaged run was left out, 2 where nothing could be made.
"""

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from parts import PARTS, Parts
from run_folder import RUNS, OneLineParser, Run, RunError, find_runs, read_runs, save
from typeset import typeset

HERE = Path(__file__).resolve().parent
PART = r"<!-- ([^/\n]*?) -->\n.*?<!-- /\1 -->"


def outline(text: str) -> list[tuple[int, str, list[str]]]:
    """(level, heading, names of its parts) of each section of a report, without its words."""
    sections: list[tuple[int, str, list[str]]] = []
    for match in re.finditer(rf"^#+ [^\n]*$|{PART}", text, flags=re.DOTALL | re.MULTILINE):
        if match[0][0] == "#":
            level = len(match[0]) - len(match[0].lstrip("#"))
            sections.append((level, match[0], []))
        elif sections:
            sections[-1][2].append(match[1])
    return sections


def skeleton(text: str, empty: set[str]) -> str:
    """The headings and parts of a report: words about other runs would be false beside these.

    A section whose parts all are in `empty` is left out, with those below it.
    """
    sections, lines, shown = outline(text), [], {0: True}  # level -> whether its last one is there
    for at, (level, heading, names) in enumerate(sections):
        rest = sections[at + 1 :]
        end = next((n for n, other in enumerate(rest) if other[0] <= level), len(rest))
        parts = {*names}.union(*(other[2] for other in rest[:end]))
        # Words without a part belong to those of the section above them.
        shown[level] = level == 1 or (not parts <= empty if parts else shown[level - 1])
        if shown[level]:
            lines.append(heading)
            if level == 1:
                lines.append(
                    "<!-- Write between the parts: they are made anew, your words stay. -->"
                )
            lines += [f"<!-- {name} -->\n<!-- /{name} -->" for name in names if name not in empty]
    return "\n\n".join(lines) + "\n"


def refresh(source: Path, text: str, parts: dict[str, str]) -> str:
    """`text`, which came from `source`, with what lies between its marks made anew."""

    def part(match: re.Match) -> str:
        if match[1] not in parts:
            raise RunError(
                f"{source}: no part is called {match[1]!r}; expected one of {', '.join(parts)}"
            )
        return f"<!-- {match[1]} -->\n{parts[match[1]]}\n<!-- /{match[1]} -->"

    return re.sub(PART, part, text, flags=re.DOTALL)


def build(runs: Sequence[Run], out: Path) -> list[str]:
    """Write figures/, report.md and report.pdf to `out`; in report/ also the README's tables.

    Returns what is missing, a line each.
    """
    parts = Parts(runs, out)
    made = {name: part(parts) for name, part in PARTS.items()}  # Markdown, empty without a run
    own, readme = out / "report.md", HERE.parent / "README.md"
    empty = {name for name, content in made.items() if not content}
    new = not own.exists()  # else its words stay
    text = skeleton((HERE / "report.md").read_text(), empty) if new else own.read_text()
    texts = {own: refresh(own, text, made)}
    if out == HERE:  # the README tells of the runs in report/runs alone
        texts[readme] = refresh(readme, readme.read_text(), made)
    shown = {name for text in texts.values() for _, _, names in outline(text) for name in names}
    # A part whose marks somebody took away has drawn for nothing.
    drawn = parts.figures.items()
    figures = {path: png for path, png in drawn if f"figures/{path.name}" in texts[own]}
    (out / "figures").mkdir(parents=True, exist_ok=True)
    # The pages come first: they read every picture, and nothing is replaced before they are whole.
    save(out / "report.pdf", lambda unfinished: typeset(texts[own], out, unfinished, figures))
    for path, content in figures.items():
        save(path, partial(Path.write_bytes, data=content))
    for path, text in texts.items():
        save(path, partial(Path.write_text, data=text))
    told = [f"no run for {name}: {command}" for name, command in parts.missing.items()]
    for name in made.keys() - empty - shown - {"gan scores", "all VAE runs"}:  # the README's
        told.append(f"no place in {own}: for {name}, write <!-- {name} --> and <!-- /{name} -->")
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = OneLineParser(__doc__)
    here, what = [str(RUNS)], "run folders, or folders of them (report/runs)"
    parser.path("--runs", "DIR", what, nargs="+", default=here)
    parser.path("--out", "FOLDER", "where the report goes (report); the words in it stay")
    args = parser.parse_args(argv)
    if args.out is None and args.runs != here:
        parser.error("--runs of yours make a report of yours: say where, by --out FOLDER")
    args.out = Path(args.out or HERE)
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is a file, expected a folder")
    try:
        runs, damaged = read_runs(find_runs(args.runs))
        if not runs:
            return 2
        told = build(runs, args.out.absolute())
    except (RunError, OSError) as error:
        print(f"build_report.py: error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*told, f"{len(runs)} runs; the report is {args.out / 'report.pdf'}"]))
    return int(bool(damaged))


if __name__ == "__main__":
    sys.exit(main())
