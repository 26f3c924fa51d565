"""`augcam refine`: spare the classes that an augmentation hurts, and confirm that it helps."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from augcam.cli.arguments import GivenPath, folders_and_options, options
from augcam.config.build import trusted_packages
from augcam.errors import UserError
from augcam.viz.terminal import print_line

if TYPE_CHECKING:
    from augcam.refine.decisions import Comparison
    from augcam.refine.loop import Outcome

USAGE = """
Find the classes that an augmentation of a sweep hurts on validation, keep its transforms from them, and
train that, the pipeline as it was and the baseline with fresh seeds. Only what these confirm on
validation is looked at on the test set, once. Writes its runs and refine.json into SWEEP_refine; started
again, it goes on. Of every pipeline that hurts a class, (2 + 1) x seeds runs are trained.

  augcam refine SWEEP                    a sweep of 3 seeds or more; 5 see far more
  augcam refine SWEEP baseline=flip      hurt in comparison with another augmentation than none
"""


class Options(BaseModel):
    """What `augcam refine` can be asked for."""

    model_config = ConfigDict(extra="forbid")

    baseline: Annotated[
        str | None, Field(description="compare with this augmentation; none if there is one")
    ] = None
    seeds: Annotated[
        int | None,
        Field(ge=3, le=1000, description="fresh ones; as many as the sweep has if not given"),
    ] = None
    out: Annotated[
        GivenPath | None, Field(description="folder to write into; SWEEP_refine if not given")
    ] = None


def main(arguments: Sequence[str]) -> None:
    """Run the loop for the sweep that was asked for, and print what came of it.

    Raises:
        UserError: not one folder, or its study cannot be refined.
        RunError: a run has not finished.
    """
    folders, rest = folders_and_options(arguments)
    asked = options(Options, rest, USAGE)
    if len(folders) != 1:
        raise UserError("which sweep? augcam refine SWEEP, one folder; --help says more")
    sweep = folders[0]
    if not sweep.is_dir():
        raise UserError(f"{sweep}: no such folder; augcam refine SWEEP takes what train.py -m made")
    whole = sweep.resolve()

    from augcam.refine.loop import FILE, refine
    from augcam.refine.processes import train_in_process

    out = asked.out or whole.parent / f"{whole.name}_refine"
    if out.resolve().is_relative_to(whole):
        raise UserError(
            f"out={out}: lies in the sweep, whose runs it would add to; give another place"
        )
    outcome = refine(
        sweep,
        out,
        lambda run: train_in_process(run, sorted(trusted_packages())),
        print_line,
        asked.baseline,
        asked.seeds,
    )
    for line in sentences(outcome):
        print_line(line)
    print_line(str(out / FILE))


def sentences(outcome: "Outcome") -> Iterator[str]:
    """What came of the loop, stage by stage, each with what was tested and how it was corrected."""
    from augcam.viz import words

    plan = outcome.plan
    study = f"{plan.tested} validation accuracies against {plan.baseline}, Benjamini-Hochberg, 5%"
    if not plan.hurt:
        yield f"No class is clearly hurt ({study}): there is nothing to spare."
        return
    for row in plan.hurt:
        yield (
            f"{row['pipeline']} hurts {row['class']}: {words.points(row['difference'])} points "
            f"(± {100 * row['half_width']:.1f} by itself; {study})"
        )
    if plan.caution:
        yield plan.caution
    for label, why in plan.passed_over.items():
        yield f"{label}: passed over, {why}"
    seeds = words.plural(len(plan.seeds), "fresh seed")
    family = f"{seeds}, {4 * len(plan.candidates)} differences, 5% together"
    for label, comparisons in outcome.confirmed.items():
        candidate = next(c for c in plan.candidates if c.label == label)
        yield f"{label}, on validation ({family}):"
        yield from (f"  {_sentence(one, candidate.pipeline, plan.baseline)}" for one in comparisons)
    if outcome.chosen is None:
        yield "Not confirmed: no look was taken at the test set."
        return
    yield f"{outcome.chosen.label}, on the test set (one look, {seeds}, 4 differences, 5% together):"
    for one in outcome.test:
        yield f"  {_sentence(one, outcome.chosen.pipeline, plan.baseline)}"
    spared = " ".join(outcome.chosen.words)
    if outcome.won:
        hurt = words.listed(outcome.chosen.hurt)
        yield f"Sparing {hurt} wins over {outcome.chosen.pipeline}: {spared}"
    else:
        yield f"Confirmed on validation, but not on the test set: {spared}"


def _sentence(one: "Comparison", pipeline: str, baseline: str) -> str:
    from augcam.viz import words

    images = "the spared classes" if one.images == "spared" else "all classes"
    other = pipeline if one.against == "pipeline" else baseline
    verdict = {"better": "better than", "worse": "worse than", "tie": "a tie with"}[one.verdict]
    ends = f"95% interval {words.interval(100 * one.low, 100 * one.high)}, "
    # Holm's step-down test sees a little more than intervals that hold all at once.
    interval = "" if one.low < 0 < one.high and one.verdict != "tie" else ends
    return (
        f"{verdict} {other} on {images}: {words.points(one.mean)} points "
        f"({interval}adjusted p {words.p_value(one.p)})"
    )
