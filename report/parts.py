"""The parts of report.md and README.md that come from runs: tables and pictures, as Markdown."""

import io
import os
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, MaxNLocator
from questions import NEIGHBOURS, QUESTIONS, Question, asks_for, describe, grade, grade_all
from run_folder import OF_THE_ASSIGNMENT, Run, numbered, read_samplers, read_score

matplotlib.rcParams["text.parse_math"] = False  # a folder's name may have dollars in it
TITLES = {q.settings.get("loss"): q.title for q in QUESTIONS + NEIGHBOURS}
# What makes two runs the same but for one setting.
SAME = {
    "gan": "loss batch_size lamb seed images dataset number_format variant num_iterations "
    "generator_every networks optimizers",
    "vae": "loss_mode beta_mode latent_size target_beta_val batch_size lr grad_clip seed images "
    "dataset number_format flows free_bits network anneal_steps cycles ratio num_epochs",
}
# Settings that matter to these schedules of beta alone.
SCHEDULES = {"anneal_steps": ["anneal"], "cycles": ["cyclical"], "ratio": ["cyclical"]}
SCHEDULES |= {"num_epochs": ["linear", "cyclical"]}
RECONS = "{title}: images (orange frames), each with its reconstruction, epoch {number}"
SAMPLES = "{title}: samples, epoch {number}"
EPOCHS = (0, 4, 9, 14, 19)
SHOWN = {"score": "{:,.2f}", "kid": "{:.4f}", "saturated": "{:.2%}"}  # of samplers.csv
# Reconstruction and KL loss at epoch 19 in reports 000, 001 and 002, in their order; where they
# have none, what other public answers have: loss mode, latent size, beta mode, beta -> numbers.
PUBLISHED = {
    ("ae", 16, "constant", 1): "202-206",
    ("ae", 128, "constant", 1): "54-58",
    ("ae", 1024, "constant", 1): "25-31",
    ("vae", 16, "constant", 1): "211.7; KL 31.0",
    ("vae", 128, "constant", 1): "120.4; KL 68.9",
    ("vae", 1024, "constant", 1): "137.28, 136.56, 135.35; KL 60.58, 60.67",
    ("vae", 1024, "constant", 0.8): "125.14, 125.86, 125.86; KL 70.37",
    ("vae", 1024, "constant", 1.2): "148.77, 148.81, 147.32; KL 52.77",
    ("vae", 1024, "linear", 1): "123.44, 124.26, 119.43; KL 68.69",
}
BEST = "generator_best"  # weights of the best score in a log
Named = dict[str, Run]  # title -> run
Curves = dict[str, dict]  # label -> {step: value}
Picture = tuple[str, Path]  # caption, file


def table(header: Sequence, rows: Sequence) -> str:
    """A Markdown table, short rows filled up with empty cells; empty where there is no row."""
    lines = [header, ["---"] * len(header), *rows]
    lines = [[*row, *[""] * (len(header) - len(row))] for row in lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines) if rows else ""


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def spread(values: Sequence[float]) -> str:
    """Mean and, of several values, their standard deviation (that of a sample)."""
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def quality_of(row: dict) -> tuple[str, str, str]:
    """KID, precision and recall as they are written."""
    kid = f"{row['kid']:.4f} ± {row['kid_std']:.4f}"
    return kid, f"{row['precision']:.3f}", f"{row['recall']:.4f}"


def scores(named: Named) -> Curves:
    """The curves of runs that were scored."""
    return {title: run.score_curve()[0] for title, run in named.items()}


def score_table(curves: Curves) -> str:
    """A row for every fifth thousand, and where several of the runs were scored."""
    every = list(curves.values())
    steps = sorted({n for curve in every for n in curve})  # runs log at other periods
    steps = [n for n in steps if n % 5000 == 0 or sum(n in curve for curve in every) > 1]
    short = lambda score: f"{score:,.{0 if abs(score) >= 100 else 1}f}"  # noqa: E731
    cells = lambda n: (short(curve[n]) if n in curve else "" for curve in every)  # noqa: E731
    rows = [[f"{n:,}", *cells(n)] for n in steps]
    return table(["iterations", *curves], rows)


def settings_but(name: str, run: Run) -> tuple:
    """What else makes two runs of a kind the same; settings of another schedule of beta do not."""
    mode = run.config.get("beta_mode")
    # A constant beta has an anneal_steps in its config, too, which means nothing there.
    names = [k for k in SAME.get(run.kind, "").split() if mode in SCHEDULES.get(k, [mode])]
    values = (run.config.get(key) for key in names if key != name)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, those together that differ in their seed alone; the first of each seed."""
    groups: dict[tuple, dict[int, Run]] = {}
    for run in runs:
        same = run.kind, run.steps, settings_but("seed", run)
        groups.setdefault(same, {}).setdefault(run.config["seed"], run)  # one of each seed
    return [list(group.values()) for group in groups.values()]


def same_measure(named: Named) -> list[tuple[str, Named]]:
    """What was measured, and the runs that were: only scores of one kind, on one data, compare."""
    groups: dict[tuple, Named] = {}
    for title, run in named.items():
        curve, measure = run.score_curve()
        if curve:
            # The last row stands for the curve: score_curve keeps what compares with it.
            row, data = run.scored[-1], [run.config.get(k) for k in ("dataset", "images", "data")]
            groups.setdefault((measure, row["features"], row["fid_mode"], *data), {})[title] = run
    return [(measure, group) for (measure, *_), group in groups.items()]


def last_pictures(runs: Named, pattern: str, caption: str) -> Iterator[Picture]:
    """The last picture of a kind of each run; `caption` takes title and number."""
    for title, run in runs.items():
        for number, path in numbered(run.folder, pattern)[-1:]:
            yield caption.format(title=title, number=f"{number:,}"), path


class Parts:
    """What the runs have to say; each public method is a part.

    Pictures and links are relative to `out`. Curves are drawn into `figures`, path -> PNG bytes;
    whoever writes the text writes them too. Runs without a log line are left out. A part that has
    no run is empty, and `missing` has the command for it.
    """

    def __init__(self, runs: Sequence[Run], out: Path):
        # A student's own loss answers no question, and has other columns.
        own = [run for run in runs if run.config.get("loss_mode", "ae") not in ("ae", "vae")]
        self.runs, self.out = [run for run in runs if run.log and run not in own], out
        self.figures: dict[Path, bytes] = {}
        self.missing: dict[str, str] = {}
        self.grades = grade_all(self.runs)
        # Of several that answer a question, the lowest seed, of that the longest, of these the
        # first by name: the best would be a choice.
        self.ranked = sorted(self.runs, key=lambda run: (run.config["seed"], -run.steps))
        rank = {run.folder: n for n, run in enumerate(self.ranked)}
        last_wins = sorted(self.grades, key=lambda g: -rank[g.run.folder] if g.run else 0)
        self.run_for = {f"{g.question.number} {g.question.title}": g.run for g in last_wins}

    # --------------------------------------------------------------------------------------------
    # Curves and pictures

    def row(self, *pictures: Picture, most: int = 2) -> str:
        """Pictures side by side, `most` a row: so large that a bird can be seen."""
        rows = []
        for few in (pictures[at : at + most] for at in range(0, len(pictures), most)):
            paths = [os.path.relpath(path, self.out).replace("\\", "/") for _, path in few]
            # Markdown ends a plain path at a space.
            paths = [f"<{path}>" if re.search(r"[\s()]", path) else path for path in paths]
            cells = [f"![{c}]({path})" for (c, _), path in zip(few, paths, strict=True)]
            rows.append(table([caption for caption, _ in few], [cells]))
        return paragraphs(*rows)

    def curves(
        self, name: str, curves: Curves, xlabel: str, ylabel: str, limit: float | None = None
    ) -> Path:
        """Draw them to figures/NAME.png; `limit` is the handout's number."""
        size = 4.2, 3.4 if len(curves) > 3 else 2.7
        figure, axes = plt.subplots(figsize=size, dpi=150, layout="constrained")
        for label, curve in curves.items():
            marker = "." if len(curve) < 50 else None
            axes.plot([*curve], [*curve.values()], marker=marker, label=label)
        if limit is not None:
            axes.axhline(limit, color="grey", linestyle="--", label=f"handout: {limit}")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        drawn = [value for curve in curves.values() for value in curve.values()]
        # Else the first points would press the rest onto the axis.
        if drawn and min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            axes.set(yscale="log", ylabel=f"{ylabel} (log scale)")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5]))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}" if v == int(v) else f"{v:,g}")
        axes.grid(alpha=0.3)
        if len(curves) > 3:
            figure.legend(loc="outside lower center", ncols=2, fontsize="small")
        elif len(curves) > 1 or limit is not None:
            axes.legend()
        picture, path = io.BytesIO(), self.out / "figures" / f"{name}.png"
        # Without matplotlib's version: the same runs give the same bytes.
        figure.savefig(picture, format="png", metadata={"Software": None})
        plt.close(figure)
        self.figures[path] = picture.getvalue()
        return path

    def score_curves(self, name: str, curves: Curves, measure: str) -> Path:
        """Scores against iterations."""
        short = re.sub(r" \(.*?\),", ",", measure)  # the features stand in the caption
        return self.curves(name, curves, "iterations", short)

    def loss_curves(
        self, number: str, subject: str, runs: Named, limit: float | None = None
    ) -> Iterator[Picture]:
        """Validation losses of runs: reconstruction and, for VAEs, KL."""
        terms = {"recon": ("reconstruction loss", "squared error per image", limit)}
        if all(run.config["loss_mode"] == "vae" for run in runs.values()):
            terms["kl"] = ("KL loss", "nats per image", None)
        for term, (caption, unit, line) in terms.items():
            lines = {title: run.column(f"val_{term}_loss") for title, run in runs.items()}
            path = self.curves(f"{number}_{term}", lines, "epochs", unit, line)
            yield f"{subject}: {caption} (validation)", path

    # --------------------------------------------------------------------------------------------
    # All questions

    def results(self) -> str:
        """One row a question, over all runs that compare; below, why numbers do not, once each."""
        rows = []
        why: dict[str, list[str]] = {}
        for question in QUESTIONS:
            answers = [one for one in self.grades if one.question is question]
            of = {one.run.folder: one for one in answers if one.run}
            found = seeds([run for run in self.runs if run.folder in of])
            groups = [[of[run.folder] for run in runs] for runs in found]
            for grades in groups or [answers]:
                title, name, measured, done, data, handout, best, verdict = describe(grades[0])
                title += f" (`{name}`)" if len(groups) > 1 else ""
                good = "met"
                if question.band:  # stands for the handout's number, which there is none of
                    best, good = "{}-{}".format(*question.band), "within"
                    words = (word for word in ("within", "outside") if word in verdict)
                    verdict = next(words, verdict)
                if len(grades) > 1:
                    measured = f"{grades[0].metric} {spread([one.measured for one in grades])}"
                    done = f"{len(grades)} runs of {done}"
                    count = sum(one.verdict == "met" or "within" in one.verdict for one in grades)
                    verdict = f"{'all' if count == len(grades) else count} {good}"
                measured = re.sub(r" \(.*\)", "", measured)  # the features' file is in a note
                rows.append([title, measured, done, data, handout, best, verdict])
                if grades[0].reasons:
                    why.setdefault("; ".join(grades[0].reasons), []).append(title)
        header = ["question", "measured", "done", "data, images", "handout", "reports", "verdict"]
        notes = [f"- {', '.join(them)}: not comparable: {reason}." for reason, them in why.items()]
        return paragraphs(table(header, rows), "\n".join(notes))

    def overview(self) -> str:
        """What the best of the models draw, in a row."""
        wanted = (
            ("WGAN-GP: samples", "1.5 WGAN-GP", "samples_*.png"),
            ("VAE: images (orange frames) and reconstructions", "2.2 VAE", "epoch_*_recons.png"),
            ("VAE, linear beta: samples", "2.3.2 VAE, linear beta", "epoch_*_samples.png"),
        )
        runs = [(caption, self.run_for[question], kind) for caption, question, kind in wanted]
        return self.row(
            *(p for c, run, kind in runs if run for p in last_pictures({"": run}, kind, c))
        )

    # --------------------------------------------------------------------------------------------
    # Task 1

    def gan(self, question: str, command: str = "") -> str:
        """Score, curves, samples and interpolations of a GAN run."""
        run = self.run_for.get(question)
        number, title = question.split(" ", 1)
        if run is None:
            self.missing |= {number: command} if command else {}
            return ""
        curve, measure = run.score_curve()
        words, pictures, named = "", [], {run.name: run}
        if run.scored:
            last = run.scored[-1]
            words = (
                f"Run `{run.name}`: {run.steps:,} iterations of batch {run.config['batch_size']} "
                f"on {run.config['images']:,} images. "
                f"{last['score_name']} with {last['num_gen']:,} samples: **{last['score']:,.2f}** "
                f"after {last['iteration']:,} iterations"
            )
            if curve:
                best = min(curve, key=curve.__getitem__)
                words += f"; the best of the curve is {curve[best]:,.2f}, at iteration {best:,}"
                caption = f"{title}: {last['score_name'].split()[0]} against iterations"
                path = self.score_curves(f"{number}_score", {run.name: curve}, measure)
                pictures.append((caption, path))
            words += "."
            if "precision" in last:
                words += " KID {}, precision {}, recall {}.".format(*quality_of(last))
        lines = {part: run.column(f"{part}_loss") for part in ("discriminator", "generator")}
        path = self.curves(f"{number}_losses", lines, "iterations", "loss")
        pictures.append((f"{title}: mean losses since the last point", path))
        around = f"{title}: interpolation around a sample"
        kinds = {
            "samples_*.png": f"{title}: 100 samples after {{number}} iterations",
            "interpolations_*.png": f"{title}: interpolation around 0",
            "around_a_sample_*.png": around,
            "between_samples_*.png": f"{title}: between four samples",
        }
        drawn = [p for kind in kinds.items() for p in last_pictures(named, *kind)]
        evaluated = run.folder / "generator_around_a_sample.png"
        if evaluated.exists() and len(drawn) < 3:
            drawn.append((around, evaluated))
        return paragraphs(words, self.row(*pictures), self.row(*drawn))

    def compared(self) -> list[tuple[str, Named]]:
        """The questions' GAN runs that were scored alike; where batches differ, of each size one.

        A size that one loss alone has is left out, if that loss has another that compares.
        """
        of_size: dict[int, Named] = {}
        for question in QUESTIONS:
            for run in self.ranked:
                if run.kind == "gan" and asks_for(question, run):
                    of_size.setdefault(run.config["batch_size"], {}).setdefault(question.title, run)
        common = {title for runs in of_size.values() if len(runs) > 1 for title in runs}
        shown = [n for n, runs in sorted(of_size.items()) if len(runs) > 1 or not common & {*runs}]
        named = {
            f"{title}, batch {size}" if len(shown) > 1 else title: run
            for size in shown
            for title, run in of_size[size].items()
        }
        return [(measure, group) for measure, group in same_measure(named) if len(group) > 1]

    def comparison(self) -> str:
        """The scores of the three questions' runs: curves and table."""
        parts = []
        for number, (measure, group) in enumerate(self.compared()):
            path = self.score_curves(f"gan_scores{number or ''}", scores(group), measure)
            caption = f"{'; '.join(group)}: {measure}, against iterations"
            parts += [self.row((caption, path)), score_table(scores(group))]
        return paragraphs(*parts)

    def gan_scores(self) -> str:
        """What a reader compares, for the README."""
        return paragraphs(*(score_table(scores(group)) for _, group in self.compared()))

    def quality(self) -> str:
        """Score, KID, precision and recall of each loss and batch size, at equal lengths if it can.

        Of the runs that have all of these; where none are as long as another, the longest.
        """
        ours = OF_THE_ASSIGNMENT["gan"] | {"variant": None}
        of_kind = [run for run in self.runs if run.kind == "gan" and run.scored]
        of_kind = [run for run in of_kind if "precision" in run.scored[-1]]
        runs = {r.name: r for r in of_kind if all(r.config.get(k) == v for k, v in ours.items())}
        parts = []
        for _, group in same_measure(runs):
            of_size: dict[int, dict[str, dict[int, Run]]] = {}
            for run in group.values():
                lengths = of_size.setdefault(run.config["batch_size"], {})
                title = TITLES.get(run.config["loss"], run.config["loss"])
                lengths.setdefault(title, {}).setdefault(run.scored[-1]["iteration"], run)
            several = [size for size, lengths in of_size.items() if len(lengths) > 1]
            rows, named = [], {}
            for batch in sorted(several or of_size):
                # A loss trained longer would win by that alone.
                common = set.intersection(*map(set, of_size[batch].values()))
                for title, found in sorted(of_size[batch].items()):
                    run = found[max(common or found)]
                    end = run.scored[-1]
                    row = [title, f"`{run.name}`", f"{end['iteration']:,}", batch]
                    rows.append([*row, f"{end['score']:,.2f}", *quality_of(end)])
                    if run not in self.run_for.values():  # whose samples stand with its question
                        named[f"{title}, batch {batch}"] = run
            header = ["loss", "run", "iterations", "batch", end["score_name"].split()[0]]
            samples = "{title}: 100 samples after {number} iterations"
            parts += [
                f"{end['score_name']}, KID, precision and recall of {end['num_gen']:,} samples:",
                table([*header, "KID", "precision", "recall"], rows),
                self.row(*last_pictures(named, "samples_*.png", samples), most=3),
            ]
        return paragraphs(*parts)

    def pairs(self, kind: str, key: str) -> list[list[Run]]:
        """Lists of runs with the same settings but for `key`; of equal ones the longest."""
        groups: dict = {}
        for run in sorted(self.runs, key=lambda run: -run.steps):  # the longest comes first
            if run.kind == kind:
                groups.setdefault(settings_but(key, run), {}).setdefault(run.config.get(key), run)
        return [list(group.values()) for group in groups.values() if len(group) > 1]

    def gan_pairs(self, key: str, pattern: str = "") -> str:
        """A table for each set of runs that differ in `key` alone, and pictures of a kind."""
        parts, words = [], key.replace("_", " ")
        for runs in self.pairs("gan", key):
            named = {}
            for run in runs:
                own = (
                    f"{words} {run.config[key]}" if key in run.config else "as the assignment says"
                )
                named[f"{TITLES.get(run.config['loss'], run.config['loss'])}, {own}"] = run
            for _, group in same_measure(named):
                if len(group) > 1:
                    shown = last_pictures(group, pattern, "{title}: samples, {number} iterations")
                    parts += [score_table(scores(group)), self.row(*(shown if pattern else ()))]
        return paragraphs(*parts)

    def statistics(self) -> str:
        """Scores of a generator with batch and with running statistics, left by `--evaluate`."""
        rows = []
        for run, name in ((run, name) for run in self.runs for name in ("generator", BEST)):
            # Of the weights that were kept: a score in the log may be of others.
            paths = [run.folder / f"{name}_score_{mode}.json" for mode in ("train", "eval")]
            if all(path.exists() for path in paths):
                (train, measure), (running, same) = map(read_score, paths)
                if measure == same:  # the same samples and network
                    curve = run.score_curve()[0]
                    best = min(curve, key=curve.__getitem__, default=run.steps)
                    step = best if name == BEST else run.steps
                    row = [f"`{run.name}`", f"{step:,}", measure]
                    rows.append([*row, f"{train:.2f}", f"{running:.2f}"])
        header = ["run", "iterations", "score", "batch statistics", "running statistics"]
        return table(header, rows)

    def average(self) -> str:
        """Scores of generators and of the averages of their weights; pictures of the longest."""
        averaged = [run for run in self.runs if run.score_curve("score_ema")[0]]
        averaged.sort(key=lambda run: run.steps)  # of one made again longer, that one
        same = {(settings_but("num_iterations", r), r.config.get("ema")): r for r in averaged}
        names = [run.name for run in same.values()]
        above = lambda run: "" if names.count(run.name) == 1 else f"{run.folder.parent.name}/"  # noqa: E731
        named = {f"{above(run)}{run.name}": run for run in same.values()}
        row = []
        for number, (measure, group) in enumerate(same_measure(named)):
            found = {
                f"{part}, {title}": run.score_curve(key)[0]
                for title, run in group.items()
                for part, key in (("generator", "score"), ("average", "score_ema"))
            }
            titles = ", ".join(f"`{title}`" for title in group)
            path = self.score_curves(f"averages{number or ''}", found, measure)
            row.append((f"{titles}: generators and averages", path))
        longest = {run.name: run for run in averaged[-1:]}  # one pair of pictures will do
        for part, pattern in (("generator", "samples_*.png"), ("average", "samples_ema_*.png")):
            row += last_pictures(longest, pattern, f"`{{title}}`: {part}, iteration {{number}}")
        return self.row(*row)

    # --------------------------------------------------------------------------------------------
    # Task 2

    def vae(
        self, questions: list[str], kinds: str, presets: str, limit: float | None = None
    ) -> str:
        """Losses, their curves, and the last pictures of each kind."""
        number = questions[0].split()[0]
        answers = {question: self.run_for[question] for question in questions}
        runs = {question.split(" ", 1)[1]: run for question, run in answers.items() if run}
        if not any(run for question, run in answers.items() if question.startswith(number)):
            self.missing[number] = f"python vae/train.py {presets}"
            return ""
        rows = []
        for title, run in runs.items():
            mates = seeds([run, *self.runs])[0]  # it first: of its seed there may be more
            title += f" ({len(mates)} seeds)" if len(mates) > 1 else ""
            rows.append([title, end_of(run)["epoch"], *losses([*map(end_of, mates)])])
        header = ["run", "epoch", "reconstruction", "KL", "sum"][: max(map(len, rows))]
        subject = (" and " if len(runs) < 3 else "; ").join(runs)
        recons, samples = (runs if kind in kinds else {} for kind in ("recons", "samples"))
        return paragraphs(
            table(header, rows),
            self.row(*self.loss_curves(number, subject, runs, limit)),
            self.row(*last_pictures(recons, "epoch_*_recons.png", RECONS), most=1),  # of 12 x 6
            self.row(*last_pictures(samples, "epoch_*_samples.png", SAMPLES)),
        )

    def vae_all(self) -> str:
        """The assignment's VAEs, runs that differ in their seed in one row, and the references."""
        ours = OF_THE_ASSIGNMENT["vae"].items()
        of_kind = [run for run in self.runs if run.kind == "vae"]
        chosen = [run for run in of_kind if all(run.config[key] == value for key, value in ours)]
        chosen = [run for run in chosen if run.config["beta_mode"] in ("constant", "linear")]
        chosen.sort(key=order_of)
        formats = [run.config["number_format"] for run in chosen]
        usual = max(formats, key=formats.count, default="")  # the others stand under "formats"
        rows = []
        for runs in seeds([run for run in chosen if run.config["number_format"] == usual]):
            first, last = runs[0], end_of(runs[0])
            name = f"`{first.name}`" + (f" x{len(runs)}" if len(runs) > 1 else "")
            name += "" if last["epoch"] == 19 else f", epoch {last['epoch']}"
            row = [name, *losses([*map(end_of, runs)])[:2]]
            row += [""] * (3 - len(row))  # an autoencoder has no KL
            if not grade(Question("", "", {}), first).reasons:  # beside others they mislead
                asked = [g.question.reference for g in self.grades if g.run is first]
                row += [*[*asked, ""][:1], PUBLISHED.get(order_of(first)[:4], "")]
            rows.append(row)
        return table(["run", "recon", "KL", "handout", "elsewhere"], rows)

    def formats(self) -> str:
        """float32 and bfloat16 with the same seed."""
        parts = []
        for runs in self.pairs("vae", "number_format"):
            named, name = {run.config["number_format"]: run for run in runs}, runs[0].name
            rows = []
            for title, run in named.items():
                for term, words in (("recon", "reconstruction"), ("kl", "KL")):
                    if values := run.column(f"val_{term}_loss"):
                        cells = [f"{values[n]:.2f}" if n in values else "" for n in EPOCHS]
                        rows.append([title, words, *cells])
            header = [f"`{name}`", "loss", *(f"epoch {epoch}" for epoch in EPOCHS)]
            parts.append(table(header, rows))
        return paragraphs(*parts)

    # --------------------------------------------------------------------------------------------
    # Neighbours of the assignment

    def neighbours(self) -> str:
        """The VAEs with 128 latents, and the small autoencoder, at their last epoch.

        -(reconstruction + KL) is the ELBO for p(x | z) = N(decoder(z), I / 2) without its constant,
        -3072 / 2 * log(pi) = -1758.3 nats.
        """
        titles = {one.run.folder: one.question.title for one in self.grades if one.run}
        rows, named = [], {}
        for run in self.runs:
            kind = run.config.get("latent_size"), run.config.get("loss_mode")
            if kind != (128, "vae") and run.config.get("network", "assignment") == "assignment":
                continue
            title = titles.get(run.folder, run.name)
            title = run.name if title in named else title
            recon, *more = losses([run.rows[-1]])
            row = [title, f"`{run.name}`", run.steps, recon]
            if more:
                named[title] = run
                row += [more[0], f"-{more[1]}", *[*run.column("active_latents").values()][-1:]]
            rows.append(row)
        header = ["model", "run", "epochs", "reconstruction", "KL", "ELBO + constant"]
        return paragraphs(
            table([*header, "active latents"], rows),
            self.row(*self.loss_curves("neighbours", "128 latents", named)) if named else "",
            self.row(*last_pictures(named, "epoch_*_samples.png", SAMPLES)),
        )

    def ddpm(self) -> str:
        """Losses and samples of the diffusion models, and their samplers' scores (samplers.csv)."""
        found = {kind: self.run_for.get(f"more DDPM, {kind}") for kind in ("v", "noise")}
        runs = {kind: run for kind, run in found.items() if run}
        named = {run.name: run for run in runs.values()}
        pictures: list[Picture] = []
        for kind, run in [*runs.items()][:1]:  # there is room for one
            lines = {part: run.column(f"{part}_loss") for part in ("train", "val")}
            unit = f"squared error of {kind} per pixel"
            path = self.curves(f"ddpm_{kind}_loss", lines, "epochs", unit)
            pictures.append((f"Loss of `{run.name}`", path))
        caption = "`{title}`: 49 samples (DDIM, 50 steps), epoch {number}"
        pictures += last_pictures(named, "epoch_*_samples.png", caption)
        return paragraphs(sampler_table([*runs.values()]), self.row(*pictures))


def end_of(run: Run) -> dict:
    """The row of epoch 19, where there is one, else the last."""
    return grade(Question("", "", {}), run).row


def losses(ends: Sequence[dict]) -> list[str]:
    """Reconstruction and, of VAEs, KL and their sum, over rows of as many runs."""
    terms = [f"val_{term}_loss" for term in ("recon", "kl") if f"val_{term}_loss" in ends[0]]
    found = [[end[term] for end in ends] for term in terms]
    return [
        *map(spread, found),
        *(spread([*map(sum, zip(*found, strict=True))]) for _ in terms[1:]),
    ]


def order_of(run: Run) -> tuple:
    """How the assignment's VAEs are listed."""
    config = run.config
    beta = config["target_beta_val"] if config["loss_mode"] == "vae" else 1
    return config["loss_mode"], config["latent_size"], config["beta_mode"], beta, run.name


def sampler_table(runs: list[Run]) -> str:
    """Scores of each sampler, a column a run; as many images stand together: they compare."""
    names: dict[str, None] = {}  # in the order in which they come; older files lack some
    found: dict[tuple, dict[str, str]] = {}
    for run in runs:
        path = run.folder / "samplers.csv"
        for row in read_samplers(path) if path.exists() else ():
            first = -row["images"], row["sampler"] != "training images", row["sampler"]
            cells = found.setdefault((*first, row["until"], row["steps"], row["eta"]), {})
            words = {"score": row["score_name"].split()[0], "kid": "KID"}
            for key in (key for key in SHOWN if key in row):
                cells[f"{words.get(key, key)}, `{run.name}`"] = SHOWN[key].format(row[key])
            names |= dict.fromkeys(cells)
    # Many images first, the data before the samplers, few steps before many.
    lines = [
        [f"{-images:,}", sampler, *((until, f"{steps:,}", f"{eta:g}") if steps else [""] * 3)]
        + [cells.get(name, "") for name in names]
        for (images, _, sampler, until, steps, eta), cells in sorted(found.items())
    ]
    return table(["images", "sampler", "until", "steps", "eta", *names], lines)


VAE_1024 = "vae_latent1024"
AES = ["2.1 AE, 16 latents", "2.1 AE, 128 latents", "2.1 AE, 1024 latents"]
BETAS = ["2.3.1 beta-VAE, 0.8", "2.2 VAE", "2.3.1 beta-VAE, 1.2"]
LINEAR = ["2.3.2 VAE, linear beta", "2.2 VAE"]
OF_BETAS = f"{VAE_1024} {VAE_1024}_beta_constant0.8 {VAE_1024}_beta_constant1.2"
PARTS: dict[str, Any] = {
    "results": Parts.results,
    "overview": Parts.overview,
    "1.3": lambda parts: parts.gan("1.3 GAN", "python gan/q1_3.py"),
    "1.4": lambda parts: parts.gan("1.4 LSGAN", "python gan/q1_4.py"),
    "1.5": lambda parts: parts.gan("1.5 WGAN-GP", "python gan/q1_5.py"),
    "comparison": Parts.comparison,
    "quality": Parts.quality,
    "gan scores": Parts.gan_scores,
    "2.1": lambda parts: parts.vae(AES, "recons", "ae_latent16 ae_latent128 ae_latent1024"),
    "2.2": lambda parts: parts.vae(["2.2 VAE"], "recons samples", VAE_1024, 145),
    "2.3.1": lambda parts: parts.vae(BETAS, "samples", OF_BETAS),
    "2.3.2": lambda parts: parts.vae(LINEAR, "samples", f"{VAE_1024} {VAE_1024}_beta_linear1", 125),
    "all VAE runs": Parts.vae_all,
    "formats": lambda parts: paragraphs(parts.formats(), parts.gan_pairs("number_format")),
    "statistics": Parts.statistics,
    "average": Parts.average,
    "upsampling": lambda parts: parts.gan_pairs("variant", "samples_*.png"),
    "seeds": lambda parts: parts.gan_pairs("seed"),
    "mlp gan": lambda parts: parts.gan("more MLP GAN"),
    "neighbours": Parts.neighbours,
    "ddpm": Parts.ddpm,
}
