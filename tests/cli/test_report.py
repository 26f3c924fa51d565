"""`augcam report`: one page from many runs, whatever state they are in."""

import csv
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from augcam.cli.report import main
from augcam.data.datasets.shapes import CLASSES
from augcam.errors import UserError
from augcam.report.write import write_report
from augcam.runs.run_folder import RunFolder
from tests.browser import assert_legible, laid_out, needs_chromium
from tests.conftest import report
from tests.report.make import make_run, make_started, make_sweep

HEADINGS = [
    "Ranking",
    "Class by class",
    "Learning curves",
    "Confused classes",
    "Where each network looks",
    "Robustness",
    "How it was made",
]


def text_of(page: Path) -> str:
    """What a reader sees of the page, without markup."""
    words = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(words).split())


def section(page: Path, heading: str) -> str:
    """A section's text in report.md, up to the next heading."""
    text = (page.parent / "report.md").read_text()
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reported") / "sweep"
    make_sweep(folder, ("none", "cutout", "blur"), (1, 2, 3), test_size=2000, evaluated=60)
    return folder


@pytest.fixture(scope="module")
def page(sweep) -> Path:
    """Through the real command line."""
    done = report(str(sweep))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(sweep / "report.html")]
    return sweep / "report.html"


def test_one_file_holds_the_page_and_needs_neither_network_nor_script(page):
    text = page.read_text()
    assert re.findall(r"<h2>([^<]+)</h2>", text) == HEADINGS
    assert "<script" not in text
    assert "http" not in text
    assert not re.search(r'src="(?!data:image/png;base64,)', text)
    assert len(text) < 5_000_000
    figures = {path.name for path in (page.parent / "figures").glob("*.png")}
    assert text.count("<img ") == len(figures) == 7
    linked = re.findall(r"!\[\]\(figures/([^)]+)\)", (page.parent / "report.md").read_text())
    assert set(linked) == figures
    assert not list(page.parent.glob(".report*"))


def test_the_ranking_has_the_runs_own_numbers(page, sweep):
    means = {}
    for aug in ("none", "cutout", "blur"):
        runs = [json.loads(f.read_text()) for f in sweep.glob(f"aug={aug},*/metrics.json")]
        means[aug] = 100 * np.mean([run["test"]["accuracy"] for run in runs])
    rows = [line.split("|")[1:-1] for line in section(page, "Ranking").splitlines()[2:]]
    shown = {row[0].strip(): row[1:] for row in rows if len(row) > 8}
    order = [label for label in shown if label in means]
    assert order == sorted(means, key=lambda aug: -means[aug])
    for aug, mean in means.items():
        accuracy, difference, *_ = (cell.strip() for cell in shown[aug])
        assert accuracy.startswith(f"{mean:.1f} ± ")
        if aug != "none":
            expected = f"{mean - means['none']:+.1f}".replace("-", "−")
            assert difference == expected


def test_the_summary_says_what_to_keep_and_what_to_leave(page):
    said = text_of(page).split("Ranking")[0]
    # Made so: cutout is better and hurts arrow, blur is worse (tests/report/make.py).
    wins = r"cutout wins against none : \+\d\.\d points \(95% interval .* 3 seeds\)"
    assert re.search(wins, said)
    assert re.search(r"Worse than none : blur −\d", said)
    assert re.search(r"By class : cutout .*hurts arrow −", said)
    assert "Robustness (on these 60 images; another choice of images is not allowed for): " in said


def test_sections_that_need_the_network_say_how_many_images_they_stand_on(page):
    assert "60 of 2,000 test images" in section(page, "Where each network looks")
    assert "60 of 2,000 test images" in section(page, "Robustness")
    looks = section(page, "Where each network looks")
    assert "none, seed to seed" in looks
    assert "is not tested: it takes 5 evaluated seeds" in looks


def test_the_command_that_made_the_sweep_is_one_line(page):
    made = section(page, "How it was made")
    assert "python train.py -m aug=none,blur,cutout seed=1,2,3 data=shapes" in made


def test_every_run_is_listed_by_its_name_under_the_folder_of_all(page, sweep):
    made = section(page, "How it was made")
    assert f"All 9 runs in `{sweep}`" in made
    for aug in ("none", "cutout", "blur"):
        for seed in (1, 2, 3):
            assert f"| aug={aug},seed={seed} | finished | {aug} | {seed} |" in made


def test_the_table_has_a_line_for_every_run(page, sweep):
    with (sweep / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    for row in rows:
        metrics = json.loads((Path(row["folder"]) / "metrics.json").read_text())
        assert (row["label"], int(row["seed"])) == (metrics["aug"], metrics["seed"])
        assert row["state"] == "finished"
        assert float(row["test_accuracy"]) == metrics["test"]["accuracy"]
        per_class = metrics["test"]["accuracy_per_class"]
        assert [float(row[f"test_accuracy_{name}"]) for name in CLASSES] == list(per_class.values())


def test_a_second_report_forgets_runs_that_are_gone(tmp_path):
    make_sweep(tmp_path, ("none", "flip"), (1, 2), test_size=100, evaluated=0)
    write_report([tmp_path])
    shutil.rmtree(tmp_path / "aug=flip,seed=2")
    write_report([tmp_path])
    assert not (tmp_path / "tensorboard").exists()  # the runs' own events are enough
    assert (tmp_path / "runs.csv").read_text().count("\n") == 4


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    make_sweep(tmp_path, ("none", "cutout"), (1,), test_size=200, evaluated=30)
    page = write_report([tmp_path])
    ranking = section(page, "Ranking")
    assert "One seed each" in ranking
    assert " ± " not in ranking.replace("± is half", "")
    assert "one seed" in ranking
    assert "wins" not in text_of(page)
    assert "One seed each" in section(page, "Class by class")
    assert "is not tested" in section(page, "Where each network looks")
    assert "seed=2,3,4" in text_of(page)  # what would tell


def test_without_a_baseline_nothing_is_compared_until_one_is_named(tmp_path):
    make_sweep(tmp_path, ("flip", "cutout"), (1, 2), test_size=200, evaluated=20)
    page = write_report([tmp_path])
    for heading in ("Class by class", "Confused classes"):
        assert "`baseline=LABEL`" in section(page, heading)
    assert "difference" not in section(page, "Ranking").split("±")[0]
    page = write_report([tmp_path], baseline="flip")
    assert "Differences from `flip`" in section(page, "Ranking")
    assert "`baseline=LABEL`" not in section(page, "Class by class")


def test_runs_that_were_not_evaluated_leave_sections_with_the_command_that_fills_them(tmp_path):
    runs = make_sweep(tmp_path, ("none", "flip"), (1, 2), test_size=100, evaluated=0)
    page = write_report([tmp_path])
    for heading in ("Where each network looks", "Robustness"):
        said = section(page, heading)
        assert "augcam evaluate run=" in said
        assert any(str(run) in said for run in runs)
    make_run(tmp_path / "aug=none,seed=1", "none", 1, test_size=100, evaluated=20)
    page = write_report([tmp_path])
    for heading in ("Where each network looks", "Robustness"):
        assert "3 of 4 runs are not in here" in section(page, heading)


def test_unfinished_runs_are_counted_named_and_kept_out(tmp_path):
    make_sweep(tmp_path, ("none", "flip"), (1, 2), test_size=100, evaluated=0)
    failed = make_started(tmp_path / "aug=flip,seed=3", "flip", 3, test_size=100)
    failed.failure_file.write_text("augcam: the disk <is> full\n")
    running = make_started(tmp_path / "aug=flip,seed=4", "flip", 4, test_size=100)
    make_started(tmp_path / "aug=flip,seed=5", "flip", 5, test_size=100)
    with running.locked():
        page = write_report([tmp_path])
    text = text_of(page)
    assert "4 finished runs (seeds 1, 2); 1 running, 1 failed, 1 died" in text
    assert re.search(r"Still running, and not in here: \S*aug=flip,seed=4", text)
    made = section(page, "How it was made")
    assert "the disk \\<is> full" in made
    assert str(RunFolder(failed.failure_file)) in made
    assert "the disk &lt;is&gt; full" in page.read_text()
    with (tmp_path / "runs.csv").open() as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert sorted(states) == ["died", "failed", *["finished"] * 4, "running"]


def test_a_sweep_in_which_nothing_has_finished_has_a_page_too(tmp_path):
    started = make_started(tmp_path / "aug=none,seed=1", "none", 1)
    with started.locked():
        page = write_report([tmp_path])
    assert "No run has finished yet" in text_of(page)
    assert "aug=none,seed=1" in text_of(page)


def test_one_augmentation_alone_has_nothing_to_be_compared_with(tmp_path):
    make_sweep(tmp_path, ("none",), (1, 2), test_size=100, evaluated=20)
    page = write_report([tmp_path])
    assert "nothing to compare" in text_of(page)
    assert re.findall(r"<h2>([^<]+)</h2>", page.read_text()) == HEADINGS


def test_test_images_that_are_gone_cost_their_pictures_alone(tmp_path):
    for run in make_sweep(tmp_path, ("none", "flip"), (1, 2), test_size=100, evaluated=20):
        config = OmegaConf.load(run.config_file)
        config.data.seed = 7  # another test set than the one the run was tested on
        run.config_file.write_text(OmegaConf.to_yaml(config))
    said = section(write_report([tmp_path]), "Where each network looks")
    assert "cannot be shown" in said
    assert "insertion" in said


def test_a_study_that_was_cut_short_says_what_is_missing(tmp_path):
    make_sweep(tmp_path / "full", ("none", "flip"), (1, 2), test_size=60, evaluated=0)
    full = text_of(write_report([tmp_path / "full"]))
    assert "4 epochs of 500 training images" in full
    assert "reduced" not in full
    cut = ["data.holdout=400", "trainer.limit_val_batches=1"]
    make_sweep(tmp_path / "cut", ("none",), (1, 2), test_size=60, evaluated=0, overrides=cut)
    said = text_of(write_report([tmp_path / "cut"]))
    assert "4 epochs of 200 training images" in said
    assert (
        "A reduced study : trained on 200 of 600 images ( data.holdout=400 ), cut by "
        "trainer.limit_val_batches=1 ." in said
    )


def test_an_epoch_costs_what_the_fastest_took(tmp_path):
    # What else the machine does only adds: 5 s in the first epoch of one run, 3 s in the other's second.
    for run, ends in zip(
        make_sweep(tmp_path, ("none",), (1, 2), test_size=60, epochs=2, evaluated=0),
        ([7.0, 9.0], [2.5, 7.5]),
        strict=True,
    ):
        metrics = run.metrics()
        for row, end in zip(metrics["history"], ends, strict=True):
            row["wall_seconds"] = end
        run.write_metrics(metrics)
    page = write_report([tmp_path])
    assert "the fastest epoch of none took 2.0 s" in text_of(page)
    assert "| 2.0 |" in section(page, "Ranking")


def test_pages_of_other_commands_are_passed_over_in_silence(tmp_path):
    make_sweep(tmp_path / "sweeps" / "a", ("none", "flip"), (1, 2), test_size=60, evaluated=0)
    for name in ("previews/2026-01-01_ab12cd", "sweeps/a/aug=none,seed=1/explain"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "index.html").write_text("<p>")
    page = write_report([tmp_path])
    assert "4 finished runs" in text_of(page)
    for words in ("preview", "explain", "left out"):
        assert words not in section(page, "How it was made")


def test_without_validation_the_curves_are_those_of_training(tmp_path):
    for run in make_sweep(tmp_path, ("none", "flip"), (1, 2), test_size=100, evaluated=0):
        metrics = run.metrics()
        metrics["val"] = None
        for row in metrics["history"]:
            for key in [key for key in row if key.startswith("val/")]:
                del row[key]
        run.write_metrics(metrics)
    said = section(write_report([tmp_path]), "Learning curves")
    assert "figures/training.png" in said
    assert "gap" not in said


def test_several_folders_go_into_a_third(tmp_path, capsys):
    make_run(tmp_path / "a" / "aug=none,seed=1", "none", 1, test_size=60, evaluated=0)
    make_run(tmp_path / "b" / "aug=flip,seed=1", "flip", 1, test_size=60, evaluated=0)
    both = [str(tmp_path / "a"), str(tmp_path / "b" / "aug=flip,seed=1")]
    with pytest.raises(UserError, match="out=DIR"):
        main(both)
    main([*both, f"out={tmp_path / 'c' / 'd'}"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "c" / "d" / "report.html")]
    assert not (tmp_path / "a" / "report.html").exists()
    assert "2 finished runs" in text_of(tmp_path / "c" / "d" / "report.html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["augcam report DIR"]),
        (["{sweep}/nowhere"], ["nowhere", "no such folder"]),
        (["{sweep}/figures"], ["figures", "no runs"]),
        (["{sweep}", "baseline=cutot"], ["cutot", "cutout"]),
        (["{sweep}", "basline=none"], ["basline", "baseline"]),
    ],
)
def test_a_wrong_request_is_refused_in_words(page, sweep, arguments, words):
    with pytest.raises(UserError) as refused:
        main([argument.format(sweep=sweep) for argument in arguments])
    for word in words:
        assert word in str(refused.value)


def test_a_refusal_has_exit_status_2_and_writes_nothing(tmp_path):
    done = report(str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert not list(tmp_path.iterdir())


@needs_chromium
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_every_section_and_nothing_sticks_out(page, tmp_path, width, scheme):
    """At the width of a phone and of a desktop, the details opened: all there, inside, legible."""
    seen = laid_out(page, tmp_path, width, scheme)
    assert seen["headings"] == HEADINGS
    assert seen["images"] == 7
    assert_legible(seen, width, scheme)
