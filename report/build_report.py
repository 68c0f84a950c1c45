"""From run folders to the report: curves, tables, report.md and report.pdf.

    python report/build_report.py                              the runs in report/runs
    python report/build_report.py --runs vae/data --out mine   your own, into another folder

The words are written by hand in report.md; what lies there between `<!-- NAME -->` and `<!-- /NAME -->`
comes from the runs and is written anew. report.pdf is report.md, set in pages. Exit code 2 where a
folder cannot be read.
"""

import argparse
import re
import sys
from pathlib import Path

from parts import PARTS, Parts
from run_folder import RUNS, RunError, find_runs, read_run, save
from typeset import typeset

HERE = Path(__file__).resolve().parent


def refresh(source, parts):
    """The text of `source` with what lies between its marks made anew."""

    def part(match):
        if match[1] not in PARTS:
            raise RunError(f"{source}: no part is called {match[1]!r}; expected one of {', '.join(PARTS)}")
        return f"<!-- {match[1]} -->\n{PARTS[match[1]](parts)}\n<!-- /{match[1]} -->"

    return re.sub(r"<!-- ([^/\n]*?) -->\n.*?<!-- /\1 -->", part, source.read_text(), flags=re.DOTALL)


def build(run_paths, out):
    """Write figures/, report.md and report.pdf to `out`; in report/ itself also the README's tables."""
    runs = [read_run(folder) for folder in find_runs(run_paths)]
    parts = Parts(runs, out)
    source = out / "report.md" if (out / "report.md").exists() else HERE / "report.md"
    texts = {out / "report.md": refresh(source, parts)}
    if out == HERE:
        texts[HERE.parent / "README.md"] = refresh(HERE.parent / "README.md", parts)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    # The pages come first: they read every picture, and nothing is replaced before they are whole.
    save(
        out / "report.pdf",
        lambda unfinished: typeset(texts[out / "report.md"], out, unfinished, parts.figures),
    )
    for path, content in parts.figures.items():
        save(path, lambda unfinished, content=content: unfinished.write_bytes(content))
    for path, text in texts.items():
        save(path, lambda unfinished, text=text: unfinished.write_text(text))
    return runs


def main(argv=None):
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
        "--out", type=Path, default=HERE, metavar="FOLDER",
        help="where the report goes (report); its report.md is used, or the project's where it has none",
    )  # fmt: skip
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
