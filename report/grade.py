"""Where every question of the assignment stands: what was measured, beside the reference numbers.

    python report/grade.py                                  the runs in report/runs
    python report/grade.py gan vae                          your own
    python report/grade.py CLASS --csv -                    a line for each student and question
    python report/grade.py CLASS --csv class.csv --check --rescore    and code tried, weights too

A number is only called met or not met where it compares with the reference: the same data,
features, sample count, hyper-parameters and length of training. Every run that compares has a row.
A student is a folder or an archive (zip, tar) of CLASS (or what stands above gan/ and vae/). A list
is written after each student; --resume goes on with it. Exit codes: 0; 1 where a comparable number
misses its reference or code is wrong, with --strict also where none compares; 2 where something
cannot be read. --check runs the code that it is given: see check.py --help.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from check import Pool, end_all, stop
from classroom import (
    CODE,
    as_csv,
    code_of,
    code_table,
    copies,
    hand_ins,
    names_of,
    read_csv,
    rows_of_student,
    student_of,
    summary,
    unpacked,
    write_csv,
)
from questions import NEIGHBOURS, QUESTIONS, Grade, asks_for, describe, grade_all
from recheck import OFF, NotMeasured, Places, measure_again
from run_folder import RUNS, OneLineParser, Run, RunError, find_runs, read_run, some_path

HEADER = ["question", "run", "measured", "done", "data, images", "handout", "reports", "verdict"]


def as_table(grades: list[Grade]) -> str:
    """A line a grade, and below it what keeps the number from comparing."""
    rows = [HEADER, *map(describe, grades)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    for at, grade in reversed([*enumerate(grades, start=2)]):  # from below: the places stay right
        lines[at:at] = [f"    {remark}" for remark in grade.remarks]
    return "\n".join(lines)


def rescore(grades: Sequence[Grade], places: Places) -> None:
    """Measure the numbers again from the runs' weights; one that is off does not compare."""
    for grade in grades:
        if grade.run is None:
            continue
        try:
            grade.again = measure_again(grade.run, grade.row, places)
            grade.note = str(grade.again)
            if grade.again.off > OFF:  # the log says something else than the weights
                grade.reasons.append(grade.note)
        except NotMeasured as error:
            grade.note = str(error)


def as_json(grades: list[Grade]) -> str:
    """The rows for programs."""
    return json.dumps(
        [
            {
                "question": grade.question.number,
                "title": grade.question.title,
                "run": str(grade.run.folder) if grade.run else None,
                "measured": grade.measured,
                "metric": grade.metric if grade.run else None,
                "done": grade.run.steps if grade.run else 0,
                "dataset": grade.run.config["dataset"] if grade.run else None,
                "images": grade.run.config["images"] if grade.run else None,
                "features": grade.row.get("features"),
                "reference": grade.question.reference or None,
                "reports_best": grade.question.reports_best,
                "verdict": grade.verdict,
                "reasons": grade.reasons,
                "measured_again": grade.again.now if grade.again else None,
            }
            for grade in grades
        ],
        indent=2,
    )


def get_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument(
        "folders",
        nargs="*",
        type=some_path,
        metavar="RUN_DIR",
        help="run folders, or folders of them (report/runs)",
    )
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        type=some_path,
        help="a class: a line a student and question (- for the terminal)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the --csv that an earlier call has begun"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the list at --csv")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 also where no number compares"
    )
    parser.add_argument(
        "--check", action="store_true", help="try the code there, too, with check.py (it is run)"
    )
    parser.add_argument(
        "--rescore",
        action="store_true",
        help="measure again from generator.pt and model.pt, where they and the data are there",
    )
    for name, what in (
        ("birds", "folder of the 32x32 birds"),
        ("cifar10", "folder of CIFAR-10"),
        ("fid", "TorchScript file of features that are not Inception's: a program, which is run"),
        ("inception_weights", "folder that holds inception-2015-12-05.pt"),
    ):
        parser.add_argument(f"--{name}", metavar="PATH", help=f"for --rescore: {what}")
    args = parser.parse_args(argv)
    if args.csv and args.csv != "-" and not Path(args.csv).absolute().parent.is_dir():
        parser.error(f"--csv: no folder {Path(args.csv).parent}; make it, or give another file")
    if args.resume and args.csv in (None, "-"):
        parser.error("--resume goes with --csv FILE")
    if args.json and args.csv:
        parser.error("--json and --csv exclude each other")
    if args.check and args.json:
        parser.error("--check goes with the table or --csv; for JSON: check.py HANDIN --json FILE")
    if args.csv and Path(args.csv).is_dir():
        parser.error(f"--csv: {args.csv} is a folder, expected a file")
    if args.csv and args.csv != "-":
        check_list(parser, args)
    named = args.folders
    args.folders = [path for path in named if not Path(path).is_file()]  # of vae/data/*, say
    if named and not args.folders:
        parser.error(f"{named[0]} is a file, expected a folder of runs")
    for name in ("birds", "cifar10", "fid", "inception_weights"):
        place = getattr(args, name)
        if place and not args.rescore:
            parser.error(f"--{name} goes with --rescore")
        if place and not Path(place).exists():
            parser.error(f"--{name}: {place} does not exist")
    return args


def check_list(parser: OneLineParser, args: argparse.Namespace) -> None:
    """End the program where the list at --csv would be lost, or cannot be written."""
    path = Path(args.csv)
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        parser.error(f"--csv: {path} cannot be written; give another file")
    if path.exists():
        with contextlib.suppress(OSError, ValueError):
            if path.read_text(encoding="utf-8-sig").startswith("student,question,"):
                if not (args.resume or args.overwrite):
                    parser.error(
                        f"--csv: {path} exists; give --resume, --overwrite or another file"
                    )
                return
        parser.error(f"--csv: {path} is no list of this program; give another file")


def read_all(given: Sequence[str], runs_needed: bool) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs, and (folder, reason) of those that cannot be read, each of them told."""
    runs: list[Run] = []  # a damaged one costs its own row alone
    broken: list[tuple[Path, str]] = []
    try:
        folders = find_runs(given or [RUNS])
    except RunError:
        if runs_needed or not all(map(os.path.isdir, given)):
            raise
        folders = []
    for path in given:
        if not any(folder.is_relative_to(path) for folder in folders):
            print(f"grade.py: no run in {path}", file=sys.stderr)
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except RunError as error:
            print(f"grade.py: error: {error}", file=sys.stderr)
            broken.append((folder, str(error)))
    return runs, broken


def class_rows(
    args: argparse.Namespace, runs: list[Run], broken: list, zips: list[str], places: Places | None
) -> Iterator[list[dict]]:
    """The rows of each student, those that --resume finds in the list as they are."""
    links = [path for path, _ in broken if path.is_symlink()]  # to nothing
    # Zips were unpacked to a place of their own; links lead where they lead.
    students = [*hand_ins(args.folders or [str(RUNS)]), *map(Path, zips), *links]
    whose = {folder: student_of(folder, students) for folder in [r.folder for r in runs]}
    whose |= {folder: student_of(folder, students) for folder, _ in broken}
    names = names_of(sorted({*students, *whose.values()}))
    same = copies(runs)
    copied = {run: {names[whose[r.folder]] for r in others} for run, others in same.items()}
    done = read_csv(Path(args.csv)) if args.resume else {}
    pool = Pool() if args.check else None
    for student, name in sorted(names.items(), key=lambda pair: pair[1]):
        if name in done:  # a student is in the list with all rows or none
            yield done[name]
            continue
        grades = grade_all([run for run in runs if whose[run.folder] == student])
        if places:
            rescore(grades, places)
        told = [(path, why) for path, why in broken if whose[path] == student]
        code = next((rows for _, rows in code_of([student], pool)), [])
        yield rows_of_student((student, name), grades, told, code, copied)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = get_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a name that is no Unicode is shown with its bytes
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with tempfile.TemporaryDirectory() as cache:
        roots = args.folders or [str(RUNS)]
        zips, damaged = unpacked(roots, Path(cache, "zips")) if args.csv else ([], [])
        try:
            runs, broken = read_all([*roots, *zips], runs_needed=not (args.check or zips))
        except RunError as error:
            print(f"grade.py: error: {error}", file=sys.stderr)
            return 2
        broken += damaged
        named = (args.birds, args.cifar10, args.fid, args.inception_weights)
        places = Places(Path(cache), *named) if args.rescore else None
        slips = False
        if args.csv:
            rows: list[dict] = []
            for more in class_rows(args, runs, broken, zips, places):
                rows += more
                if args.csv != "-":  # after each student: a kill costs one of them
                    write_csv(Path(args.csv), rows)
            verdicts = {row["verdict"] for row in rows if row.get("title") != CODE}
            slips = any(r["verdict"] == "wrong" for r in rows if r.get("title") == CODE)
            print(as_csv(rows) if args.csv == "-" else summary(rows))
        else:
            grades = grade_all(runs)
            if places:
                rescore(grades, places)
            verdicts = {grade.verdict for grade in grades}
            pool = Pool() if args.check else None
            code = dict(code_of(hand_ins(roots), pool))
            slips = any(row["verdict"] == "wrong" for rows in code.values() for row in rows)
            print(as_json(grades) if args.json else as_table(grades))
            print(code_table(code), end="")
    asked = QUESTIONS + NEIGHBOURS
    others = [run.name for run in runs if not any(asks_for(question, run) for question in asked)]
    if others:
        print(f"read, but no question asks for them: {', '.join(others)}", file=sys.stderr)
    if broken:
        return 2
    compared = verdicts & {"met", "not met"}  # none in a class of short runs
    return int("not met" in verdicts or slips or (args.strict and not compared))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print("grade.py: stopped; what was written is whole", file=sys.stderr)
        end_all()
        os._exit(128 + (error.args or (signal.SIGINT,))[0])  # whatever threads are at work
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
