"""Where every question of the assignment stands: what was measured, beside the reference numbers.

    python report/grade.py                                  the runs in report/runs
    python report/grade.py gan vae                          your own
    python report/grade.py CLASS --csv -                    a line for each student and question
    python report/grade.py CLASS --check --rescore          and their code tried, their weights too

A number is only called met or not met where it compares with the reference: the same data,
features, sample count, hyper-parameters and length of training. Every run that compares has a row.
A student is a folder of CLASS (or what stands above gan/ and vae/). Exit codes: 0; 1 where a
comparable number misses its reference or code is wrong, with --strict also where none compares;
2 where a folder cannot be read. --check runs the code that it is given: see check.py --help.
"""

import argparse
import csv
import functools
import hashlib
import io
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from check import SIGNS, SKIPPED, find_halves
from checks import CANNOT_RUN, NOT_THERE, PASSED, RIGHT, WRONG
from questions import NEIGHBOURS, QUESTIONS, Grade, asks_for, describe, grade_all
from recheck import OFF, NotMeasured, Places, check_code, measure_again
from run_folder import RUNS, OneLineParser, Run, RunError, find_runs, is_run, read_run, save

HERE = Path(__file__).resolve().parent


HEADER = ["question", "run", "measured", "done", "data, images", "handout", "reports", "verdict"]


def as_table(grades: list[Grade]) -> str:
    """A line a grade, and below it what keeps the number from comparing."""
    rows = [HEADER, *map(describe, grades)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    for at, grade in reversed([*enumerate(grades, start=2)]):
        lines[at:at] = [f"    {remark}" for remark in remarks(grade)]
    return "\n".join(lines)


def remarks(grade: Grade) -> list[str]:
    """What stands below a row: why its number does not compare, and what its weights give."""
    return list(dict.fromkeys([*grade.reasons, *filter(None, [grade.note])]))


def rescore(grades: Sequence[Grade], places: Places) -> None:
    """Measure the numbers again from the runs' weights; one that is off does not compare."""
    for grade in grades:
        if grade.run is None:
            continue
        try:
            grade.again = measure_again(grade.run, grade.row, places)
            grade.note = str(grade.again)
            if grade.again.off > OFF:
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


def student_of(path: Path, roots: Sequence[str]) -> Path:
    """The folder of the student whose `path` (a run, say) lies in a class, one of `roots`.

    A root may also be a student's own folder, or a half of it, or a run.
    """
    path = path.resolve()
    for root in (Path(root).resolve() for root in roots):
        if path.is_relative_to(root):
            if root == RUNS:
                return HERE.parent
            if root.name in SIGNS:
                return root.parent
            way = path.relative_to(root).parts
            return root if _is_hand_in(root) or not way else root / way[0]
    return path.parent


def hand_ins(roots: Sequence[str]) -> list[Path]:
    """The students' folders: those of a class, or the roots themselves."""
    found: list[Path] = []
    for root in (Path(root).resolve() for root in roots):
        if root == RUNS or root.name in SIGNS or _is_hand_in(root):
            found.append(student_of(root, [str(root)]))
        else:
            below = [p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."]
            found += [path for path in below if path.name not in SKIPPED]
    return list(dict.fromkeys(found))


@functools.cache
def _is_hand_in(root: Path) -> bool:
    """Whether a folder is one student's, not a class."""
    halves = any((root / half).is_dir() for half in SIGNS)
    return halves or is_run(root) or root in find_halves(root).values()


def names_of(folders: Iterable[Path]) -> dict[Path, str]:
    """What students are called: as their folder, with the one above it where two share a name."""
    folders = list(dict.fromkeys(folders))
    often = Counter(folder.name for folder in folders)
    return {
        folder: folder.name if often[folder.name] == 1 else f"{folder.parent.name}/{folder.name}"
        for folder in folders
    }


def copies(runs: Sequence[Run]) -> dict[Path, list[Run]]:
    """{folder: the other runs with the same metrics.csv, byte for byte}."""
    runs = [run for run in runs if run.rows]  # a header alone is everybody's
    digests = [hashlib.sha256((r.folder / "metrics.csv").read_bytes()).hexdigest() for r in runs]
    pairs = list(zip(runs, digests, strict=True))
    return {
        run.folder: [other for other, same in pairs if same == digest and other is not run]
        for run, digest in pairs
    }


CLASS_COLUMNS = ("student", "question", "title", "run", "metric", "measured", "verdict", "remarks")
CODE = "code"  # the title of the rows of check.py


def class_rows(
    runs: Sequence[Run],
    broken: Sequence[tuple[Path, str]],
    roots: Sequence[str],
    code: dict[Path, list[dict]],
    places: Places | None,
) -> list[dict]:
    """A row for each student and grade, for each question of their code, for each damaged run.

    code: {student's folder: rows of check.py}. places: measure again, with these; None: do not.
    """
    rows: list[dict] = []
    same, folders = copies(runs), [*(run.folder for run in runs), *(path for path, _ in broken)]
    whose = {folder: student_of(folder, roots) for folder in folders}
    names = names_of(sorted({*whose.values(), *code, *hand_ins(roots)}))
    for student, name in sorted(names.items(), key=lambda pair: pair[1]):
        grades = grade_all([run for run in runs if whose[run.folder] == student])
        if places:
            rescore(grades, places)
        for grade in grades:
            row = {"student": name, "verdict": grade.verdict, "remarks": "; ".join(remarks(grade))}
            row |= {"question": grade.question.number, "title": grade.question.title}
            if grade.run:
                row |= {"run": str(grade.run.folder), "metric": grade.metric}
                row["measured"] = "" if grade.measured is None else f"{grade.measured:.4f}"
                copied = same.get(grade.run.folder, [])
                others = {names[whose[run.folder]] for run in copied} - {name}
                if others:
                    told = f"the same metrics.csv as {', '.join(sorted(others))}"
                    row["remarks"] = "; ".join(filter(None, [row["remarks"], told]))
            rows.append(row)
        rows += [
            {"student": name, "run": str(path), "verdict": "damaged", "remarks": reason}
            for path, reason in broken
            if whose[path] == student
        ]
        rows += code_rows(name, code.get(student, []))
    return rows


def by_question(checked: Sequence[dict]) -> Iterator[tuple[str, str, str, list[str]]]:
    """(question, how many checks pass, the worst verdict, what fails) of rows of check.py."""
    for question in dict.fromkeys(row["question"] for row in checked):
        those = [row for row in checked if row["question"] == question]
        bad = [row for row in those if row["verdict"] not in PASSED]
        words = {row["verdict"] for row in bad}
        verdict = next((word for word in (WRONG, NOT_THERE, CANNOT_RUN) if word in words), RIGHT)
        passed = f"{len(those) - len(bad)} of {len(those)} right"
        yield question, passed, verdict, [f"{row['what']}: {row['verdict']}" for row in bad]


def code_rows(student: str, checked: Sequence[dict]) -> list[dict]:
    """A row for each question of a student's code."""
    return [
        {"student": student, "question": question, "title": CODE, "metric": "checks"}
        | {"measured": passed, "verdict": verdict, "remarks": "; ".join(bad)}
        for question, passed, verdict, bad in by_question(checked)
    ]


def code_table(code: dict[Path, list[dict]]) -> str:
    """A line for each student and question of their code, and below it what is not right."""
    lines = []
    for folder, name in names_of(code).items():
        for question, passed, verdict, bad in by_question(code[folder]):
            lines.append(f"{question} code of {name}  {passed}  {verdict}")
            lines += [f"    {remark}" for remark in bad]
    return "\n".join(["", *lines, ""]) if lines else ""


def as_csv(rows: Sequence[dict]) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CLASS_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def class_summary(rows: Sequence[dict]) -> str:
    """How many students met what, and between what their numbers lie that compare."""
    students = {row["student"] for row in rows}
    lines = [f"{len(students)} students"]
    for question in QUESTIONS:
        title = f"{question.number} {question.title}"
        # A student with several runs counts once, by the best of them.
        order = ("met", "not met", "no reference", "not comparable", "not run")
        best: dict[str, int] = {}
        for row in rows:
            if row.get("title") == question.title:
                word = next(word for word in order if row["verdict"].startswith(word))
                rank = min(order.index(word), best.get(row["student"], len(order)))
                best[row["student"]] = rank
        counts = Counter(best.values())
        shown = ", ".join(
            f"{counts[rank]} {word}" for rank, word in enumerate(order) if counts[rank]
        )
        numbers = [
            float(row["measured"])
            for row in rows
            if row.get("title") == question.title
            and row["verdict"].startswith(("met", "not met", "no reference"))
        ]
        if numbers:
            low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
            shown += f"; {low:.2f} to {high:.2f}, median {middle:.2f}"
        lines.append(f"{title:<24}  {shown}")
    code: dict[str, set[str]] = {}
    for row in rows:
        if row.get("title") == CODE:
            code.setdefault(row["student"], set()).add(row["verdict"])
    if code:
        fine = sum(verdicts == {"right"} for verdicts in code.values())
        wrong = sum("wrong" in verdicts for verdicts in code.values())
        lines.append(f"{CODE:<24}  {len(code)} checked, {fine} all right, {wrong} with a slip")
    damaged = sum(row["verdict"] == "damaged" for row in rows)
    return "\n".join([*lines, *([f"{damaged} damaged runs"] if damaged else [])])


def get_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(__doc__)
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="RUN_DIR",
        help="run folders, or folders of them (report/runs)",
    )
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument(
        "--csv", metavar="FILE", help="a class: a line a student and question (- for the terminal)"
    )
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
    if args.json and args.csv:
        parser.error("--json and --csv exclude each other")
    if args.check and args.json:
        parser.error("--check goes with the table or --csv; for JSON: check.py HANDIN --json FILE")
    if args.csv and Path(args.csv).is_dir():
        parser.error(f"--csv: {args.csv} is a folder, expected a file")
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


def read_all(given: Sequence[str], runs_needed: bool) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs, and (folder, reason) of those that cannot be read, each of them told."""
    runs: list[Run] = []
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


def try_code(roots: Sequence[str]) -> dict[Path, list[dict]]:
    """{student's folder: rows of check.py} of all that have code; half a minute each."""
    code = {}
    for folder in hand_ins(roots):
        print(f"grade.py: trying the code of {folder.name}", file=sys.stderr)
        if rows := check_code(folder):
            code[folder] = rows
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = get_args(argv)
    try:
        runs, broken = read_all(args.folders, runs_needed=not args.check)
    except RunError as error:
        print(f"grade.py: error: {error}", file=sys.stderr)
        return 2
    roots = args.folders or [str(RUNS)]
    code = try_code(roots) if args.check else {}
    with tempfile.TemporaryDirectory() as cache:
        named = (args.birds, args.cifar10, args.fid, args.inception_weights)
        places = Places(Path(cache), *named) if args.rescore else None
        if args.csv:
            rows = class_rows(runs, broken, roots, code, places)
            verdicts = {row["verdict"] for row in rows if row.get("title") != CODE}
        else:
            grades = grade_all(runs)
            if places:
                rescore(grades, places)
            verdicts = {grade.verdict for grade in grades}
    if args.csv == "-":
        print(as_csv(rows))
    elif args.csv:
        save(Path(args.csv), lambda path: path.write_text(as_csv(rows) + "\n"))
        print(class_summary(rows))
    else:
        print(as_json(grades) if args.json else as_table(grades))
        print(code_table(code), end="")
    asked = QUESTIONS + NEIGHBOURS
    others = [run.name for run in runs if not any(asks_for(question, run) for question in asked)]
    if others:
        print(f"read, but no question asks for them: {', '.join(others)}", file=sys.stderr)
    if broken:
        return 2
    slips = any(row["verdict"] == "wrong" for rows in code.values() for row in rows)
    compared = verdicts & {"met", "not met"}
    return int("not met" in verdicts or slips or (args.strict and not compared))


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
