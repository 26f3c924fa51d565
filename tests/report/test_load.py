"""Run folders become groups that may be averaged; everything else is told in words."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from augcam.errors import UserError
from augcam.report.load import Study, read_study
from augcam.runs.run_folder import RunFolder
from tests.report.conftest import CLASSES, LABEL, write_evaluation, write_run


def why(study: Study, folder: RunFolder | Path) -> str:
    """The one reason that the study gives for leaving the folder out."""
    path = folder.path if isinstance(folder, RunFolder) else folder
    reasons = [reason for left, reason in study.left_out if left.path.resolve() == path.resolve()]
    assert len(reasons) == 1
    return reasons[0]


def test_runs_of_one_config_up_to_the_seed_are_a_group(tmp_path):
    for aug, seed in (("flip", 2), ("none", 10), ("flip", 1), ("none", 9)):
        write_run(tmp_path / "sweep" / f"{aug}{seed}", f"aug={aug}", f"seed={seed}")
    study = read_study([tmp_path])
    assert {label: [run.seed for run in runs] for label, runs in study.groups.items()} == {
        "none": [9, 10],
        "flip": [1, 2],
    }
    assert list(study.groups) == ["none", "flip"]  # the baseline first
    assert study.baseline == "none"
    assert study.classes == tuple(CLASSES)
    assert study.left_out == study.notes == []
    assert study.differing["none"] == {"transforms": "none"}
    assert study.differing["flip"]["transforms"] == "flip"
    assert study.differing["flip"]["aug.flip.p"] == 0.5
    np.testing.assert_array_equal(study.groups["flip"][0].predictions.label, LABEL)


def test_a_run_a_sweep_and_the_tree_above_are_read_once(tmp_path):
    run = write_run(tmp_path / "sweep" / "a", "aug=none")
    study = read_study([run.path, tmp_path / "sweep", tmp_path])
    assert [found.folder.path for found in study.runs] == [run.path]


def test_groups_of_one_augmentation_are_named_by_what_differs(tmp_path):
    write_run(tmp_path / "a", "aug=rotate", "aug.rotate.limit=15")
    write_run(tmp_path / "b", "aug=rotate", "aug.rotate.limit=30")
    write_run(tmp_path / "c", "aug=none")
    study = read_study([tmp_path])
    assert list(study.groups) == [
        "none",
        "rotate, aug.rotate.limit=15",
        "rotate, aug.rotate.limit=30",
    ]
    assert study.differing["rotate, aug.rotate.limit=30"]["aug.rotate.limit"] == 30


def test_a_step_left_out_is_another_group(tmp_path):
    write_run(tmp_path / "a", "aug=cutout_rotate")
    write_run(tmp_path / "b", "aug=cutout_rotate", "~aug.cutout")
    write_run(tmp_path / "c", "aug=cutout_rotate", "aug.cutout=null", "seed=2")
    study = read_study([tmp_path])
    assert {label: len(runs) for label, runs in study.groups.items()} == {
        "cutout_rotate, transforms=flip+rotate": 2,  # null and left out are the same
        "cutout_rotate, transforms=flip+rotate+cutout": 1,
    }


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["~aug.cutout"], "crop_flip_cutout_-cutout"),
        (["aug.cutout=null"], "crop_flip_cutout_-cutout"),
        (["+aug/op@aug.soft=blur", "~aug.crop"], "crop_flip_cutout_+soft=blur_-crop"),
        (["~aug.cutout", "mix=mixup"], "crop_flip_cutout_-cutout+mixup"),
        (["aug=none", "+aug/op@aug.blur=blur", "mix=mixup"], "none_+blur+mixup"),
        (["~aug.cutout", "aug.flip.p=0.4", "optim.lr=0.3"], "crop_flip_cutout_-cutout"),
    ],
)
def test_a_changed_pipeline_without_its_like_has_the_change_in_its_name(tmp_path, overrides, label):
    """It was called crop_flip_cutout, as if nothing had been taken from it."""
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", *overrides, f"seed={seed}")
    assert {name: len(runs) for name, runs in read_study([tmp_path]).groups.items()} == {label: 2}
    write_run(tmp_path / "other", "aug=flip")
    assert set(read_study([tmp_path]).groups) == {label, "flip"}


def test_what_differs_between_groups_of_one_changed_pipeline_comes_after_the_change(tmp_path):
    for p in (0.3, 0.4):
        write_run(tmp_path / f"{p}", "~aug.cutout", f"aug.flip.p={p}")
    assert list(read_study([tmp_path]).groups) == [
        "crop_flip_cutout_-cutout, aug.flip.p=0.3",
        "crop_flip_cutout_-cutout, aug.flip.p=0.4",
    ]


def test_one_run_that_records_the_change_names_its_group(tmp_path):
    for seed in (1, 2):
        run = write_run(tmp_path / f"{seed}", "~aug.cutout", f"seed={seed}")
        if seed == 1:
            run.overrides_file.unlink()
    groups = read_study([tmp_path]).groups
    assert {name: len(runs) for name, runs in groups.items()} == {"crop_flip_cutout_-cutout": 2}


def test_where_and_how_a_run_computed_makes_no_group(tmp_path):
    write_run(tmp_path / "a", "aug=none", "seed=1")
    write_run(
        tmp_path / "b", "aug=none", "seed=2", "data.num_workers=3", "explain.images=2", "debug=true",
        "trainer.accelerator=cpu",
    )  # fmt: skip
    assert [len(runs) for runs in read_study([tmp_path]).groups.values()] == [2]


def test_other_training_is_noted(tmp_path):
    write_run(tmp_path / "a", "aug=none", "trainer.max_epochs=3")
    write_run(tmp_path / "b", "aug=flip", "trainer.max_epochs=4")
    study = read_study([tmp_path])
    assert list(study.groups) == ["none", "flip"]
    assert any("more than the augmentation: trainer.max_epochs." in note for note in study.notes)


def test_of_the_same_run_twice_the_later_stays(tmp_path):
    early, late = write_run(tmp_path / "z", "aug=none"), write_run(tmp_path / "a", "aug=none")
    os.utime(early.metrics_file, (1000, 1000))
    study = read_study([tmp_path])
    assert [run.folder.path for run in study.groups["none"]] == [late.path]
    assert "same config and seed as" in why(study, early)
    assert str(late) in why(study, early)


def test_of_runs_that_finished_together_the_last_by_name_stays_however_they_are_given(tmp_path):
    runs = [write_run(tmp_path / name, "aug=none") for name in "abcdef"]
    for run in runs:
        os.utime(run.metrics_file, (1000, 1000))
    folders = [run.path for run in runs]
    for given in (folders, folders[::-1]):
        (kept,) = read_study(given).groups["none"]
        assert kept.folder.path == tmp_path / "f"


def test_unfinished_runs_are_told_apart(tmp_path, monkeypatch):
    write_run(tmp_path / "good", "aug=none")
    failed, died, stopped, running = (
        write_run(tmp_path / name, "aug=flip", f"seed={seed}")
        for seed, name in enumerate(("failed", "died", "stopped", "running"))
    )
    for run in (failed, died, running):
        run.metrics_file.unlink()
    failed.failure_file.write_text("augcam: aug.flip.q: no such parameter\n\nTraceback ...\n")
    stopped.write_metrics(stopped.metrics() | {"status": "interrupted"})
    monkeypatch.setattr(RunFolder, "command_to_go_on", lambda self, config: f"train run={self}")
    with running.locked():
        study = read_study([tmp_path])
    assert why(study, failed) == "failed: aug.flip.q: no such parameter"
    assert (
        why(study, died) == f"ended unexpectedly, with no error recorded; train run={died} goes on"
    )
    assert why(study, stopped) == f"interrupted; train run={stopped} goes on"
    assert why(study, running) == "still running"
    assert {run.folder.path.name: run.state for run in study.runs} == {
        "good": "finished", "failed": "failed", "died": "died", "stopped": "interrupted",
        "running": "running",
    }  # fmt: skip
    assert list(study.groups) == ["none"]
    # Each says to which group it would belong, and has nothing that could be averaged.
    assert {run.label for run in study.runs if run.why} == {"flip"}
    assert all(run.predictions is None for run in study.runs if run.why)


def test_while_nothing_has_finished_the_study_is_empty(tmp_path):
    run = write_run(tmp_path / "a", "aug=none", status="interrupted")
    study = read_study([tmp_path])
    assert study.groups == {}
    assert study.classes == ()
    assert study.baseline is None
    assert study.left_out[0][0].path == run.path


def damaged_json(run):
    run.metrics_file.write_text(run.metrics_file.read_text()[:40])


def damaged_npz(run):
    run.predictions_file.write_bytes(run.predictions_file.read_bytes()[:100])


def missing_npz(run):
    run.predictions_file.unlink()


def as_float(run):
    np.savez(run.predictions_file, label=LABEL / 1.0, predicted=LABEL, confidence=LABEL / 60)


def confidence_nan(run):
    np.savez(run.predictions_file, label=LABEL, predicted=LABEL, confidence=LABEL * np.nan)


def half_of_the_rows(run):
    np.savez(
        run.predictions_file, label=LABEL[::2], predicted=LABEL[::2], confidence=LABEL[::2] / 60
    )


def config_of_tabs(run):
    run.config_file.write_text("name:\n\t- x\n")


def config_key_twice(run):
    run.config_file.write_text(run.config_file.read_text() + "seed: 3\nseed: 4\n")


def config_no_text(run):
    run.config_file.write_bytes(b"\xff\xfe\x00name")


def accuracy_null(run):
    metrics = run.metrics()
    metrics["test"]["accuracy"] = None
    run.write_metrics(metrics)


def classes_renamed(run):
    run.write_metrics(run.metrics() | {"classes": ["bird", "bird", "dog"]})


def confusion_cut(run):
    metrics = run.metrics()
    metrics["test"]["confusion"].pop()
    run.write_metrics(metrics)


def metrics_a_folder(run):
    run.metrics_file.unlink()
    run.metrics_file.mkdir()


def predictions_a_folder(run):
    run.predictions_file.unlink()
    run.predictions_file.mkdir()


def metrics_a_pipe(run):
    run.metrics_file.unlink()
    os.mkfifo(run.metrics_file)


def deep_json(run):
    run.metrics_file.write_text("[" * 100_000)


def pickled(run):
    np.savez(run.predictions_file, label=np.array([{}]), predicted=LABEL, confidence=LABEL)


def rows_missing(run):
    np.savez(run.predictions_file, label=LABEL, predicted=LABEL[1:], confidence=LABEL / 60)


def classes_missing(run):
    np.savez(run.predictions_file, label=LABEL, predicted=LABEL + 5, confidence=LABEL / 60)


def no_test(run):
    run.write_metrics(run.metrics() | {"test": None})


def no_classes(run):
    run.write_metrics({"status": "finished"})


def other_schema(run):
    run.config_file.write_text("model: mine\n")


def no_config(run):
    run.config_file.unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damaged_json, "not JSON"),
        (damaged_npz, "damaged"),
        (missing_npz, "test_predictions.npz is missing"),
        (rows_missing, "columns"),
        (classes_missing, "more than 3 classes"),
        (as_float, "label is float64"),
        (confidence_nan, "confidence is not finite"),
        (half_of_the_rows, "other labels than metrics.json counts"),
        (config_of_tabs, "config cannot be read"),
        (config_key_twice, "config cannot be read"),
        (config_no_text, "config cannot be read"),
        (accuracy_null, "test.accuracy=None"),
        (classes_renamed, "a name is there twice"),
        (confusion_cut, "test.confusion: not 3 rows and columns"),
        (metrics_a_folder, "not a file"),
        (predictions_a_folder, "test_predictions.npz is missing"),
        (metrics_a_pipe, "not a file"),
        (deep_json, "not JSON"),
        (pickled, "test_predictions.npz"),
        (no_test, "without a test"),
        (no_classes, "metrics.json lacks classes"),
        (other_schema, "config cannot be read"),
        (no_config, "config"),
    ],
)
def test_a_damaged_folder_is_left_out_and_told(tmp_path, harm, reason):
    good, bad = write_run(tmp_path / "good", "aug=none"), write_run(tmp_path / "bad", "aug=flip")
    harm(bad)
    study = read_study([tmp_path])
    assert [run.folder.path for runs in study.groups.values() for run in runs] == [good.path]
    assert reason in why(study, bad)
    assert "\n" not in why(study, bad)


def test_a_folder_of_another_program_is_left_out(tmp_path):
    write_run(tmp_path / "good", "aug=none")
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    assert "no run of AugCAM" in why(read_study([tmp_path]), tmp_path / "other")


def test_a_run_tested_on_fewer_images_is_left_out(tmp_path):
    write_run(tmp_path / "whole", "aug=none")
    part = write_run(
        tmp_path / "part", "aug=flip", "trainer.limit_test_batches=1", label=LABEL[:30]
    )
    study = read_study([tmp_path])
    assert list(study.groups) == ["none"]
    assert "30 of the others' 60" in why(study, part)
    assert study.notes == ["One seed only: none. No interval can be given for these by themselves."]


def test_a_test_set_that_all_runs_cut_is_noted(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}", "trainer.limit_test_batches=1")
    study = read_study([tmp_path])
    assert len(study.groups["none"]) == 2
    assert any("cut to 60 images" in note for note in study.notes)


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["data.seed=7"], {}, "data.seed=7"),
        (["data.holdout=0"], {}, "data.holdout=0"),
        (["data=folder", "data.root=x", "data.image_size=64"], {}, "data.image_size=64"),
        ([], {"classes": ["bird", "cat", "cow"]}, "(bird, cat, cow)"),
        ([], {"label": np.roll(LABEL, 1)}, "test images have other labels"),
    ],
)
def test_mixed_data_is_refused_with_the_folders_of_each_kind(tmp_path, overrides, options, said):
    one = write_run(tmp_path / "one", "aug=none")
    two = write_run(tmp_path / "two", "aug=flip", *overrides, **options)
    with pytest.raises(UserError) as error:
        read_study([tmp_path])
    assert said in str(error.value)
    lines = str(error.value).splitlines()
    assert [str(run) in line for run, line in zip((one, two), lines[1:], strict=True)] == [True] * 2


def test_two_sets_of_torchvision_are_mixed_data(tmp_path):
    for name in ("SVHN", "USPS"):
        write_run(tmp_path / name, "aug=none", "data=torchvision", f"data.dataset={name}")
    with pytest.raises(UserError, match=r"data\.dataset=USPS"):
        read_study([tmp_path])


def test_a_failed_run_on_other_data_is_in_nobodys_way(tmp_path):
    write_run(tmp_path / "one", "aug=none")
    write_run(tmp_path / "two", "aug=flip", "data.seed=7", status="interrupted")
    assert list(read_study([tmp_path]).groups) == ["none"]


def test_other_roots_are_noted(tmp_path):
    for root in ("flowers", "weeds"):
        write_run(
            tmp_path / root, "data=folder", f"data.root={root}", f"seed={len(root)}", "aug=none",
            "data.image_size=32",
        )  # fmt: skip
    study = read_study([tmp_path])
    assert len(study.groups["none"]) == 2
    assert any("data.root (flowers, weeds)" in note for note in study.notes)


def test_no_runs_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="no runs in there"):
        read_study([tmp_path / "empty"])
    with pytest.raises(UserError, match="did you mean empty"):
        read_study([tmp_path / "emty"])
    with pytest.raises(UserError, match="no such folder"):
        read_study([tmp_path / "file"])


def test_the_baseline_is_asked_for_or_none_or_open(tmp_path):
    write_run(tmp_path / "a", "aug=flip")
    study = read_study([tmp_path])
    assert study.baseline is None
    assert any("no finished run has aug=none" in note for note in study.notes)
    write_run(tmp_path / "b", "aug=cutout")
    assert read_study([tmp_path], baseline="cutout").baseline == "cutout"
    with pytest.raises(UserError, match=r"baseline=cutuot: no such group; did you mean cutout\?"):
        read_study([tmp_path], baseline="cutuot")
    for epochs in (3, 4):
        write_run(tmp_path / f"{epochs}", "aug=none", f"trainer.max_epochs={epochs}")
    study = read_study([tmp_path])
    assert study.baseline is None
    assert any("several groups have aug=none" in note for note in study.notes)
    asked = read_study([tmp_path], baseline="none, trainer.max_epochs=3")
    assert next(iter(asked.groups)) == asked.baseline == "none, trainer.max_epochs=3"


def test_none_with_a_transform_added_is_no_baseline(tmp_path):
    write_run(tmp_path / "blur", "aug=none", "+aug/op@aug.blur=blur")
    write_run(tmp_path / "flip", "aug=flip")
    assert read_study([tmp_path]).baseline is None
    write_run(tmp_path / "plain", "aug=none")
    study = read_study([tmp_path])
    assert study.baseline == "none, transforms=none"
    assert "none, transforms=blur" in study.groups


def test_a_mix_is_an_augmentation_beside_the_baseline(tmp_path):
    write_run(tmp_path / "plain", "aug=none")
    write_run(tmp_path / "mixup", "aug=none", "mix=mixup")
    write_run(tmp_path / "both", "aug=flip", "mix=cutmix")
    write_run(tmp_path / "never", "aug=flip", "mix=cutmix", "mix.p=0")
    write_run(tmp_path / "weak", "aug=flip", "aug_strength=0.5")
    study = read_study([tmp_path])
    assert study.baseline == "none"
    assert {"none", "mixup", "flip+cutmix"} <= set(study.groups)
    assert len(study.groups) == 5
    assert not any("differ in more than the augmentation" in note for note in study.notes)


def test_evaluations_are_read(tmp_path, maps):
    run = write_run(tmp_path / "a", "aug=none")
    write_evaluation(run, maps)
    (read,) = read_study([tmp_path]).groups["none"]
    assert read.evaluation["images"] == 12
    np.testing.assert_array_equal(read.maps.map_true, maps.astype(np.float32))
    # A heat map is the positive part, stretched.
    positive = maps.astype(np.float32).clip(0).reshape(12, 16)
    stretched = (positive - positive.min(1, keepdims=True)) / np.ptp(positive, 1, keepdims=True)
    np.testing.assert_allclose(read.maps.heat, stretched, atol=1e-6)


def test_a_map_that_says_nothing_is_not_usable(tmp_path, maps):
    maps[0], maps[1], maps[2] = 1.0, -np.abs(maps[1]), np.nan
    run = write_run(tmp_path / "a", "aug=none")
    write_evaluation(run, maps)
    (read,) = read_study([tmp_path]).groups["none"]
    np.testing.assert_array_equal(read.maps.usable, [False] * 3 + [True] * 9)


def test_an_evaluation_of_another_layer_is_not_compared(tmp_path, maps):
    for seed in (1, 2, 3):
        run = write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}")
        write_evaluation(run, maps, layer="layer3" if seed == 2 else "layer4")
    study = read_study([tmp_path])
    assert [run.evaluation is None for run in study.groups["none"]] == [False, True, False]
    assert study.groups["none"][1].maps is None
    assert any("layer=layer3" in note for note in study.notes)


def test_faithfulness_on_other_samples_is_not_compared(tmp_path, maps):
    for seed in (1, 2, 3):
        run = write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}")
        write_evaluation(run, maps, samples=50 if seed == 2 else 200)
    study = read_study([tmp_path])
    assert [run.evaluation is None for run in study.groups["none"]] == [False, True, False]
    assert any("samples=50" in note for note in study.notes)


def truncated(run):
    file = run.path / "evaluation.npz"
    file.write_bytes(file.read_bytes()[:200])


def keys_missing(run):
    (run.path / "evaluation.json").write_text("{}")


def other_count(run):
    file = run.path / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"images": 5}))


def npz_missing(run):
    (run.path / "evaluation.npz").unlink()


def asked_a_number(run):
    file = run.path / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"asked": 5}))


def a_list(run):
    (run.path / "evaluation.json").write_text("[]")


def json_a_folder(run):
    (run.path / "evaluation.json").unlink()
    (run.path / "evaluation.json").mkdir()


def corruptions_null(run):
    file = run.path / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"corruptions": {"fog": [None]}}))


def with_array(run, **changed):
    file = run.path / "evaluation.npz"
    with np.load(file) as old:
        arrays = dict(old) | changed
    np.savez(file, **arrays)


def flat_maps(run):
    with_array(run, map_true=np.zeros((12, 16), np.float32))


def probabilities_nan(run):
    with_array(run, probabilities=np.full((12, 3), np.nan, np.float32))


def other_classes(run):
    with_array(run, probabilities=np.full((12, 4), 0.25, np.float32))


def index_not_ascending(run):
    with_array(run, index=np.zeros(12, np.int32))


@pytest.mark.parametrize(
    "harm",
    [truncated, keys_missing, other_count, npz_missing, a_list, asked_a_number, json_a_folder,
     corruptions_null,
     flat_maps, probabilities_nan, other_classes, index_not_ascending],
)  # fmt: skip
def test_a_damaged_evaluation_is_noted_and_the_run_kept(tmp_path, maps, harm):
    run = write_run(tmp_path / "a", "aug=none")
    write_evaluation(run, maps)
    harm(run)
    study = read_study([tmp_path])
    assert study.groups["none"][0].evaluation is None
    assert any("augcam evaluate run=" in note for note in study.notes)


def test_an_evaluation_of_other_images_is_noted(tmp_path, maps):
    run = write_run(tmp_path / "a", "aug=none")
    write_evaluation(run, maps, label=np.roll(LABEL, 1))
    study = read_study([tmp_path])
    assert study.groups["none"][0].maps is None
    assert any("not those of the test set" in note for note in study.notes)


def test_an_evaluation_of_all_images_is_used_for_a_run_tested_on_some(tmp_path, maps):
    """It was thrown away: "index 45 is out of bounds for axis 0 with size 30"."""
    overrides = ("aug=none", "trainer.limit_test_batches=1")
    run = write_run(tmp_path / "a", *overrides, label=LABEL[:30])
    index = np.arange(0, 60, 5)
    write_evaluation(run, maps)
    with_array(run, index=index.astype(np.int32), label=LABEL[index].astype(np.uint16))
    study = read_study([tmp_path])
    np.testing.assert_array_equal(study.groups["none"][0].maps.index, index)
    assert not any("evaluation" in note for note in study.notes)


def lost(run, **losses):
    metrics = run.metrics()
    metrics["test"]["loss"] = 0.5
    metrics["test"] |= losses
    run.write_metrics(metrics)


def test_a_run_whose_numbers_are_not_finite_is_not_ranked(tmp_path):
    good, bad, late = (
        write_run(tmp_path / n, "aug=none", f"seed={i}") for i, n in enumerate("abc")
    )
    lost(good)
    lost(bad, loss=float("nan"))
    history = [{"epoch": 1, "train/loss": 0.1}, {"epoch": 2, "train/loss": float("inf")}]
    late.write_metrics(late.metrics() | {"history": history})
    study = read_study([tmp_path])
    assert [run.folder.path for run in study.groups["none"]] == [good.path]
    assert why(study, bad) == "diverged: its test loss is not finite"
    assert why(study, late) == "diverged: its train/loss of epoch 2 is not finite"


def test_an_accuracy_of_zero_is_a_number(tmp_path):
    write_run(tmp_path / "a", "aug=none", predicted=(LABEL + 1) % 3)
    (run,) = read_study([tmp_path]).groups["none"]
    assert run.metrics["test"]["accuracy"] == 0.0


def test_one_run_of_other_classes_keeps_no_others_from_being_compared(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}")
    other = write_run(tmp_path / "3", "aug=none", "seed=3", classes=["bird", "cat", "cow"])
    study = read_study([tmp_path])
    assert len(study.groups["none"]) == 2
    assert "its classes (bird, cat, cow, ...) are not those of the other 2 runs" in why(
        study, other
    )


def test_a_search_is_known_from_its_sweeper(tmp_path):
    for seed, (mode, sweeper) in enumerate(
        [("MULTIRUN", "optuna"), ("MULTIRUN", "basic"), ("RUN", "basic")]
    ):
        run = write_run(tmp_path / f"{seed}", "aug=none", f"seed={seed}")
        choices = {"hydra/sweeper": sweeper}
        record = {"hydra": {"mode": mode, "runtime": {"choices": choices}}}
        (run.path / ".hydra" / "hydra.yaml").write_text(json.dumps(record))
    study = read_study([tmp_path])
    assert [run.search for run in study.groups["none"]] == [True, False, False]
    assert study.search
    assert not read_study([tmp_path / "1", tmp_path / "2"]).search


def test_a_record_of_hydra_that_is_damaged_runs_nothing(tmp_path):
    run = write_run(tmp_path / "a", "aug=none")
    record = "hydra: !!python/object/apply:os.mkdir ['" + str(tmp_path / "made") + "']"
    (run.path / ".hydra" / "hydra.yaml").write_text(record)
    assert not read_study([tmp_path]).search
    assert not (tmp_path / "made").exists()


def test_labels_of_a_search_are_short_and_still_tell_apart(tmp_path):
    for name, limit in (("a", 13.24823187456123), ("b", 27.10000000000001)):
        write_run(tmp_path / name, "aug=rotate", f"aug.rotate.limit={limit}")
    labels = list(read_study([tmp_path]).groups)
    assert labels == ["rotate, aug.rotate.limit=13.2482", "rotate, aug.rotate.limit=27.1"]
    write_run(tmp_path / "c", "aug=rotate", "aug.rotate.limit=27.10000000000002")
    assert len(read_study([tmp_path]).groups) == 3
