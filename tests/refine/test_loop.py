"""The loop on studies whose truth is known, without training."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from augcam.config.schema import validate
from augcam.errors import UserError
from augcam.refine.loop import plan_from, refine
from augcam.report.load import read_study
from augcam.runs.run_folder import RunFolder, run_folders
from tests.conftest import ROOT, compose

sys.path.insert(0, str(ROOT / "bench"))
import refine as bench

NONE, ROTATE = bench.config_of(("aug=none",), 1), bench.config_of(bench.ROTATE, 1)
NAMES = bench.Shapes(orientation_pair=True).classes


def pretended(folder: RunFolder) -> None:
    """In training's place: right in 90% of each class's images, of a pair that is turned in 50%."""
    config = folder.config()
    turned = config.aug.get("rotate") or {}
    random = np.random.default_rng([config.seed, *repr(turned).encode()])
    label = np.repeat(np.arange(10), 100)
    ruined = [name in bench.PAIR and bool(turned) and name not in turned.get("except", ())
              for name in NAMES]  # fmt: skip

    def answers():
        hits = random.random(1000) < np.where(ruined, 0.5, 0.9)[label]
        return np.where(hits, label, (label + 1) % 10)

    counts = bench.confusion(label, answers(), 10)
    bench.write(folder, bench.Result(counts, label, answers()))


def a_sweep(folder, seeds=4, **configs):
    for name, config in ({"none": NONE, "rotate": ROTATE} | configs).items():
        for seed in range(1, seeds + 1):
            run = RunFolder(folder / f"aug={name},seed={seed}")
            run.save_config(
                config.model_copy(update={"seed": seed}), [f"aug={name}", f"seed={seed}"]
            )
            pretended(run)
    return folder


def stopped(*_arguments):
    raise KeyboardInterrupt


def test_the_planted_pair_is_found_spared_and_wins(tmp_path, monkeypatch):
    sweep = a_sweep(tmp_path / "sweep")
    lines: list[str] = []
    trained: list[RunFolder] = []

    def train(run):
        trained.append(run)
        pretended(run)

    outcome = refine(sweep, tmp_path / "out", train, lines.append, seeds=3)
    assert outcome.won
    assert outcome.chosen.hurt == bench.PAIR
    assert outcome.chosen.words == ("aug.rotate.except=[bowtie,hourglass]",)
    # Three arms of three seeds, all above the study's.
    assert sorted(run.config().seed for run in trained) == [5, 5, 5, 6, 6, 6, 7, 7, 7]
    spared = [
        run.config() for run in trained if (run.config().aug.get("rotate") or {}).get("except")
    ]
    assert len(spared) == 3
    assert spared[0].aug["rotate"] == ROTATE.aug["rotate"] | {"except": list(bench.PAIR)}
    assert (
        spared[0].model_copy(update={"aug": ROTATE.aug, "seed": 1, "name": ROTATE.name}) == ROTATE
    )
    kept = json.loads((tmp_path / "out" / "refine.json").read_text())
    assert kept["won"]
    assert kept["state"] == "done"
    assert kept["plan"]["fresh_seeds"] == [5, 6, 7]
    assert kept["tests"]["confirmation"].startswith("4 differences")
    assert kept["tests"]["study"].startswith("10 differences")
    assert len(kept["test"]) == 4

    # Started again, nothing is trained again, and the answer is the same.
    again = refine(
        sweep, tmp_path / "out", lambda run: pytest.fail(str(run)), lines.append, seeds=3
    )
    assert again.test == outcome.test
    assert json.loads((tmp_path / "out" / "refine.json").read_text()) == kept
    # Stopped before its end, such a start leaves what is on record.
    with monkeypatch.context() as patched:
        patched.setattr("augcam.refine.loop.decide", stopped)
        with pytest.raises(KeyboardInterrupt):
            refine(sweep, tmp_path / "out", pretended, lines.append, seeds=3)
    assert json.loads((tmp_path / "out" / "refine.json").read_text()) == kept
    # Under another plan it would be a second look.
    with pytest.raises(UserError, match="another plan"):
        refine(sweep, tmp_path / "out", pretended, lines.append, seeds=4)


def test_a_loop_that_was_stopped_goes_on(tmp_path):
    sweep = a_sweep(tmp_path / "sweep")
    trained: list[Path] = []

    def some(run):
        if len(trained) == 4:
            raise KeyboardInterrupt
        trained.append(run.path)
        pretended(run)

    with pytest.raises(KeyboardInterrupt):
        refine(sweep, tmp_path / "out", some, lambda _: None, seeds=3)
    assert json.loads((tmp_path / "out" / "refine.json").read_text())["state"] == "training"
    rest = []

    def others(run):
        rest.append(run.path)
        pretended(run)

    outcome = refine(sweep, tmp_path / "out", others, lambda _: None, seeds=3)
    assert outcome.won
    assert len(rest) == 5
    assert not {*rest} & {*trained}


def test_what_is_not_confirmed_is_not_looked_at(tmp_path, monkeypatch):
    sweep = a_sweep(tmp_path / "sweep")
    monkeypatch.setattr(
        "augcam.refine.loop.look_at_test", lambda *_: pytest.fail("the test set was looked at")
    )

    def as_before(run):
        """Fresh runs under which the pair is hurt, spared or not."""
        run_of = run.config().model_copy(update={"aug": ROTATE.aug, "seed": run.config().seed})
        spare = RunFolder(tmp_path / "spare")
        spare.save_config(run_of)
        pretended(spare)
        for file in (spare.metrics_file, spare.predictions_file):
            file.replace(run.path / file.name)

    outcome = refine(sweep, tmp_path / "out", as_before, lambda _: None, seeds=3)
    assert outcome.chosen is None
    assert not outcome.won
    assert outcome.test == []


def test_where_no_class_is_hurt_nothing_is_trained(tmp_path):
    sweep = a_sweep(tmp_path / "sweep", rotate=NONE.model_copy(update={"aug_name": "flip"}))
    outcome = refine(sweep, tmp_path / "out", lambda run: pytest.fail(str(run)), lambda _: None)
    assert outcome.plan.hurt == []
    assert json.loads((tmp_path / "out" / "refine.json").read_text())["state"] == "nothing hurt"


def test_a_spared_pipeline_has_a_name_of_its_own(tmp_path):
    aug = {"rotate": ROTATE.aug["rotate"] | {"except": list(bench.PAIR)}}
    sweep = a_sweep(tmp_path / "sweep", spared=ROTATE.model_copy(update={"aug": aug}), seeds=3)
    study = read_study([sweep])
    assert list(study.groups) == [
        "none",
        "rotate",
        'rotate, aug.rotate.except=["bowtie", "hourglass"]',
    ]


def data_with(holdout):
    return {"data": NONE.data.model_copy(update={"holdout": holdout})}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 2}, "none has 2 finished seeds"),
        ({"none": ROTATE.model_copy(update={"aug_name": "other", "aug": {}})}, "no baseline"),
        ({"rotate": NONE}, "nothing to compare it with"),
        (
            {"none": NONE.model_copy(update=data_with("test")),
             "rotate": ROTATE.model_copy(update=data_with("test"))},
            "data.holdout=test",
        ),
    ],
)  # fmt: skip
def test_studies_that_cannot_say_it_are_refused(tmp_path, change, words):
    sweep = a_sweep(tmp_path / "sweep", **change)
    with pytest.raises(UserError, match=words):
        plan_from(read_study([sweep]))


def held_out(tmp_path, data):
    """What the plan of the usual sweep warns of, its runs on other data."""
    sweep = a_sweep(tmp_path / "sweep")
    study = read_study([sweep])
    groups = {
        label: tuple(
            dataclasses.replace(run, config=run.config.model_copy(update={"data": data}))
            for run in runs
        )
        for label, runs in study.groups.items()
    }
    return plan_from(dataclasses.replace(study, groups=groups)).caution


@pytest.mark.parametrize(
    ("overrides", "share"),
    [
        ([], ""),
        (["data.holdout=10000"], ""),
        (["data.holdout=40000"], "data.holdout=40000 is 80% "),
        (["data.holdout=0.3"], "data.holdout=0.3 is 30% "),
        (["data=shapes", "data.train_size=3000", "data.holdout=600"], ""),
        (["data=shapes", "data.train_size=3000", "data.holdout=1000"], "data.holdout=1000 is 33% "),
    ],
)
def test_runs_that_share_more_than_a_fifth_of_their_validation_images_are_warned_of(
    tmp_path, overrides, share
):
    caution = held_out(tmp_path, validate(compose(overrides)).data)
    assert caution.startswith(share)
    assert ("Hold out a fifth at most: data.holdout=0.2" in caution) == bool(share)


def test_where_only_the_data_set_knows_its_size_it_is_asked(tmp_path, monkeypatch):
    asked = []

    def source(folder):
        asked.append(folder)
        return bench.Shapes(0, 300, 10)

    monkeypatch.setattr("augcam.refine.loop.run_source", source)
    data = validate(compose(["data=folder", "data.root=photos", "data.holdout=150"])).data
    assert held_out(tmp_path, data).startswith("data.holdout=150 is 50% of the training images")
    assert len(asked) == 1


def test_a_pipeline_without_a_transform_to_keep_from_the_class_is_refused(tmp_path):
    """The baseline has the same transforms: what hurts is something else, such as mix."""
    sweep = a_sweep(tmp_path / "sweep")
    for run in sweep.iterdir():
        folder = RunFolder(run)
        config = folder.config()
        if config.aug:
            counts, tested = folder.metrics(), folder.predictions_file.read_bytes()
            folder.save_config(config.model_copy(update={"aug": {}, "aug_name": "mixup"}))
            folder.write_metrics(counts)
            folder.predictions_file.write_bytes(tested)
        else:
            folder.save_config(config.model_copy(update={"loss": config.loss.model_copy(
                update={"l1": 0.1})}))  # fmt: skip
    with pytest.raises(UserError, match="there is none to keep from them"):
        plan_from(read_study([sweep]))


def test_without_validation_nothing_is_known(tmp_path):
    sweep = a_sweep(tmp_path / "sweep")
    for run in sweep.iterdir():
        folder = RunFolder(run)
        folder.write_metrics(folder.metrics() | {"val": None})
    with pytest.raises(UserError, match="no validation"):
        plan_from(read_study([sweep]))


def test_where_no_command_of_the_sweep_is_known_none_is_made_up_for_its_fresh_runs(tmp_path):
    sweep = a_sweep(tmp_path / "sweep")
    for run in run_folders(sweep):
        run.overrides_file.unlink()
    trained: list[RunFolder] = []

    def train(run):
        trained.append(run)
        pretended(run)

    refine(sweep, tmp_path / "out", train, print, seeds=3)
    assert {run.overrides() for run in trained} == {None}
