"""From run folders to the report: curves, tables, report.md and report.pdf.

    python report/build_report.py                              the runs in report/runs
    python report/build_report.py --runs gan vae --out mine    your own, into another folder

The words are written by hand in report.md; what lies there between `<!-- NAME -->` and
`<!-- /NAME -->` comes from the runs and is written anew. A new folder gets a report.md with this
project's headings and no words. report.pdf is report.md, set in pages. Exit code 2 where a folder
cannot be read.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from parts import PARTS, Parts
from run_folder import RUNS, Run, RunError, find_runs, read_run, save
from typeset import typeset

HERE = Path(__file__).resolve().parent
PART = r"<!-- ([^/\n]*?) -->\n.*?<!-- /\1 -->"


def skeleton(text: str) -> str:
    """The headings and parts of a report: words about other runs would be false beside these."""
    kept = re.finditer(rf"^#+ [^\n]*$|{PART}", text, flags=re.DOTALL | re.MULTILINE)
    title, *rest = (match[0] for match in kept)
    return (
        "\n\n".join(
            [title, "Write between the parts: these are made anew, your words stay.", *rest]
        )
        + "\n"
    )


def refresh(source: Path, text: str, parts: Parts) -> str:
    """`text`, which came from `source`, with what lies between its marks made anew."""

    def part(match: re.Match) -> str:
        if match[1] not in PARTS:
            raise RunError(
                f"{source}: no part is called {match[1]!r}; expected one of {', '.join(PARTS)}"
            )
        return f"<!-- {match[1]} -->\n{PARTS[match[1]](parts)}\n<!-- /{match[1]} -->"

    return re.sub(PART, part, text, flags=re.DOTALL)


def build(run_paths: Sequence, out: Path) -> list[Run]:
    """Write figures/, report.md and report.pdf to `out`; in report/ also the README's tables."""
    runs = [read_run(folder) for folder in find_runs(run_paths)]
    parts = Parts(runs, out)
    own, readme = out / "report.md", HERE.parent / "README.md"
    text = own.read_text() if own.exists() else skeleton((HERE / "report.md").read_text())
    texts = {own: refresh(own, text, parts)}
    if out == HERE:
        texts[readme] = refresh(readme, readme.read_text(), parts)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    # The pages come first: they read every picture, and nothing is replaced before they are whole.
    save(out / "report.pdf", lambda unfinished: typeset(texts[own], out, unfinished, parts.figures))
    for path, content in parts.figures.items():
        save(path, partial(Path.write_bytes, data=content))
    for path, text in texts.items():
        save(path, partial(Path.write_text, data=text))
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        default=[RUNS],
        metavar="DIR",
        help="run folders, or folders of them (report/runs)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE,
        metavar="FOLDER",
        help="where the report goes (report); your words in its report.md stay",
    )
    args = parser.parse_args(argv)
    try:
        runs = build(args.runs, args.out.absolute())
    except (RunError, OSError) as error:
        print(f"build_report.py: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(runs)} runs; the report is {args.out / 'report.pdf'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
