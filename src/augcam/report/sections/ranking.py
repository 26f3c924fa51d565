"""The page's sections: findings -> words, tables and pictures."""

from augcam.report import charts as figures
from augcam.report.analysis import Findings
from augcam.report.sections.parts import _picture
from augcam.report.statistics import Difference
from augcam.viz import words
from augcam.viz.page import Block, Picture, Section, Table


def ranking(findings: Findings) -> Section:
    """The table of groups, best first, with a picture of the differences."""
    base = findings.study.baseline
    digits = 2 if findings.test_images >= 5000 else 1
    columns = ["augmentation", "test accuracy, %"]
    columns += ["difference, points", "95% interval", "verdict", "p"] if base else []
    columns += ["seeds", "validation, %", "ECE", "s per epoch"]
    rows = []
    for s in findings.standings:
        row = [s.label, words.estimate(s.test, digits, 100)]
        row += _difference_cells(s.difference, digits) if base else []
        row += [str(len(s.runs)), words.estimate(s.val, digits, 100) if s.val else "-"]
        row += [words.estimate(s.ece, 3) if s.ece else "-"]
        row += [f"{s.epoch_seconds:.1f}" if s.epoch_seconds else "-"]
        rows.append(row)
    if any(len(s.runs) > 1 for s in findings.standings):
        caption = "± is half of the 95% interval of the mean over seeds (Student's t). "
    else:
        caption = "One seed each: there is no interval over seeds. "
    if base:
        caption += (
            f"The difference from `{base}` and its own 95% interval are on the same test images, and "
            "count both the seeds and the sampling of images. A tie: the interval holds 0, which "
            "does not say that the two are equal. Each verdict is that of one comparison at 5%. "
        )
    caption += (
        "ECE: expected calibration error, 0 is best. The time is that of the fastest epoch, "
        "validation and pictures included: what else a machine does can only add to it."
    )
    blocks: list[Block] = [Table(columns, rows, caption), _ranking_picture(findings)]
    tests = [
        [s.label, str(test.seed), f"{test.b:,}", f"{test.c:,}", words.p_value(test.p)]
        for s in findings.others
        if s.difference
        for test in s.difference.mcnemar
    ]
    if tests:
        said = (
            "McNemar's exact test for each pair of networks of one seed. It tells whether these two "
            "networks differ, not whether the augmentations do: another seed is another network, and "
            "two networks of one augmentation often differ too."
        )
        heads = ["augmentation", "seed", f"only {base} right", "only it right", "p"]
        blocks.append(Table(heads, tests, said, folded=True))
    return Section("Ranking", "", blocks=blocks)


def _difference_cells(difference: Difference | None, digits: int) -> list[str]:
    if difference is None:
        return ["", "", "baseline", ""]
    mean = words.points(difference.mean, digits)
    if difference.low is None or difference.high is None or difference.p is None:
        return [mean, "-", "one seed", "-"]
    interval = words.interval(100 * difference.low, 100 * difference.high, digits)
    return [mean, interval, difference.verdict or "", words.p_value(difference.p)]


def _ranking_picture(findings: Findings) -> Picture:
    base = findings.study.baseline
    zero = findings.standing(base).test.mean if base else 0.0
    dots = []
    for s in findings.standings:
        values = [100 * (run.metrics["test"]["accuracy"] - zero) for run in s.runs]
        shown = s.difference if base else s.test
        bar = None
        if shown and shown.low is not None and shown.high is not None:
            bar = 100 * shown.low, 100 * shown.high
        colour = findings.styles[s.label]["color"]
        dots.append(figures.Dot(s.label, 100 * (s.test.mean - zero), bar, values, colour))
    if base:
        drawn = figures.dots_figure(dots, f"test accuracy, points against {base}", 0.0)
        bar_is = f"the 95% interval of the difference from `{base}`"
    else:
        drawn = figures.dots_figure(dots, "test accuracy, %")
        bar_is = "its 95% interval over seeds"
    caption = f"A ring is a run, a full dot the mean of the runs, a bar {bar_is}."
    return _picture(findings, "ranking", drawn, caption)
