"""`augcam audit`: verdicts in words and in audit.json, and bad input."""

import json
import shutil

import pytest
import torch

from augcam import train
from augcam.audit import Audit, audit
from augcam.audit.words import sentence
from augcam.cli.main import main
from augcam.data.datasets.shapes import class_names
from augcam.runs.finished_run import load_network
from augcam.runs.run_folder import RunFolder
from tests.cli.test_train import TINY

# The same network and images without a run: its weights are in the run's checkpoint.
NETWORK = [one for one in TINY if one.startswith(("model", "data"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "run"
    train([*TINY, "trainer.max_epochs=1", "aug=none", "preview.samples=0"], folder)
    return folder


def normalisation_of(folder):
    recorded = json.loads((folder / "metrics.json").read_text())["normalize"]
    return [f"{name}={','.join(map(str, recorded[name]))}" for name in ("mean", "std")]


@pytest.fixture(scope="module")
def normalisation(folder):
    return normalisation_of(folder)


def test_a_run_is_audited(folder):
    main(["audit", f"run={folder}", "n=60"])
    written = json.loads((folder / "audit.json").read_text())
    assert len(written["classes"]) == 10
    for one in written["classes"].values():
        assert one["verdict"] in ("no_sign", "look", "context", "shortcut", "undecided")
        assert {"region", "property", "follow_rate", "drop", "p", "images"} <= set(one)
        assert one["images"] == 6
    assert written["settings"]["images"] == 60
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "60 test images" in page
    assert all(name in page for name in written["classes"])


def test_of_a_sweep_every_finished_run_is_audited_and_what_hinders_one_is_told_last(
    folder, tmp_path, capfd
):
    for name in ("a", "b", "c", "unfinished"):
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / "audit.json").unlink(missing_ok=True)
    (tmp_path / "a" / "checkpoints" / "last.ckpt").unlink()
    (tmp_path / "unfinished" / "metrics.json").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["audit", f"run={tmp_path}", "n=60"])
    assert ended.value.code == 2
    written = {path.parent.name for path in tmp_path.rglob("audit.json")}
    assert written == {"b", "c"}
    said = capfd.readouterr()
    assert f"3/3  {tmp_path}/c" in said.out
    assert said.err == f"augcam: run={tmp_path}/a: there is no last.ckpt yet; has an epoch ended?\n"


def test_a_network_of_another_place_gets_the_verdicts_that_its_run_gets(
    tmp_path, monkeypatch, capfd
):
    results: list[Audit] = []

    def kept(*arguments, **options):
        results.append(audit(*arguments, **options))
        return results[-1]

    monkeypatch.setattr("augcam.audit.audit", kept)
    network = ["data=shapes", "data.train_size=3100", "data.test_size=300", "data.holdout=100",
               "model=resnet10", "model.width=16", "model.whiten=true"]  # fmt: skip
    folder = tmp_path / "run"
    train([*network, "data.batch_size=64", "trainer.max_epochs=3", "aug=none", "preview.samples=0",
           "explain.images=3", "trainer.accelerator=cpu"], folder)  # fmt: skip
    main(["audit", f"run={folder}"])
    weights = f"weights={folder}/checkpoints/last.ckpt"
    others = normalisation_of(folder)
    main(["audit", *network, weights, *others, f"out={tmp_path}/audited"])
    said = capfd.readouterr().out.splitlines()
    assert len(results) == 2
    for result in results:  # a line on every class, and where the page is
        assert {sentence(one, result.subject.size) for one in result.classes} <= set(said)
    assert {f"{folder}/audit.html", f"{tmp_path}/audited/audit.html"} <= set(said)
    of_the_run = json.loads((folder / "audit.json").read_text())
    assert json.loads((tmp_path / "audited" / "audit.json").read_text()) == of_the_run
    # Equal because both were decided, and not because neither had learnt anything.
    decided = [one for one in of_the_run["classes"].values() if one["verdict"] != "undecided"]
    assert len(decided) >= 8
    page = (tmp_path / "audited" / "audit.html").read_text(encoding="utf-8")
    assert "What resnet10 recognises each class by" in page
    assert "weights of last.ckpt, on shapes" in page
    # Too few images of every class: words, from a network that has learnt as well.
    main(["audit", f"run={folder}", "n=60"])
    few = json.loads((folder / "audit.json").read_text())
    assert few["settings"]["learnt"]
    assert {one["verdict"] for one in few["classes"].values()} == {"undecided"}


def test_a_network_of_more_classes_in_another_order_answers_among_those_of_the_images(
    folder, normalisation, tmp_path
):
    main(["audit", f"run={folder}", "n=60"])
    state = load_network(RunFolder(folder), folder / "checkpoints" / "last.ckpt", 10).state_dict()
    # One class before and one after the shapes, which are backwards.
    for name in ("fc.weight", "fc.bias"):
        strange = torch.full_like(state[name][:1], 9)
        state[name] = torch.cat([strange, state[name].flip(0), strange])
    torch.save(state, tmp_path / "w.pt")
    names = ["zebra", *reversed(class_names()), "yak"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    main(
        ["audit", *NETWORK, f"weights={tmp_path}/w.pt", f"names={tmp_path}/names.txt", "n=60",
         *normalisation, f"out={tmp_path}/audited"]
    )  # fmt: skip
    found = json.loads((tmp_path / "audited" / "audit.json").read_text())
    expected = json.loads((folder / "audit.json").read_text())
    assert list(found["classes"]) == list(expected["classes"])
    assert found["settings"]["accuracy"] == expected["settings"]["accuracy"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, "12 classes, but the images have 10; names=FILE says which is which"),
        ("\n".join("abcdefghijkl"), "names.txt: must have "),
        ("a\nb", "12 classes, but 2 names are given"),
    ],
)
def test_whose_classes_are_not_the_images_says_so(folder, tmp_path, capfd, names, words):
    state = load_network(RunFolder(folder), folder / "checkpoints" / "last.ckpt", 10).state_dict()
    state |= {name: torch.cat([state[name], state[name][:2]]) for name in ("fc.weight", "fc.bias")}
    torch.save(state, tmp_path / "w.pt")
    asked = ["audit", *NETWORK, f"weights={tmp_path}/w.pt", f"out={tmp_path}/audited"]
    if names is not None:
        (tmp_path / "names.txt").write_text(names)
        asked.append(f"names={tmp_path}/names.txt")
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert ended.value.code == 2
    assert words in capfd.readouterr().err
    assert not (tmp_path / "audited").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=resnet10"], "weights: must be given"),
        ([*NETWORK, "weights=nowhere.pt"], "weights=nowhere.pt: there is no such file"),
        (["model=torchvision", "model.arch=resnet18", "weights=x", "run=y"], "run"),
        ([], "run: must be given"),
        (["run=nowhere"], "not a run folder"),
        (["run=nowhere", "n=3"], "greater than or equal to 50"),
        (["run=nowhere", "images=3"], "images"),
    ],
)
def test_what_cannot_be_asked(arguments, words, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["audit", *arguments])
    assert ended.value.code == 2
    assert words in capfd.readouterr().err
