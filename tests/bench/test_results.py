"""The pages with measured numbers are exactly what the kept runs say."""

import dataclasses
import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from augcam.config.build import trust_given
from augcam.config.schema import plain, validate
from augcam.errors import UserError
from augcam.runs.build import build_data
from tests.conftest import ROOT, compose

sys.path.insert(0, str(ROOT / "bench"))
import results


def test_results_ablation_and_readme_are_what_the_script_writes():
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "results.py"), "check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def trusting(monkeypatch):
    """What a row trusts is trusted in its test alone."""
    monkeypatch.setattr("augcam.config.build._trusted", set())


def test_of_a_run_that_was_stopped_the_last_device_is_known():
    run = {
        "environment": {"device": "cpu", "cores": 2, "torch_threads": 1, "precision": "bf16-mixed"}
    }
    assert results.where(run) == "cpu, 1 of 2 cores, bf16-mixed"
    stopped = results.where(run | {"stops": 2})
    assert stopped == "cpu, 1 of 2 cores after the last stop, bf16-mixed"


def test_mean_and_spread():
    assert results.mean_and_spread([0.93, 0.94, 0.95]) == "94.00 ± 1.00 (n = 3)"
    assert results.mean_and_spread([0.93]) == "93.00 (n = 1)"


def with_accuracies(*accuracies, images=1_000_000):
    """Runs that get so many of a million images right, unless told otherwise."""
    hits = [round(accuracy * images) for accuracy in accuracies]
    return [{"val": {"accuracy": h / images, "confusion": [[h, images - h], [0, 0]]}} for h in hits]


def test_a_difference_comes_with_the_reports_interval():
    group, base = with_accuracies(0.71, 0.72, 0.73), with_accuracies(0.69, 0.70, 0.71)
    # Standard error sqrt(1/3 + 1/3); degrees of freedom halfway from 4 (Welch) to 2 (the least):
    # t(3) is 3.1824, times 0.8165 is 2.60.
    assert results.difference(group, base, "val") == "+2.00 (−0.60 to +4.60)"
    assert results.difference(group[:1], base, "val") == "+1.00"
    # The same five times, each at 99%: 5.8409 x 0.8165 = 4.77.
    assert results.difference(group, base, "val", compared=5) == "+2.00 (−2.77 to +6.77)"


def test_seeds_that_happen_to_agree_are_no_spread_of_zero():
    # Each run tosses 2,500 coins: a variance of 0.25 / 2,500 = 0.0001, a point's square, at least.
    equal = with_accuracies(0.5, 0.5, 0.5, images=2500)
    assert results.difference(equal, equal, "val") == "0.00 (−2.60 to +2.60)"


@pytest.fixture
def keep_run(tmp_path, monkeypatch):
    """Puts a made run where the kept ones lie."""
    monkeypatch.setattr(results, "KEPT", tmp_path)

    def keep(key, seed, accuracy, epochs, status="finished", prefix="", history=()):
        run = {
            "status": status, "seed": seed, "max_epochs": epochs, "wall_seconds": 60.0,
            "test": with_accuracies(accuracy)[0]["val"] if status == "finished" else None,
            "epochs": len(history), "history": list(history),
            "overrides": [f"experiment={key.replace('_', '/')}"],
            "environment": {"device": "cpu", "cores": 2, "precision": "32-true"},
        }  # fmt: skip
        (tmp_path / key).mkdir(parents=True, exist_ok=True)
        (tmp_path / key / f"{prefix}{results.stem(run)}.json").write_text(json.dumps(run))

    return keep


class TestAccuracyCell:
    recipe = results.BY_KEY["seed_d"]

    def test_nothing_run(self, keep_run):
        assert results.accuracy_cell(self.recipe) == "not run"

    def test_shorter_runs_say_so_and_are_not_mixed(self, keep_run):
        keep_run("seed_d", 1, 0.60, epochs=2)
        keep_run("seed_d", 1, 0.80, epochs=10)
        keep_run("seed_d", 2, 0.82, epochs=10)
        keep_run("seed_d", 3, 0.90, epochs=35, status="interrupted")
        assert (
            results.accuracy_cell(self.recipe)
            == "81.00 ± 1.41 (n = 2) after 10 epochs; whole: not run"
        )

    def test_whole_runs_count_alone(self, keep_run):
        keep_run("seed_d", 1, 0.80, epochs=10)
        keep_run("seed_d", 1, 0.93, epochs=35)
        keep_run("seed_d", 2, 0.99, epochs=35, prefix=results.TESTED)
        assert results.accuracy_cell(self.recipe) == "93.00 (n = 1)"


def test_first_epochs_stay_in_their_columns_and_the_best_is_picked(keep_run):
    history = [
        {"epoch": epoch, "val/accuracy": accuracy}
        for epoch, accuracy in ((1, 0.50), (3, 0.70), (4, 0.65))
    ]
    keep_run("seed_c", 1, 0.65, epochs=4, prefix=results.TESTED, history=history)
    row = next(line for line in results.first_epochs().splitlines() if "seed/c" in line)
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["1", "50.0", "", "70.0", "65.0", "", "70.0 (3)"]


def test_the_papers_difference_is_of_runs_of_one_length(keep_run):
    for seed, accuracy in enumerate((0.69, 0.70, 0.71), 1):
        keep_run("paper_crop_flip", seed, accuracy, epochs=30)
        keep_run("paper_crop_flip_cutout", seed, accuracy + 0.02, epochs=30)
    assert results.paper_difference() == "+2.00 (−0.60 to +4.60) after 30 epochs"
    keep_run("paper_crop_flip_cutout", 1, 0.95, epochs=60)
    assert results.paper_difference() == "not run"


class TestKeep:
    @pytest.fixture
    def folder(self, tmp_path, keep_run):
        """A run folder of `experiment=seed/d seed=7`, stopped after an epoch."""
        folder = tmp_path / "run"
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text("- experiment=seed/d\n- data.root=/x\n")
        (folder / "train.log").write_text(
            "INFO augcam: run      /home/me/outputs/run\n"
            "going on from /home/me/run/checkpoints/last.ckpt\n"
            "epoch 1/35  batch 3/781\nepoch 1/35  train loss 2\n"
        )
        metrics = {
            "config": OmegaConf.to_container(
                compose(["experiment=seed/d", "seed=7"]), resolve=True
            ),
            "status": "interrupted", "seed": 7, "epochs": 1,
            "history": [{"epoch": 1, "val/accuracy": 0.5, "train/ece": 0.1}],
        }  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    def test_a_run_is_kept_without_paths_and_with_the_ends_of_its_epochs(self, tmp_path, folder):
        results.keep("seed_d", [str(folder)])
        kept = json.loads((tmp_path / "seed_d" / "35epochs_seed7.json").read_text())
        assert kept["overrides"] == ["experiment=seed/d"]
        assert kept["history"] == [{"epoch": 1, "val/accuracy": 0.5}]
        assert "config" not in kept
        log = (tmp_path / "seed_d" / "35epochs_seed7.log").read_text()
        assert log == (
            "INFO augcam: run      outputs/run\n"
            "going on from checkpoints/last.ckpt\nepoch 1/35  train loss 2\n"
        )

    def test_a_run_older_than_a_key_was_made_with_its_default(self, tmp_path, folder):
        metrics = json.loads((folder / "metrics.json").read_text())
        del metrics["config"]["model"]["whiten"]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        results.keep("seed_d", [str(folder)])
        assert (tmp_path / "seed_d" / "35epochs_seed7.json").is_file()

    @pytest.mark.parametrize("recipe", results.RECIPES, ids=lambda recipe: recipe.key)
    def test_each_recipe_builds_and_its_own_run_is_kept(self, tmp_path, folder, recipe):
        config = validate(compose([*recipe.overrides.split(), "seed=7"]))
        build_data(config)
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"config": plain(config)}))
        results.keep(recipe.key, [str(folder)])
        assert (tmp_path / recipe.key / f"{recipe.epochs}epochs_seed7.json").is_file()

    @pytest.mark.parametrize(
        ("key", "words"),
        [(f"{name}/{k}", w) for name, study in results.STUDIES.items() for k, w in study.items()],
    )
    def test_so_are_the_runs_of_a_study(self, tmp_path, folder, key, words, trusting):
        config = validate(compose([*trust_given(words.split()), "seed=7"]))
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"config": plain(config)}))
        results.keep(key, [str(folder)])
        assert len(list((tmp_path / key).glob("*epochs_seed7.json"))) == 1

    def test_a_run_without_the_callback_is_not_the_rows(self, folder):
        config = validate(compose(results.ablation.BUDGET.split()))
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"config": plain(config)}))
        with pytest.raises(UserError, match="its callbacks is not that of"):
            results.keep("ablation/ema", [str(folder)])

    def test_a_compiled_run_is_the_rows_and_its_command_says_so(self, tmp_path, folder):
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["config"]["model"]["compile"] = True
        (folder / "metrics.json").write_text(json.dumps(metrics))
        overrides = folder / ".hydra" / "overrides.yaml"
        overrides.write_text(overrides.read_text() + "- model.compile=true\n")
        results.keep("seed_d", [str(folder)])
        (kept,) = results.kept("seed_d")
        assert kept["overrides"] == ["experiment=seed/d", "model.compile=true"]

    def test_another_recipes_run_is_refused(self, folder):
        with pytest.raises(UserError, match="its aug is not that of experiment=seed/e"):
            results.keep("seed_e", [str(folder)])

    def test_so_is_another_batch_size(self, folder):
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["config"]["data"]["batch_size"] = 128
        (folder / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(
            UserError, match=r"its data\.batch_size is not that of experiment=seed/d"
        ):
            results.keep("seed_d", [str(folder)])


class TestReadmeAndHalfFinished:
    def test_readme_has_whole_runs_alone(self, keep_run):
        keep_run("seed_d", 1, 0.93, epochs=35)
        keep_run("seed_d", 2, 0.95, epochs=35)
        keep_run("seed_c", 1, 0.70, epochs=2)
        keep_run("seed_e", 1, 0.90, epochs=35, status="interrupted")
        rows = results.short().splitlines()[2:]
        assert len(rows) == 1
        assert "94.00 ± 1.41 (n = 2)" in rows[0]
        assert "[2](docs/results/seed_d/35epochs_seed2.log)" in rows[0]

    def test_a_half_finished_run_is_a_curve_with_its_epochs_until_one_is_whole(self, keep_run):
        assert results.unfinished() == "None."
        keep_run("seed_e", 1, 0.90, epochs=35, status="interrupted", history=[{}] * 7)
        assert "seed 1: 7 of 35 epochs" in results.unfinished()
        assert results.curves() == "None."
        keep_run("seed_e", 2, 0.91, epochs=35, history=[{}] * 35)
        assert results.unfinished() == "None."
        assert "seed 2: 35 of 35 epochs" in results.curves()

    def test_it_stands_beside_the_reference(self, tmp_path, keep_run, monkeypatch):
        drawn = {}
        monkeypatch.setattr(results, "curves_figure", lambda curves, _: drawn.update(curves))
        monkeypatch.setattr(results, "figure_array", lambda figure: None)
        monkeypatch.setattr(results, "save_png", lambda image, path: None)
        history = [{"epoch": 1, "train/accuracy": 0.4}, {"epoch": 2, "train/accuracy": 0.5}]
        keep_run("seed_c", 1, 0.5, epochs=15, status="interrupted", history=history)
        results.draw_curves(results.BY_KEY["seed_c"], tmp_path / "x.png")
        assert drawn["the reference, test"][:2] == [(1, 0.64), (2, 0.72)]
        assert drawn["training, seed 1"] == [(1, 0.4), (2, 0.5)]


class TestFilled:
    @pytest.fixture(autouse=True)
    def blocks(self, monkeypatch):
        monkeypatch.setattr(results, "BLOCKS", {"a": lambda: "new", "b": lambda: "| 1 |"})

    def test_what_stands_between_marks_is_replaced_and_nothing_else(self):
        page = "in <!-- a -->old<!-- /a -->.\n<!-- b -->\n| 0 |\n| 0 |\n<!-- /b -->\nend\n"
        assert results.filled(page) == (
            "in <!-- a -->new<!-- /a -->.\n<!-- b -->\n| 1 |\n<!-- /b -->\nend\n"
        )

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            ("<!-- c --><!-- /c -->", "no such block; valid: a, b"),
            ("<!-- a -->", "without its"),
            ("<!-- a --><!-- /a --><!-- /b -->", "without its"),
        ],
    )
    def test_wrong_marks_are_refused(self, page, message):
        with pytest.raises(UserError, match=message):
            results.filled(page)


def test_every_row_names_what_conf_has():
    assert [r.key for r in results.RECIPES if not r.is_available()] == []
    assert not dataclasses.replace(results.RECIPES[0], overrides="aug=no_such").is_available()
