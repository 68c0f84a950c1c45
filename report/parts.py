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
from questions import QUESTIONS, VAE_SETUP, Grade, Question, describe, grade_all, grade_vae
from run_folder import OF_THE_ASSIGNMENT, Run, numbered, read_samplers, read_score

TITLES = {"q1_3": "GAN", "q1_4": "LSGAN", "q1_5": "WGAN-GP", "mlp_gan": "MLP GAN"}
# What makes two runs the same but for one setting.
SAME = {
    "gan": (
        "loss",
        "batch_size",
        "lamb",
        "seed",
        "images",
        "dataset",
        "number_format",
        "variant",
        *OF_THE_ASSIGNMENT["gan"],
        "num_iterations",
    ),
    "vae": (
        "loss_mode",
        "beta_mode",
        "latent_size",
        "target_beta_val",
        "batch_size",
        "lr",
        "grad_clip",
        "seed",
        "images",
        "dataset",
        "number_format",
        "flows",
        "free_bits",
        "network",
        "anneal_steps",
        "cycles",
        "ratio",
        "num_epochs",
    ),
}
SCHEDULES = {  # of beta, that a setting matters to
    "anneal_steps": ("anneal",),
    "cycles": ("cyclical",),
    "ratio": ("cyclical",),
    "num_epochs": ("linear", "cyclical"),
}
KINDS = {"recons": "images (orange frames), each with its reconstruction", "samples": "samples"}
EPOCHS = (0, 4, 9, 14, 19)
SHOWN = {"score": "{:,.2f}", "kid": "{:.4f}", "saturated": "{:.2%}"}  # of samplers.csv
# Reconstruction and KL loss at epoch 19 in the three reports, in their order, or else in public
# answers: loss mode, latent size, beta mode, beta -> numbers.
PUBLISHED = {
    ("ae", 16, "constant", 1): ("202-206", ""),
    ("ae", 128, "constant", 1): ("54-58", ""),
    ("ae", 1024, "constant", 1): ("25-31", ""),
    ("vae", 16, "constant", 1): ("211.7", "31.0"),
    ("vae", 128, "constant", 1): ("120.4", "68.9"),
    ("vae", 1024, "constant", 1): ("137.28, 136.56, 135.35", "60.58, 60.67"),
    ("vae", 1024, "constant", 0.8): ("125.14, 125.86, 125.86", "70.37"),
    ("vae", 1024, "constant", 1.2): ("148.77, 148.81, 147.32", "52.77"),
    ("vae", 1024, "linear", 1): ("123.44, 124.26, 119.43", "68.69"),
}


def table(header: Sequence, rows: Sequence) -> str:
    """A Markdown table."""
    return "\n".join(
        f"| {' | '.join(map(str, row))} |" for row in [header, ["---"] * len(header), *rows]
    )


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def _thousands(value: float, _: float) -> str:
    """A tick's label."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,g}"


def spread(values: Sequence[float]) -> str:
    """Mean and, of several values, their standard deviation (that of a sample)."""
    mean = statistics.fmean(values)
    return f"{mean:.2f} ± {statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def _short(score: float) -> str:
    """A score in a long table."""
    return f"{score:,.{0 if abs(score) >= 100 else 1}f}"


def _data(run: Run) -> tuple:
    """What a run trained on, and was scored against."""
    return tuple(run.config.get(key) for key in ("dataset", "images", "data"))


def _target(path: str) -> str:
    """A path as Markdown's links have it."""
    path = path.replace("\\", "/")
    return f"<{path}>" if re.search(r"[\s()]", path) else path


def settings_but(name: str, run: Run) -> tuple:
    """What else makes two runs of a kind the same; settings of another schedule of beta do not."""
    mode = run.config.get("beta_mode")
    names = [key for key in SAME.get(run.kind, ()) if mode in SCHEDULES.get(key, (mode,))]
    values = (run.config.get(key) for key in names if key != name)
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs, those together that differ in their seed alone; the first of each seed."""
    groups: dict[tuple, dict[int, Run]] = {}
    for run in runs:
        same = run.kind, run.steps, settings_but("seed", run)
        groups.setdefault(same, {}).setdefault(run.config["seed"], run)
    return [list(group.values()) for group in groups.values()]


class Parts:
    """What the runs have to say; each public method is a part.

    Pictures and links are relative to `out`. Curves are drawn into `figures`, path -> PNG bytes;
    whoever writes the text writes them too. Runs without a log line are left out.
    """

    def __init__(self, runs: Sequence[Run], out: Path):
        runs = [run for run in runs if run.log]
        self.runs, self.out = runs, out
        self.figures: dict[Path, bytes] = {}
        self.missing: dict[str, str] = {}  # part -> the command whose run it needs
        self.grades = grade_all(runs)
        # Of several that answer a question, the lowest seed, of that the longest, of these the
        # first by name: the best would be a choice.
        rank = {run.folder: (run.config["seed"], -run.steps, n) for n, run in enumerate(runs)}
        by_seed = sorted(self.grades, key=lambda g: rank[g.run.folder] if g.run else ())
        self.run_for = {
            f"{grade_.question.number} {grade_.question.title}": grade_.run
            for grade_ in reversed(by_seed)
        }
        self.questions = [grade_ for grade_ in self.grades if grade_.question in QUESTIONS]

    def _missing(self, part: str, command: str) -> str:
        """What a part says that has no run: nothing; the command is told elsewhere."""
        self.missing[part] = command
        return ""

    # --------------------------------------------------------------------------------------------
    # Curves and pictures: (caption, path) pairs

    def _row(self, *named: Any) -> str:
        """A row of pictures."""
        cells = [
            f"![{caption}]({_target(os.path.relpath(path, self.out))})" for caption, path in named
        ]
        return table([caption for caption, _ in named], [cells]) if named else ""

    def _curves(
        self, name: str, curves: dict, xlabel: str, ylabel: str, limit: float | None = None
    ) -> Path:
        """Draw {label: (steps, values)} to figures/NAME.png; `limit` is the handout's number."""
        figure, axes = plt.subplots(figsize=(5.2, 3.4), dpi=140, layout="constrained")
        for label, (steps, values) in curves.items():
            axes.plot(steps, values, marker="." if len(steps) < 50 else None, label=label)
        if limit is not None:
            axes.axhline(limit, color="grey", linestyle="--", label=f"handout: {limit}")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        drawn = [value for _, values in curves.values() for value in values]
        if drawn and min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            axes.set(yscale="log", ylabel=f"{ylabel} (log scale)")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter(_thousands)
        axes.grid(alpha=0.3)
        if len(curves) > 1 or limit is not None:
            axes.legend()
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
        plt.close(figure)
        path = self.out / "figures" / f"{name}.png"
        self.figures[path] = picture.getvalue()
        return path

    def _loss_curves(
        self, number: str, subject: str, runs: dict[str, Run], limit: float | None = None
    ) -> Iterator[tuple[str, Path]]:
        """Validation losses of {title: run}: reconstruction and, for VAEs, KL."""
        terms = {"recon": ("reconstruction loss", "squared error per image", limit)}
        if all(run.config["loss_mode"] == "vae" for run in runs.values()):
            terms["kl"] = ("KL loss", "nats per image", None)
        for term, (caption, unit, line) in terms.items():
            curves = {title: run.column(f"val_{term}_loss") for title, run in runs.items()}
            path = self._curves(f"{number}_{term}", curves, "epochs", unit, line)
            yield f"{subject}: {caption} (validation)", path

    def _last_pictures(
        self, runs: dict[str, Run], pattern: str, caption: str
    ) -> Iterator[tuple[str, Path]]:
        """The last picture of a kind of each of {title: run}; `caption` takes title and number."""
        for title, run in runs.items():
            if found := numbered(run.folder, pattern):
                number, path = found[-1]
                yield caption.format(title=title, number=f"{number:,}"), path

    def _pictures_of(self, run: Run, kinds: dict[str, str]) -> list[tuple[str, Path]]:
        """The last pictures of a run, of each of {pattern: caption}."""
        return [
            picture
            for pattern, caption in kinds.items()
            for picture in self._last_pictures({run.name: run}, pattern, caption)
        ]

    # --------------------------------------------------------------------------------------------
    # All questions

    def results(self) -> str:
        """One row a question, over all runs that compare; below, why numbers do not, once each."""
        rows = []
        why: dict[str, list[str]] = {}
        for question in QUESTIONS:
            answers = [one for one in self.questions if one.question is question]
            of = {one.run.folder: one for one in answers if one.run}
            groups = [
                [of[run.folder] for run in runs]
                for runs in seeds([run for run in self.runs if run.folder in of])
            ]
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
                measured = re.sub(r" \(.*\)", "", measured)
                rows.append([title, measured, done, data, handout, best, verdict])
                if grades[0].reasons:
                    why.setdefault("; ".join(grades[0].reasons), []).append(title)
        header = ["question", "measured", "done", "data, images", "handout", "reports", "verdict"]
        notes = [
            f"- {', '.join(titles)}: not comparable: {reasons}." for reasons, titles in why.items()
        ]
        return paragraphs(table(header, rows), "\n".join(notes))

    def overview(self) -> str:
        """What the best of the models draw, in a row."""
        named = {
            "WGAN-GP: samples": ("1.5 WGAN-GP", "samples_*.png"),
            "VAE: images (orange frames) and reconstructions": ("2.2 VAE", "epoch_*_recons.png"),
            "VAE, linear beta: samples": ("2.3.2 VAE, linear beta", "epoch_*_samples.png"),
        }
        return self._row(
            *(
                picture
                for caption, (question, pattern) in named.items()
                if (run := self.run_for[question])
                for picture in self._last_pictures({"": run}, pattern, caption)
            )
        )

    # --------------------------------------------------------------------------------------------
    # Task 1

    def gan_1_3(self) -> str:
        """Question 1.3."""
        return self._gan("1.3 GAN", "python gan/q1_3.py")

    def gan_1_4(self) -> str:
        """Question 1.4."""
        return self._gan("1.4 LSGAN", "python gan/q1_4.py")

    def gan_1_5(self) -> str:
        """Question 1.5."""
        return self._gan("1.5 WGAN-GP", "python gan/q1_5.py")

    def _gan(self, question: str, command: str) -> str:
        """Score, curves, samples and interpolations of a GAN run."""
        run = self.run_for.get(question)
        number, title = question.split(" ", 1)
        if run is None:
            return self._missing(number, command)
        curve, measure = run.score_curve()
        words, curves = [], []
        if run.scored:
            last = run.scored[-1]
            best = min(curve, key=curve.__getitem__) if curve else None
            words = [
                f"Run `{run.name}`: {run.steps:,} iterations of batch {run.config['batch_size']} "
                f"on {run.config['images']:,} images.",
                f"{last['score_name']} with {last['num_gen']:,} samples: **{last['score']:,.2f}** "
                f"after {last['iteration']:,} iterations"
                + (
                    "."
                    if best is None
                    else f"; the best of the curve is {curve[best]:,.2f}, at iteration {best:,}."
                ),
            ]
            if "precision" in last:
                kid, precision, recall = self._quality(last)
                words.append(f"KID {kid}, precision {precision}, recall {recall}.")
        if curve:
            path = self._curves(
                f"{number}_score",
                {run.name: (list(curve), list(curve.values()))},
                "iterations",
                measure,
            )
            score = last["score_name"].split()[0]
            curves.append((f"{title}: {score} against iterations", path))
        losses = {part: run.column(f"{part}_loss") for part in ("discriminator", "generator")}
        path = self._curves(f"{number}_losses", losses, "iterations", "loss")
        curves.append((f"{title}: mean losses since the last point", path))
        around_a_sample = f"{title}: interpolation around a sample"
        kinds = {
            "samples_*.png": f"{title}: 100 samples after {{number}} iterations",
            "interpolations_*.png": f"{title}: interpolation around 0",
            "around_a_sample_*.png": around_a_sample,
            "between_samples_*.png": f"{title}: between four samples",
        }
        pictures = self._pictures_of(run, kinds)
        around = run.folder / "generator_around_a_sample.png"  # by --evaluate
        if around.exists() and len(pictures) < 3:
            pictures.append((around_a_sample, around))
        return paragraphs(" ".join(filter(None, words)), self._row(*curves), self._row(*pictures))

    def comparison(self) -> str:
        """The scores of the three questions' runs: curves and table."""
        parts = []
        for number, group in enumerate(self._compared()):
            curves = {}
            for title, run in group.items():
                curve, measure = run.score_curve()
                curves[title] = list(curve), list(curve.values())
            path = self._curves(f"gan_scores{number or ''}", curves, "iterations", measure)
            caption = f"{', '.join(group)}: {measure}, against iterations"
            parts += [self._row((caption, path)), self._score_table(group)]
        return paragraphs(*parts)

    def quality(self) -> str:
        """Score, KID, precision and recall of each loss, after as many iterations where there are.

        Of the runs that have all of these; where none are as long as another, the longest.
        """
        alike = "score_name", "num_gen", "features", "fid_mode"
        groups: dict[tuple, dict[str, dict[int, Run]]] = {}
        ours = OF_THE_ASSIGNMENT["gan"] | {"variant": None}
        for run in self.runs:
            end = run.scored[-1] if run.kind == "gan" and run.scored else {}
            if "precision" in end and all(run.config.get(k) == ours[k] for k in ours):
                title = TITLES.get(run.config["loss"], run.config["loss"])
                same = *(end[name] for name in alike), _data(run)
                group = groups.setdefault(same, {}).setdefault(title, {})
                group.setdefault(end["iteration"], run)
        parts = []
        for (score, samples, *_), lengths in groups.items():
            common = set.intersection(*map(set, lengths.values()))
            named = {title: found[max(common or found)] for title, found in lengths.items()}
            rows = []
            for title, run in sorted(named.items()):
                end = run.scored[-1]
                row = [title, f"`{run.name}`", f"{end['iteration']:,}", run.config["batch_size"]]
                rows.append([*row, f"{end['score']:,.2f}", *self._quality(end)])
            header = ["loss", "run", "iterations", "batch", score.split()[0]]
            runs = dict(sorted(named.items()))
            kinds = {
                "samples_*.png": "{title}: 100 samples after {number} iterations",
                "between_samples_*.png": "{title}: between four samples, {number} iterations",
            }
            parts += [
                f"{score}, KID, precision and recall of {samples:,} samples:",
                table([*header, "KID", "precision", "recall"], rows),
                *(self._row(*self._last_pictures(runs, *kind)) for kind in kinds.items()),
            ]
        return paragraphs(*parts)

    @staticmethod
    def _quality(row: dict) -> tuple[str, str, str]:
        """KID, precision and recall as they are written."""
        kid = f"{row['kid']:.4f} ± {row['kid_std']:.4f}"
        return kid, f"{row['precision']:.3f}", f"{row['recall']:.4f}"

    def gan_scores(self) -> str:
        """What a reader compares, for the README: the first score, and every fifth thousand."""
        tables = []
        for named in self._compared():
            curves = {title: run.score_curve()[0] for title, run in named.items()}
            first = min(min(curve) for curve in curves.values())
            kept = {
                title: {n: score for n, score in curve.items() if n == first or n % 5000 == 0}
                for title, curve in curves.items()
            }
            tables.append(self._steps(kept))
        return paragraphs(*tables)

    def _compared(self) -> list[dict[str, Run]]:
        """The questions' GAN runs that were scored alike, as lists of {title: run}."""
        titles = {
            grade_.question.title: f"{grade_.question.number} {grade_.question.title}"
            for grade_ in self.questions
        }
        runs = {title: self.run_for[question] for title, question in titles.items()}
        named = {title: run for title, run in runs.items() if run and run.kind == "gan"}
        return [group for group in self._same_measure(named).values() if len(group) > 1]

    @staticmethod
    def _same_measure(named: dict[str, Run]) -> dict:
        """{what was measured: {title: run}}: only scores of one kind compare."""
        groups: dict = {}
        for title, run in named.items():
            curve, measure = run.score_curve()
            if curve:
                row = run.scored[-1]
                same = measure, row["features"], row["fid_mode"], _data(run)
                groups.setdefault(same, {})[title] = run
        return groups

    def _score_table(self, named: dict[str, Run]) -> str:
        """Scores of {title: run}."""
        return self._steps({title: run.score_curve()[0] for title, run in named.items()})

    @staticmethod
    def _steps(columns: dict[str, dict[int, float]]) -> str:
        """A row for every iteration that one of {title: {iteration: score}} has a score at."""
        rows = [
            [f"{step:,}", *(_short(s[step]) if step in s else "" for s in columns.values())]
            for step in sorted(set().union(*columns.values()))
        ]
        return table(["iterations", *columns], rows)

    # --------------------------------------------------------------------------------------------
    # Task 2

    def vae_2_1(self) -> str:
        """Question 2.1."""
        return self._vae(
            ["2.1 AE, 16 latents", "2.1 AE, 128 latents", "2.1 AE, 1024 latents"],
            "recons",
            "ae_latent16 ae_latent128 ae_latent1024",
        )

    def vae_2_2(self) -> str:
        """Question 2.2."""
        return self._vae(["2.2 VAE"], "recons samples", "vae_latent1024", limit=145)

    def vae_2_3_1(self) -> str:
        """Question 2.3.1."""
        return self._vae(
            ["2.3.1 beta-VAE, 0.8", "2.2 VAE", "2.3.1 beta-VAE, 1.2"],
            "samples",
            "vae_latent1024 vae_latent1024_beta_constant0.8 vae_latent1024_beta_constant1.2",
        )

    def vae_2_3_2(self) -> str:
        """Question 2.3.2."""
        return self._vae(
            ["2.3.2 VAE, linear beta", "2.2 VAE"],
            "samples",
            "vae_latent1024 vae_latent1024_beta_linear1",
            limit=125,
        )

    def _vae(
        self, questions: list[str], kinds: str, presets: str, limit: float | None = None
    ) -> str:
        """Losses, their curves, and the last pictures of each kind."""
        runs = {
            question.split(" ", 1)[1]: run
            for question in questions
            if (run := self.run_for[question])
        }
        number = questions[0].split()[0]
        if not any(
            self.run_for[question] for question in questions if question[: len(number)] == number
        ):
            return self._missing(number, f"python vae/train.py {presets}")
        header, rows = ["run", "epoch", "reconstruction"], []
        for title, run in runs.items():
            mates = seeds([run, *self.runs])[0]  # it first: of its seed there may be more
            ends = [self._graded(mate).row for mate in mates]
            title += f" ({len(mates)} seeds)" if len(mates) > 1 else ""
            recon = [end["val_recon_loss"] for end in ends]
            rows.append([title, ends[0]["epoch"], spread(recon)])
            if run.config["loss_mode"] == "vae":
                header[3:] = ["KL", "sum"]
                kl = [end["val_kl_loss"] for end in ends]
                rows[-1] += [spread(kl), spread([a + b for a, b in zip(recon, kl, strict=True)])]
        pictures = [
            picture
            for kind in kinds.split()
            for picture in self._last_pictures(
                runs, f"epoch_*_{kind}.png", f"{{title}}: {KINDS[kind]}, epoch {{number}}"
            )
        ]
        subject = (" and " if len(runs) < 3 else "; ").join(runs)
        curves = list(self._loss_curves(number, subject, runs, limit))
        return paragraphs(table(header, rows), self._row(*curves), self._row(*pictures))

    def vae_all(self) -> str:
        """The assignment's VAEs, runs that differ in their seed in one row, and the references."""
        ours = OF_THE_ASSIGNMENT["vae"].items()
        chosen = [
            run
            for run in sorted((run for run in self.runs if run.kind == "vae"), key=self._order)
            if all(run.config[key] == value for key, value in ours)
            and run.config["beta_mode"] in ("constant", "linear")
        ]
        formats = [run.config["number_format"] for run in chosen]
        usual = max(formats, key=formats.count, default="")
        rows = []
        for runs in seeds([run for run in chosen if run.config["number_format"] == usual]):
            graded = [self._graded(run) for run in runs]
            config, last = runs[0].config, graded[0].row
            count = f" x{len(runs)}" if len(runs) > 1 else ""
            name = f"`{runs[0].name}`{count}"
            name += "" if last["epoch"] == 19 else f", epoch {last['epoch']}"
            terms = ("recon", "kl") if config["loss_mode"] == "vae" else ("recon",)
            row = [name, *(spread([g.row[f"val_{term}_loss"] for g in graded]) for term in terms)]
            row += [""] * (3 - len(row))
            if not graded[0].reasons:
                answered = (one.question for one in self.questions if one.run is runs[0])
                question = next(answered, None)
                row.append(question.reference if question else "")
                published = PUBLISHED.get(self._order(runs[0])[:4], ("", ""))
                row.append("; KL ".join(filter(None, published)))
            rows.append(row + [""] * (5 - len(row)))
        header = ["run", "recon", "KL", "handout", "elsewhere"]
        return table(header, rows) if rows else ""

    @staticmethod
    def _graded(run: Run) -> Grade:
        """As an assignment's VAE: `row` is that of epoch 19, where there is one, else the last."""
        return grade_vae(Question("", "", {}, setup=VAE_SETUP), run)

    @staticmethod
    def _order(run: Run) -> tuple:
        config = run.config
        beta = config["target_beta_val"] if config["loss_mode"] == "vae" else 1
        return config["loss_mode"], config["latent_size"], config["beta_mode"], beta, run.name

    # --------------------------------------------------------------------------------------------
    # What else the runs teach

    def _pairs(self, kind: str, key: str) -> list[list[Run]]:
        """Lists of runs with the same settings but for `key`; of equal ones the longest."""
        groups: dict = {}
        for run in sorted(self.runs, key=lambda run: -run.steps):
            if run.kind == kind:
                groups.setdefault(settings_but(key, run), {}).setdefault(run.config.get(key), run)
        return [list(group.values()) for group in groups.values() if len(group) > 1]

    def formats(self) -> str:
        """float32 and bfloat16 with the same seed."""
        parts = []
        for runs in self._pairs("vae", "number_format"):
            named = {run.config["number_format"]: run for run in runs}
            rows = []
            for title, run in named.items():
                for term, name in (("recon", "reconstruction"), ("kl", "KL"))[
                    : 1 + (run.config["loss_mode"] == "vae")
                ]:
                    values = dict(zip(*run.column(f"val_{term}_loss"), strict=True))
                    rows.append(
                        [
                            title,
                            name,
                            *(
                                f"{values[epoch]:.2f}" if epoch in values else ""
                                for epoch in EPOCHS
                            ),
                        ]
                    )
            header = [f"`{runs[0].name}`", "loss", *(f"epoch {epoch}" for epoch in EPOCHS)]
            parts += [
                table(header, rows),
                self._row(*self._loss_curves(f"formats_{runs[0].name}", runs[0].name, named)),
            ]
        return paragraphs(*parts)

    def statistics(self) -> str:
        """Scores of a generator with batch and with running statistics, left by `--evaluate`."""
        rows = []
        for run in self.runs:
            paths = [run.folder / f"generator_score_{mode}.json" for mode in ("train", "eval")]
            if all(path.exists() for path in paths):
                train, running = map(read_score, paths)
                if train["measure"] == running["measure"]:
                    rows.append(
                        [
                            f"`{run.name}`",
                            f"{run.steps:,}",
                            train["measure"],
                            f"{train['score']:.2f}",
                            f"{running['score']:.2f}",
                        ]
                    )
        header = ["run", "iterations", "score", "batch statistics", "running statistics"]
        return table(header, rows) if rows else ""

    def average(self) -> str:
        """Scores of generators and of the averages of their weights; pictures of the longest."""
        named = self._averaged()
        if not named:
            return ""
        row = []
        for number, ((measure, *_), group) in enumerate(self._same_measure(named).items()):
            curves = {
                f"{part}, {title}": tuple(map(list, zip(*curve.items(), strict=True)))
                for title, run in group.items()
                for part, key in (("generator", "score"), ("average", "score_ema"))
                for curve in [run.score_curve(key)[0]]
            }
            path = self._curves(f"averages{number or ''}", curves, "iterations", measure)
            titles = ", ".join(f"`{title}`" for title in group)
            row.append((f"{titles}: generators and averages", path))
        longest = max(named.values(), key=lambda run: run.steps)
        kinds = {
            "samples_*.png": "`{title}`: generator, iteration {number}",
            "samples_ema_*.png": "`{title}`: average, iteration {number}",
        }
        return self._row(*row, *self._pictures_of(longest, kinds))

    def _averaged(self) -> dict[str, Run]:
        """{title: run} of those whose average was scored; of one made again longer, that one."""
        averaged = [run for run in self.runs if run.score_curve("score_ema")[0]]
        averaged.sort(key=lambda run: run.steps)
        runs = {
            (settings_but("num_iterations", run), run.config.get("ema")): run for run in averaged
        }.values()
        names = [run.name for run in runs]
        return {
            run.name if names.count(run.name) == 1 else f"{run.folder.parent.name}/{run.name}": run
            for run in runs
        }

    def upsampling(self) -> str:
        """Runs that differ in their upsampling alone."""
        return self._gan_pairs("variant")

    def seeds(self) -> str:
        """Runs that differ in their seed alone."""
        return self._gan_pairs("seed")

    def _gan_pairs(self, key: str) -> str:
        """A table for each set of runs that differ in `key` alone."""
        parts = []
        for runs in self._pairs("gan", key):
            labels = [
                f"{key} {run.config[key]}" if key in run.config else "as the assignment says"
                for run in runs
            ]
            named = {
                f"{TITLES.get(run.config['loss'], run.config['loss'])}, {label}": run
                for run, label in zip(runs, labels, strict=True)
            }
            parts += [
                self._score_table(group)
                for group in self._same_measure(named).values()
                if len(group) > 1
            ]
        return paragraphs(*parts)

    # --------------------------------------------------------------------------------------------
    # Neighbours of the assignment

    def mlp_gan(self) -> str:
        """The fully connected GAN."""
        question = "more MLP GAN"
        return self._gan(question, "python gan/mlp_gan.py") if question in self.run_for else ""

    def neighbours(self) -> str:
        """The VAEs with 128 latents, and the small autoencoder, at their last epoch.

        -(reconstruction + KL) is the ELBO for p(x | z) = N(decoder(z), I / 2) without its constant,
        -3072 / 2 * log(pi) = -1758.3 nats.
        """
        titles = {grade_.run.folder: grade_.question.title for grade_ in self.grades if grade_.run}
        chosen = [
            run
            for run in self.runs
            if run.kind == "vae"
            and (
                run.config["latent_size"] == 128
                and run.config["loss_mode"] == "vae"
                or run.config["network"] != "assignment"
            )
        ]
        if not any(run.folder in titles for run in chosen):
            return ""
        rows, named = [], {}
        for run in chosen:
            plain = (
                run.config["beta_mode"] == "constant"
                and not run.config.get("flows")
                and not run.config.get("free_bits")
            )
            last, title = run.rows[-1], titles.get(run.folder) or ("VAE" if plain else run.name)
            title = run.name if title in named else title
            kl = last.get("val_kl_loss")
            active = {
                row["epoch"]: row["active_latents"] for row in run.rows if "active_latents" in row
            }
            rows.append(
                [
                    title,
                    f"`{run.name}`",
                    run.steps,
                    f"{last['val_recon_loss']:.2f}",
                    "" if kl is None else f"{kl:.2f}",
                    "" if kl is None else f"{-last['val_recon_loss'] - kl:.2f}",
                    max(active.items())[1] if active else "",
                ]
            )
            if kl is not None:
                named[title] = run
        header = [
            "model",
            "run",
            "epochs",
            "reconstruction",
            "KL",
            "ELBO + constant",
            "active latents",
        ]
        pictures = list(
            self._last_pictures(named, "epoch_*_samples.png", "{title}: samples, epoch {number}")
        )
        rows_of_pictures = [self._row(*pictures[at : at + 3]) for at in range(0, len(pictures), 3)]
        return paragraphs(
            table(header, rows),
            self._row(*self._loss_curves("neighbours", "128 latents", named)) if named else "",
            *rows_of_pictures,
        )

    def ddpm(self) -> str:
        """Losses and samples of the diffusion models, and their samplers' scores (samplers.csv)."""
        kinds = {kind: self.run_for.get(f"more DDPM, {kind}") for kind in ("v", "noise")}
        runs = {kind: run for kind, run in kinds.items() if run}
        pictures: list[tuple[str, Path]] = []
        for kind, run in list(runs.items())[:1]:  # there is room for one
            curves = {part: run.column(f"{part}_loss") for part in ("train", "val")}
            unit = f"squared error of {kind} per pixel"
            path = self._curves(f"ddpm_{kind}_loss", curves, "epochs", unit)
            pictures.append((f"Loss of `{run.name}`", path))
        for run in runs.values():
            caption = f"`{run.name}`: 49 samples (DDIM, 50 steps), epoch {{number}}"
            pictures += self._last_pictures({"": run}, "epoch_*_samples.png", caption)
        return paragraphs(self._sampler_table(list(runs.values())), self._row(*pictures))

    @staticmethod
    def _sampler_table(runs: list[Run]) -> str:
        """Scores of each sampler, a column a run; as many images stand together: they compare."""
        files = [(run, run.folder / "samplers.csv") for run in runs]
        measured = [(run, read_samplers(path)) for run, path in files if path.exists()]
        names: list[str] = []
        found: dict[tuple, dict[str, str]] = {}
        for run, rows in measured:
            measures = {
                f"{rows[0]['score_name'].split()[0]}, `{run.name}`": "score",
                f"KID, `{run.name}`": "kid",
                f"saturated, `{run.name}`": "saturated",
            }
            shown = {name: key for name, key in measures.items() if any(key in row for row in rows)}
            names += shown
            for row in rows:
                key = -row["images"], row["sampler"] != "training images", row["sampler"]
                cells = found.setdefault((*key, row["until"], row["steps"], row["eta"]), {})
                cells |= {
                    name: SHOWN[key].format(row[key]) for name, key in shown.items() if key in row
                }
        lines = [
            [f"{-images:,}", sampler, *((until, f"{steps:,}", f"{eta:g}") if steps else [""] * 3)]
            + [cells.get(name, "") for name in names]
            for (images, _, sampler, until, steps, eta), cells in sorted(found.items())
        ]
        header = ["images", "sampler", "until", "steps", "eta", *names]
        return table(header, lines) if lines else ""


PARTS = {
    "results": Parts.results,
    "overview": Parts.overview,
    "1.3": Parts.gan_1_3,
    "1.4": Parts.gan_1_4,
    "1.5": Parts.gan_1_5,
    "comparison": Parts.comparison,
    "quality": Parts.quality,
    "gan scores": Parts.gan_scores,
    "2.1": Parts.vae_2_1,
    "2.2": Parts.vae_2_2,
    "2.3.1": Parts.vae_2_3_1,
    "2.3.2": Parts.vae_2_3_2,
    "all VAE runs": Parts.vae_all,
    "formats": Parts.formats,
    "statistics": Parts.statistics,
    "average": Parts.average,
    "upsampling": Parts.upsampling,
    "seeds": Parts.seeds,
    "mlp gan": Parts.mlp_gan,
    "neighbours": Parts.neighbours,
    "ddpm": Parts.ddpm,
}
