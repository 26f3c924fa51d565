"""Run folders made by an attacker, against every command that opens one.

Whatever a folder holds: nothing in it runs, nothing outside it is written, no environment variable
shows up anywhere, and the answer is an exit status, not a traceback. `pytest -s` prints the count.
"""

import gzip
import io
import json
import logging
import os
import pickle
import re
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from augcam.cli.main import main

SECRET = "s3cr3t-0f-th3-3nv1r0nm3nt"
TINY = [
    "data=shapes", "data.train_size=100", "data.test_size=40", "data.holdout=20", "data.batch_size=20",
    "model=resnet10", "model.width=8", "explain.images=0", "preview.samples=0", "aug=flip",
    "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
]  # fmt: skip
COMMANDS = {
    "train": lambda folder: ["train", f"run={folder}"],
    "train anew": lambda folder: ["train", f"hydra.run.dir={folder}", *TINY],
    "evaluate": lambda folder: ["evaluate", f"run={folder}", "n=10", "samples=10"],
    "explain": lambda folder: ["explain", f"run={folder}", "n=1", "layers=layer4"],
    "audit": lambda folder: ["audit", f"run={folder}", "n=50"],
    "report": lambda folder: ["report", str(folder), f"out={folder.parent / 'page'}"],
    "refine": lambda folder: ["refine", str(folder), f"out={folder.parent / 'refined'}"],
}


class Scene(NamedTuple):
    """Where an attack happens."""

    folder: Path  # the hostile run folder, in outputs/
    outside: Path  # what must not change
    canary: Path  # what an executed payload creates

    def config(self) -> dict:
        return yaml.safe_load(self.file.read_text())

    @property
    def file(self) -> Path:
        return self.folder / ".hydra" / "config.yaml"

    def changed(self, **values: object) -> None:
        """Set keys of the config, dotted as `data__root`."""
        config = self.config()
        for key, value in values.items():
            node, *rest = key.split("__")
            if rest:
                config[node]["__".join(rest)] = value
            else:
                config[node] = value
        self.file.write_text(yaml.safe_dump(config, sort_keys=False))

    def unfinished(self) -> None:
        (self.folder / "metrics.json").unlink()

    def untrained(self) -> None:
        self.unfinished()
        shutil.rmtree(self.folder / "checkpoints")


ATTACKS: dict[str, Callable[[Scene], None]] = {}


def attack(function: Callable[[Scene], None]) -> Callable[[Scene], None]:
    ATTACKS[function.__name__] = function
    return function


class Payload:
    """What creates the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


# --- Hydra's own side -----------------------------------------------------------------------------


@attack
def hydra_callback_loads_a_pickle(scene: Scene) -> None:
    bomb = scene.folder / "x.pt"
    bomb.write_bytes(pickle.dumps(Payload(scene.canary)))
    target = {"_target_": "torch.load", "f": str(bomb), "weights_only": False}
    scene.changed(hydra={"callbacks": {"x": target}})


@attack
def hydra_callback_loads_an_array(scene: Scene) -> None:
    bomb = scene.folder / "x.npy"
    with bomb.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        pickle.dump(Payload(scene.canary), file)
    target = {"_target_": "numpy.load", "file": str(bomb), "allow_pickle": True}
    scene.changed(hydra={"callbacks": {"x": target}})


@attack
def hydra_logging_handler_is_a_callable(scene: Scene) -> None:
    handler = {"()": "os.mkdir", "path": str(scene.canary)}
    scene.changed(hydra={"job_logging": {"version": 1, "handlers": {"x": handler}}})


@attack
def hydra_logging_overwrites_a_file(scene: Scene) -> None:
    scene.changed(hydra={"job_logging": {"handlers": {"file": {"filename": str(scene.canary)}}}})


@attack
def hydra_sets_the_environment(scene: Scene) -> None:
    scene.changed(hydra={"job": {"env_set": {"LD_PRELOAD": "/x.so", "PATH": str(scene.folder)}}})


@attack
def hydra_writes_elsewhere(scene: Scene) -> None:
    scene.changed(hydra={"run": {"dir": str(scene.outside / "run")}})


@attack
def hydra_searches_here(scene: Scene) -> None:
    scene.changed(hydra={"searchpath": [str(scene.folder / ".hydra")]}, defaults=["evil", "_self_"])


@attack
def sibling_logging_config(scene: Scene) -> None:
    for group in ("job_logging", "hydra_logging"):
        planted = scene.folder / ".hydra" / "hydra" / group / "augcam.yaml"
        planted.parent.mkdir(parents=True)
        handler = {"()": "os.mkdir", "path": str(scene.canary)}
        planted.write_text(yaml.safe_dump({"version": 1, "handlers": {"x": handler}}))


@attack
def sibling_train_config(scene: Scene) -> None:
    evil = {
        "hydra": {"run": {"dir": str(scene.outside / "run")}},
        "name": "${oc.env:AUGCAM_SECRET}",
    }
    for name in ("train.yaml", "continuation.yaml"):
        (scene.folder / ".hydra" / name).write_text(yaml.safe_dump(evil))


@attack
def overrides_of_an_attacker(scene: Scene) -> None:
    file = scene.folder / ".hydra" / "overrides.yaml"
    file.write_text(f"- hydra.run.dir={scene.outside}\n- name=${{oc.env:AUGCAM_SECRET}}\n")


@attack
def overrides_with_a_tag(scene: Scene) -> None:
    file = scene.folder / ".hydra" / "overrides.yaml"
    file.write_text(f"- !!python/object/apply:os.mkdir ['{scene.canary}']\n")


@attack
def hydra_record_with_a_tag(scene: Scene) -> None:
    scene.changed(aug_name="${hydra:runtime.choices.aug}")
    file = scene.folder / ".hydra" / "hydra.yaml"
    file.write_text(f"hydra: !!python/object/apply:os.mkdir ['{scene.canary}']\n")


# --- YAML -----------------------------------------------------------------------------------------


@attack
def yaml_tag_calls_a_function(scene: Scene) -> None:
    with scene.file.open("a") as file:
        file.write(f"x: !!python/object/apply:os.mkdir ['{scene.canary}']\n")


@attack
def yaml_tag_names_a_function(scene: Scene) -> None:
    with scene.file.open("a") as file:
        file.write("x: !!python/name:os.system\n")


@attack
def yaml_alias_bomb(scene: Scene) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    scene.file.write_text("\n".join(lines))


@attack
def yaml_merge_key(scene: Scene) -> None:
    scene.file.write_text("x: &x {name: y}\ndata:\n  <<: *x\n")


@attack
def yaml_of_ten_megabytes(scene: Scene) -> None:
    scene.file.write_text("name: " + "x" * 10_000_000)


@attack
def yaml_too_deep(scene: Scene) -> None:
    scene.file.write_text("name: " + "[" * 50_000)


@attack
def yaml_duplicate_keys(scene: Scene) -> None:
    with scene.file.open("a") as file:
        file.write("name: another\n")


@attack
def yaml_that_is_binary(scene: Scene) -> None:
    scene.file.write_bytes(bytes(range(256)) * 20)


@attack
def yaml_is_a_list(scene: Scene) -> None:
    scene.file.write_text("- name: x\n")


# --- interpolations -------------------------------------------------------------------------------


@attack
def environment_in_the_name(scene: Scene) -> None:
    scene.changed(name="${oc.env:AUGCAM_SECRET}")


@attack
def environment_in_the_data_root(scene: Scene) -> None:
    data = {
        k: v
        for k, v in scene.config()["data"].items()
        if k.endswith(("size", "workers", "holdout"))
    }
    data |= {"name": "cifar10", "root": "${oc.env:AUGCAM_SECRET}"}
    for key in ("train_size", "test_size"):
        del data[key]
    scene.changed(data=data)


@attack
def environment_in_a_default(scene: Scene) -> None:
    scene.changed(name="${oc.env:NOT_SET,${oc.env:AUGCAM_SECRET}}")


@attack
def environment_in_metrics(scene: Scene) -> None:
    file = scene.folder / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["config"]["seed"] = "${oc.env:AUGCAM_SECRET}"
    metrics["name"] = "${oc.env:AUGCAM_SECRET}"
    metrics["status"] = "interrupted"
    file.write_text(json.dumps(metrics))


@attack
def environment_in_a_transform(scene: Scene) -> None:
    scene.changed(
        aug__flip={"_target_": "albumentations.HorizontalFlip", "p": "${oc.env:AUGCAM_SECRET}"}
    )


@attack
def resolver_of_ours(scene: Scene) -> None:
    scene.changed(name="${unique:}_${short:${oc.env:AUGCAM_SECRET}}")


@attack
def resolver_of_hydra(scene: Scene) -> None:
    scene.changed(name="${hydra:job.env_set}")


@attack
def resolver_decodes(scene: Scene) -> None:
    scene.changed(name="${oc.decode:${oc.env:AUGCAM_SECRET}}")


@attack
def reference_to_itself(scene: Scene) -> None:
    scene.changed(aug_name="${aug_name}", name="${aug_name}")


@attack
def references_that_grow(scene: Scene) -> None:
    scene.changed(aug_name="${sweep.name}" * 1000, name="${aug_name}" * 1000)


# --- what is built --------------------------------------------------------------------------------


@attack
def transform_is_a_system_call(scene: Scene) -> None:
    scene.changed(aug__flip={"_target_": "os.mkdir", "path": str(scene.canary)})


@attack
def transform_is_a_function_of_ours(scene: Scene) -> None:
    target = "augcam.atomic.write_atomically"
    scene.changed(aug__flip={"_target_": target, "path": str(scene.canary), "text": "x"})


@attack
def transform_is_nested(scene: Scene) -> None:
    inner = {"_target_": "os.mkdir", "path": str(scene.canary)}
    scene.changed(aug__flip={"_target_": "albumentations.OneOf", "transforms": [inner]})


@attack
def constant_is_a_function(scene: Scene) -> None:
    constant = {"_target_": "hydra.utils.get_object", "path": "os.system"}
    scene.changed(aug__flip={"_target_": "albumentations.Rotate", "border_mode": constant})


@attack
def optimizer_loads_a_pickle(scene: Scene) -> None:
    scene.changed(optim___target_="torch.load")


@attack
def scheduler_is_a_function(scene: Scene) -> None:
    scene.changed(scheduler___target_="torch.hub.load")


@attack
def callback_writes_elsewhere(scene: Scene) -> None:
    callback = {
        "_target_": "pytorch_lightning.callbacks.ModelCheckpoint",
        "dirpath": str(scene.outside),
    }
    scene.changed(callbacks={"x": callback})


@attack
def callback_lists_its_batches_elsewhere(scene: Scene) -> None:
    callback = {
        "_target_": "pytorch_lightning.callbacks.SpikeDetection",
        "exclude_batches_path": str(scene.outside / "made" / "batches.json"),
        "warmup": 0, "rtol": None,  # the first batch is a spike
    }  # fmt: skip
    scene.changed(callbacks={"x": callback})
    scene.untrained()


@attack
def loggers_write_elsewhere(scene: Scene) -> None:
    csv = {"save_dir": str(scene.outside), "name": "../outside/y"}
    board = {"save_dir": str(scene.outside), "name": "board"}
    scene.changed(
        logger={
            "csv": {"_target_": "pytorch_lightning.loggers.CSVLogger"} | csv,
            "board": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger"} | board,
        }
    )
    scene.untrained()


@attack
def callback_is_a_system_call(scene: Scene) -> None:
    scene.changed(callbacks={"x": {"_target_": "os.mkdir", "path": str(scene.canary)}})


@attack
def logger_sends_the_key_elsewhere(scene: Scene) -> None:
    settings = {"base_url": "http://127.0.0.1:9"}
    logger = {"_target_": "pytorch_lightning.loggers.WandbLogger", "settings": settings}
    scene.changed(logger={"x": logger})


@attack
def folder_trusts_a_package(scene: Scene) -> None:
    package = scene.folder / "evil.py"
    package.write_text(f"open({str(scene.canary)!r}, 'w')\nclass Evil: pass\n")
    shutil.copy(package, scene.folder.parent.parent / "evil.py")  # where the command is run
    scene.changed(trust=["evil"], optim___target_="evil.Evil")


# --- values ---------------------------------------------------------------------------------------


@attack
def numbers_that_are_none(scene: Scene) -> None:
    scene.changed(aug__flip={"_target_": "albumentations.Rotate", "limit": float("nan")})
    scene.changed(optim__lr=float("inf"))


@attack
def numbers_that_are_huge(scene: Scene) -> None:
    scene.changed(model__width=8 * 10**30, seed=10**40, trainer__max_epochs=10**30)


@attack
def aug_number_that_is_huge(scene: Scene) -> None:
    scene.changed(aug__flip={"_target_": "albumentations.Rotate", "limit": 1e300, "p": 1.0})
    scene.unfinished()


@attack
def name_leaves_the_folder(scene: Scene) -> None:
    path = "../../../../" + str(scene.outside / "x")
    scene.changed(name=path, aug_name=path)
    scene.changed(sweep__dir=str(scene.outside), sweep__name=path)


@attack
def names_are_markup(scene: Scene) -> None:
    scene.changed(
        name="[/x][red]<script>alert(1)</script>", aug_name="[/x]<img src=x onerror=alert(1)>"
    )
    file = scene.folder / "metrics.json"
    metrics = json.loads(file.read_text().replace("circle", "<script>alert(1)</script>"))
    metrics |= {"name": "[/x]<script>alert(1)</script>", "aug": "<script>alert(1)</script>"}
    metrics["config"] |= {
        "name": "<script>alert(1)</script>",
        "aug_name": "[/x]<script>alert(1)</script>",
    }
    metrics["environment"] = dict.fromkeys(metrics["environment"], "<script>alert(1)</script>")
    file.write_text(json.dumps(metrics))


@attack
def names_are_markdown(scene: Scene) -> None:
    evil = "![x](http://127.0.0.1:9/x.png) [y](javascript:alert(1)) <http://127.0.0.1:9>"
    scene.changed(name=evil, aug_name=evil)
    file = scene.folder / "metrics.json"
    metrics = json.loads(file.read_text().replace("circle", evil))
    metrics |= {"name": evil, "aug": evil, "data": evil, "model": evil}
    metrics["environment"] = dict.fromkeys(metrics["environment"], evil)
    file.write_text(json.dumps(metrics))


@attack
def failure_is_markup(scene: Scene) -> None:
    scene.unfinished()
    (scene.folder / "failure.txt").write_text("augcam: [/x] <script>alert(1)</script>")


# --- files ----------------------------------------------------------------------------------------


@attack
def config_is_a_link_to_a_secret(scene: Scene) -> None:
    secret = scene.outside / "credentials"
    secret.write_text(f"token: [{SECRET}\n")
    scene.file.unlink()
    scene.file.symlink_to(secret)


@attack
def config_is_a_pipe(scene: Scene) -> None:
    scene.file.unlink()
    os.mkfifo(scene.file)


@attack
def figures_are_a_link_out(scene: Scene) -> None:
    for name in ("figures", "explain"):
        shutil.rmtree(scene.folder / name, ignore_errors=True)
        (scene.folder / name).symlink_to(scene.outside)


@attack
def log_is_a_link_out(scene: Scene) -> None:
    victim = scene.outside / "victim"
    victim.write_text("precious")
    scene.unfinished()
    for name in ("train.log", "hparams.yaml", ".lock", "evaluation.json", "failure.txt"):
        (scene.folder / name).unlink(missing_ok=True)
        (scene.folder / name).symlink_to(victim)


@attack
def checkpoints_are_a_link_out(scene: Scene) -> None:
    scene.unfinished()
    shutil.rmtree(scene.folder / "checkpoints")
    (scene.folder / "checkpoints").symlink_to(scene.outside)


@attack
def checkpoint_is_a_pickle(scene: Scene) -> None:
    scene.unfinished()
    for name in ("last", "best", "previous"):
        file = scene.folder / "checkpoints" / f"{name}.ckpt"
        file.write_bytes(pickle.dumps({"state_dict": Payload(scene.canary)}))


@attack
def checkpoint_is_a_zip_with_a_pickle(scene: Scene) -> None:
    scene.unfinished()
    last = scene.folder / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(last) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(last, "w") as archive:
        for name, content in contents.items():
            evil = pickle.dumps({"state_dict": Payload(scene.canary)}, protocol=2)
            archive.writestr(name, evil if name.endswith("data.pkl") else content)


@attack
def checkpoint_of_another_config(scene: Scene) -> None:
    import torch

    scene.unfinished()
    last = scene.folder / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    saved["config"] = {"name": "${oc.env:AUGCAM_SECRET}", "hydra": {"x": 1}}
    torch.save(saved, last)


@attack
def predictions_hold_a_pickle(scene: Scene) -> None:
    bomb = np.array([Payload(scene.canary)], dtype=object)
    for name in ("test_predictions.npz", "evaluation.npz"):
        np.savez(scene.folder / name, predicted=bomb, confidence=bomb, label=bomb)


@attack
def predictions_claim_terabytes(scene: Scene) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)}
    )
    for name in ("test_predictions.npz", "evaluation.npz"):
        with zipfile.ZipFile(scene.folder / name, "w") as archive:
            for key in ("predicted", "confidence", "label"):
                archive.writestr(f"{key}.npy", header.getvalue())


@attack
def metrics_too_deep(scene: Scene) -> None:
    (scene.folder / "metrics.json").write_text("[" * 100_000)


@attack
def metrics_hold_nonsense(scene: Scene) -> None:
    file = scene.folder / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics |= {
        "config": [1],
        "classes": "abc",
        "val": 7,
        "test": {"accuracy": None},
        "history": {},
    }
    file.write_text(json.dumps(metrics))


@attack
def evaluation_is_nonsense(scene: Scene) -> None:
    (scene.folder / "evaluation.json").write_text('["<script>alert(1)</script>"]')
    (scene.folder / "evaluation.npz").write_bytes(gzip.compress(b"x" * 1000))


@attack
def files_are_folders(scene: Scene) -> None:
    for name in ("test_predictions.npz", "train.log", "hparams.yaml"):
        (scene.folder / name).unlink(missing_ok=True)
        (scene.folder / name).mkdir()


# --- the tests ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run as it should be."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    status = command(["train", f"hydra.run.dir={folder}", *TINY])
    assert status == 0
    return folder


def command(arguments: list[str]) -> int:
    """Its exit status."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        logging.getLogger().handlers.clear()  # Hydra's; a process of its own would end here
    return 0


EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
_watching: list[tuple[str, str]] | None = None


def _audit(event: str, arguments: tuple) -> None:
    """Note whatever is executed, sent, or written; see the table of audit events in Python's manual."""
    if _watching is None:
        return
    if event in EXECUTED:
        _watching.append((event, str(arguments[0])))
    elif event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and (
            (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        ):
            _watching.append((event, os.fsdecode(path)))
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
        _watching.append((event, os.fsdecode(arguments[0])))
    elif event in ("os.rename", "os.link", "os.symlink"):
        _watching.append((event, os.fsdecode(arguments[1])))


@pytest.fixture(scope="module", autouse=True)
def _audited() -> Iterator[None]:
    global _watching
    sys.addaudithook(_audit)  # for the life of the process: none can be taken away
    yield
    _watching = None


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_runs_and_nothing_leaks(finished, tmp_path, monkeypatch, capfd, name):
    global _watching
    for variable in ("AUGCAM_SECRET", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(variable, SECRET)
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    canary = outside / "canary"

    for label, words in COMMANDS.items():
        folder = tmp_path / "outputs" / f"{label.replace(' ', '_')}"
        shutil.copytree(finished, folder)
        ATTACKS[name](Scene(folder, outside, canary))
        planted = {p: p.read_bytes() for p in outside.iterdir() if p.is_file()}
        _watching = []
        status = command(words(folder))
        watched, _watching = _watching, None
        shown = "".join(capfd.readouterr())
        assert status in (0, 1, 2), f"{label}: {status}"
        # "debug=true shows where" ends the message of a fault that nobody has thought of.
        assert "Traceback" not in shown, f"{label}: {shown}"
        assert "debug=true" not in shown, f"{label}: {shown}"
        assert not canary.exists(), f"{label}: the payload ran"
        assert {p: p.read_bytes() for p in outside.iterdir() if p.is_file()} == planted, label
        elsewhere = [
            (event, what)
            for event, what in watched
            if event in EXECUTED or str(outside) in str(Path(what).resolve())
        ]
        assert not elsewhere, f"{label}: {elsewhere}"
        assert SECRET not in shown, label
        for path in (tmp_path / "outputs").rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                assert SECRET.encode() not in content, f"{label}: {path}"
                if path.suffix == ".html":
                    assert b"<script>alert" not in content, f"{label}: {path}"
                    assert b"<img src=x" not in content, f"{label}: {path}"
                    addresses = rb"""(src|href)=["']?(http|javascript)"""
                    assert not re.search(addresses, content), f"{label}: {path}"
        shutil.rmtree(tmp_path / "outputs")


def png(width: int, height: int) -> bytes:
    """A PNG file whose header claims so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


IMAGES = {
    "bomb.png": lambda path: path.write_bytes(png(60_000, 60_000)),
    "pipe.png": os.mkfifo,
    "device.png": lambda path: path.symlink_to("/dev/zero"),
    "page.png": lambda path: path.write_text("<script>alert(1)</script>"),
    "empty.png": lambda path: path.write_bytes(b""),
    "[b]<img src=x onerror=alert(1)>.png": lambda path: path.write_bytes(b"x"),
}


@pytest.mark.parametrize(
    ("command_name", "name"),
    [(command_name, name) for command_name in ("preview", "train", "explain") for name in IMAGES],
)
def test_images_of_an_attacker(finished, tmp_path, monkeypatch, capfd, name, command_name):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "images"
    for label in ("<script>alert(1)<", "[x]"):
        place = root / label
        place.mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    IMAGES[name](place / name)
    data = ["data=folder", f"data.root={root}", "data.image_size=32", "data.batch_size=4"]
    rest = [word for word in TINY if not word.startswith("data")]
    words = {
        "preview": ["preview", *data, "aug=flip", "samples=1", "draws=1", "out=outputs/page"],
        "train": ["train", *data, *rest, "hydra.run.dir=outputs/run"],
        "explain": ["explain", f"run={finished}", f"images={root}/*/*", "n=1", "layers=layer4"],
    }[command_name]
    status = command(words)
    shown = "".join(capfd.readouterr())
    assert status in (0, 2), shown
    assert "Traceback" not in shown
    assert "debug=true" not in shown
    for page in (*tmp_path.rglob("*.html"), *finished.rglob("*.html")):
        assert "<script>alert" not in page.read_text()
        assert "<img src=x" not in page.read_text()


def test_the_corpus_is_large_enough(capsys):
    with capsys.disabled():
        print(f"\n{len(ATTACKS)} hostile folders x {len(COMMANDS)} commands")
    assert len(ATTACKS) >= 30
