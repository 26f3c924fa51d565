"""The table of groups, best first, with a picture of the differences."""

from augcam.metrics import metrics_for
from augcam.report import charts as figures
from augcam.report.analysis import Difference, Findings
from augcam.report.sections.parts import picture
from augcam.viz import words
from augcam.viz.markdown import code
from augcam.viz.page import Block, Picture, Row, Section, Table


def ranking(findings: Findings) -> Section:
    """The ranking, its picture, and McNemar's test of each pair of networks."""
    if findings.searched:
        return Section("Ranking", [_search_table(findings)])
    beside = Row([_ranking_picture(findings), *_measures_table(findings)])
    blocks: list[Block] = [ranking_table(findings), beside]
    base = findings.study.baseline
    tests = [
        [s.label, str(test.seed), f"{test.b:,}", f"{test.c:,}", words.p_value(test.p)]
        for s in findings.others
        for test in s.mcnemar
    ]
    if tests:
        caption = (
            "McNemar's exact test for each pair of networks of one seed. It answers whether these two "
            "networks differ, not whether the augmentations do: another seed is another network, and "
            "two networks of one augmentation often differ too."
        )
        heads = ["augmentation", "seed", f"only {base} right", "only it right", "p"]
        blocks.append(Table(heads, tests, caption, folded=True))
    return Section("Ranking", blocks)


def ranking_table(findings: Findings) -> Table:
    """Every group with its accuracy and its difference from the baseline."""
    base = findings.study.baseline
    digits = 2 if findings.test_images >= 5000 else 1
    columns = ["augmentation", "test accuracy, %"]
    columns += ["difference, points", "95% interval", "verdict", "adjusted p"] if base else []
    columns += ["seeds", "validation, %", "s per epoch"]
    rows = []
    for s in findings.standings:
        row = [s.label, words.estimate(s.test, digits, 100)]
        row += _difference_cells(s.difference, s.label == base, digits) if base else []
        row += [str(len(s.runs)), words.estimate(s.val, digits, 100) if s.val else "-"]
        row += [f"{s.epoch_seconds:.1f}" if s.epoch_seconds else "-"]
        rows.append(row)
    if any(len(s.runs) > 1 for s in findings.standings):
        caption = "± is half of the 95% interval of the mean over seeds (Student's t). "
    else:
        caption = "One seed each: there is no interval over seeds. "
    if any(s.difference and s.difference.verdict for s in findings.others):
        caption += (
            f"Differences from {code(base)} are on the same test images and count both the seeds and "
            "the sampling of images, each augmentation with its own spread. Better and worse hold all "
            "at once: on at most 5% of pages is any of them wrong (Holm). The intervals hold all at "
            "once too (Bonferroni), by themselves they would be narrower. A tie does not mean equal. "
            "The first of several was chosen by these very numbers and looks better than it is; the "
            "intervals allow for that, its mean does not. "
        )
    caption += (
        "The time is that of the fastest epoch, "
        "validation and pictures included: what else a machine does can only add to it."
    )
    return Table(columns, rows, caption)


def _measures_table(findings: Findings) -> list[Table]:
    """Every metric of the registry that a group has, beside accuracy, which the ranking has."""
    shown = [
        metric
        for metric in metrics_for(len(findings.study.classes))
        if metric.name != "accuracy" and any(metric.name in s.measures for s in findings.standings)
    ]
    if not shown:
        return []
    rows = []
    for s in findings.standings:
        values = [s.measures.get(metric.name) for metric in shown]
        texts = [m.text(v.mean if v else None) for m, v in zip(shown, values, strict=True)]
        rows.append([s.label, *texts])
    heads = [f"{m.title} ({'higher' if m.higher_is_better else 'lower'} is better)" for m in shown]
    about = (f" {metric.title}: {metric.about}." for metric in shown if metric.about)
    caption = "Measured on the test set, means over the runs of each augmentation." + "".join(about)
    return [Table(["augmentation", *heads], rows, caption)]


def _search_table(findings: Findings) -> Table:
    rows = [
        [
            s.label,
            words.estimate(s.val, 2, 100) if s.val else "-",
            str(len(s.runs)),
            f"{s.epoch_seconds:.1f}" if s.epoch_seconds else "-",
        ]
        for s in findings.standings
    ]
    caption = (
        "The trials of a search, ranked by what it chose on: validation accuracy. The first was chosen "
        "by this number, so it looks better than it is; on the test set only the chosen one is shown, "
        "above."
    )
    return Table(["augmentation", "validation, %", "seeds", "s per epoch"], rows, caption)


def _difference_cells(difference: Difference | None, is_baseline: bool, digits: int) -> list[str]:
    if is_baseline:
        return ["", "", "baseline", ""]
    if difference is None:
        return ["", "", "", ""]
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
        bar_is = f"the 95% interval of the difference from {code(base)}"
    else:
        drawn = figures.dots_figure(dots, "test accuracy, %")
        bar_is = "its 95% interval over seeds"
    caption = f"A ring is a run, a full dot the mean of the runs, a bar {bar_is}."
    return picture(findings, "ranking", drawn, caption)
