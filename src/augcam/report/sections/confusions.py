"""Which classes are taken for each other more or less often than under the baseline."""

from augcam.report.analysis import Findings
from augcam.report.class_changes import ConfusionChange, confusion_changes
from augcam.report.sections.parts import nothing_to_compare
from augcam.viz import words
from augcam.viz.markdown import bullets, code, plain
from augcam.viz.page import Section, Table


def confusions(findings: Findings) -> Section:
    """The largest changes of each augmentation, and in words those that stand out."""
    heading, study = "Confused classes", findings.study
    if findings.per_class is None:
        return Section(heading, [nothing_to_compare(findings)])
    top = 3 if len(study.groups) > 4 else 5
    changes = confusion_changes(study, top)
    rows, sentences = [], []
    for s in findings.others:
        rows += [[s.label, *_cells(change)] for change in changes[s.label]]
        clear = [
            f"{plain(c.true)} is taken for {plain(c.predicted)} "
            f"{'more' if c.change > 0 else 'less'} often ({words.signed(c.change, 0)} of 1,000)"
            for c in changes[s.label]
            if c.clear
        ]
        if clear:
            sentences.append(f"{plain(s.label)}: {words.listed(clear)}.")
    if not rows:
        return Section(heading, ["No pair of classes is confused more or less often."])
    caption = (
        f"The {top} largest changes of each against {code(study.baseline)}. True class → predicted "
        "class, how often in 1,000 images of the true class, mean over seeds. The 95% interval is of "
        "the pair by itself. The largest of many changes are large by chance too: the last column "
        "allows for it (Benjamini and Hochberg over all pairs of all augmentations)."
    )
    base = str(study.baseline)
    columns = ["augmentation", "confusion", base, "now", "change", "95% interval", "verdict"]
    if sentences:
        return Section(heading, [bullets(sentences), Table(columns, rows, caption)])
    text = "No change of a pair of classes stands out from noise."
    return Section(heading, [text, Table(columns, rows, caption, folded=True)])


def _cells(change: ConfusionChange) -> list[str]:
    numbers = [f"{change.baseline:.0f}", f"{change.group:.0f}", words.signed(change.change, 0)]
    if change.low is None or change.high is None:
        interval, verdict = "-", "one seed"
    else:
        interval = words.interval(change.low, change.high, 0)
        verdict = "clear" if change.clear else "within noise"
    return [f"{change.true} → {change.predicted}", *numbers, interval, verdict]
