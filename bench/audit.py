"""How often does `augcam audit` name a planted cue, and how often one that is not there?

    python bench/audit.py train measurement      # the networks, kept in outputs/audit-bench
    python bench/audit.py measure measurement    # an audit of each, kept beside them
    python bench/audit.py table measurement
    python bench/audit.py time                   # 1,000 images with a ResNet18
    python bench/audit.py pictures development   # two of docs/audit.md
    python bench/audit.py tagged --folder DIR    # CIFAR-10 as folders, one class with a tag

`train` and `measure` go on where they were stopped, and stop by themselves after `--minutes`. The cues
are in `_planted.py`. `development` in place of `measurement` has other seeds, and not the cue that is
left out: the audit was written with those networks.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

# The networks are small: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _planted import CUES, LEFT_OUT, Box, Design, Scope, class_names, pasted, planted
from _timing import machine, markdown, show
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import ResNet

from augcam.audit.pictures import given_to_others, of_the_class
from augcam.audit.words import sentence
from augcam.data.datasets.base import ImageSet
from augcam.models.resnet import resnet, whitening_filters
from augcam.viz.grid import save_png

if TYPE_CHECKING:
    from augcam.audit import Audit

Which = Literal["development", "measurement"]
Kind = tuple[Scope, str, float]
DATA: tuple[Literal["shapes", "cifar10"], ...] = ("shapes", "cifar10")
TRAINING = {"shapes": (3000, 6), "cifar10": (6000, 5)}  # images, epochs
IMAGES = 1000  # audited
MEAN, STD = (120 / 255,) * 3, (60 / 255,) * 3  # of all networks' normalization
# Twice what the audit itself calls nothing. A cue that moves fewer of the other classes' images has not
# been learned.
LEARNED = 0.4
COMMANDS = ("train", "measure", "table", "time", "pictures", "tagged")
FIRST_SEED = {"development": 1000, "measurement": 9000}


def designs(which: Which) -> list[Design]:
    """The networks of a set: one class with a strong cue beside honest runs first, then the others."""
    names = [name for name in CUES if which == "measurement" or name != LEFT_OUT]
    few = which == "development"
    strong, weak = itertools.cycle((1.0, 0.95, 0.9)), itertools.cycle((0.5, 0.6, 0.7, 0.8))
    one: list[Kind] = [("one", name, next(strong)) for name in names]
    honest: list[Kind] = [("honest", "", 0.0)] * (2 if few else 14)
    # What carries a distractor is drawn without looking at the class.
    distracted: list[Kind] = [("distractor", name, next(weak)) for name in names[: 1 if few else 6]]
    seldom: list[Kind] = [("one", name, next(weak)) for name in names]
    everywhere: list[Kind] = [("all", name, next(strong)) for name in names]
    if few:
        seldom, everywhere = [], everywhere[:1]
    phases = ((one, honest), (seldom, distracted), (everywhere,))
    order = [
        kind for rows in phases for row in itertools.zip_longest(*rows) for kind in row if kind
    ]
    seeds = itertools.count(FIRST_SEED[which])
    return [
        Design(data, next(seeds), scope, cue, prevalence)
        for scope, cue, prevalence in order
        for data in DATA
    ]


def normalized(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W), about -2..2: the same for all networks."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return (
        pixels.float()
        .div(255)
        .sub(MEAN[0])
        .div(STD[0])
        .contiguous(memory_format=torch.channels_last)
    )


def fit(design: Design) -> nn.Module:
    """AugCAM's resnet10 on a design's training images, flipped at random, in eval mode."""
    size, epochs = TRAINING[design.data]
    images, _ = planted(design, "train", size)
    assert isinstance(images.images, np.ndarray)
    pixels, labels = normalized(images.images), torch.from_numpy(images.labels)
    torch.manual_seed(design.seed)
    network = untrained()
    assert isinstance(network.conv1, nn.Sequential)
    first = network.conv1[0]
    assert isinstance(first, nn.Conv2d)
    first.weight.data.copy_(whitening_filters(pixels[:256]))
    network.to(memory_format=torch.channels_last).train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (size // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(size)[: size // 64 * 64].split(64):
            batch = pixels[rows]
            flip = torch.rand(64) < 0.5
            batch[flip] = batch[flip].flip(3)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch)
            loss = F.cross_entropy(logits.float(), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def predicted(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """The class of each image: int (N,)."""
    with torch.inference_mode():
        parts = [network(normalized(images[i : i + 250])) for i in range(0, len(images), 250)]
    return torch.cat(parts).argmax(1).numpy()


def learned(network: nn.Module, design: Design) -> dict[str, object]:
    """What the network has learned: accuracy, and the share of others' images that follow the cue.

    `follows` is that of each class with a cue: of the images of other classes, all given the cue, the
    share that is classified as the class.
    """
    images, _ = planted(design, "test", IMAGES)
    assert isinstance(images.images, np.ndarray)
    classes = predicted(network, images.images)
    follows = {
        label: float((predicted(network, pasted(design, label, 300)) == label).mean())
        for label in design.planted()
    }
    return {"accuracy": float((classes == images.labels).mean()), "follows": follows}


def train(which: Which, folder: Path, minutes: float) -> None:
    """Train the networks that are not there yet."""
    for design in _within(minutes, designs(which)):
        path = folder / f"{design}.pt"
        if path.exists():
            continue
        start = time.perf_counter()
        network = fit(design)
        result = learned(network, design)
        torch.save(network.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".json").write_text(json.dumps(result))
        path.with_suffix(".part").replace(path)
        print(f"{design}: {result}, {time.perf_counter() - start:.0f} s", flush=True)


def untrained() -> ResNet:
    """AugCAM's resnet10, as the networks here are."""
    return resnet(10, width=16, blocks=(1, 1, 1, 1), whiten=True)


def trained(design: Design, folder: Path) -> nn.Module | None:
    """A design's network, in eval mode; None where it is not there yet."""
    path = folder / f"{design}.pt"
    if not path.exists():
        return None
    network = untrained()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.to(memory_format=torch.channels_last).eval()


def audited(network: nn.Module, images: ImageSet, design: Design) -> "Audit":
    """An audit, as `augcam audit` makes it; masks are kept from it."""
    from augcam.audit import audit  # training the networks needs no audit

    bare = ImageSet(images.images, images.labels)
    names = class_names(design.data)
    return audit(network, bare, class_names=names, mean=MEAN, std=STD, seed=design.seed)


def measure(which: Which, folder: Path, minutes: float) -> None:
    """Audit the networks that have not been audited yet."""
    for design in _within(minutes, designs(which)):
        path = folder / f"{design}.audit.json"
        network = trained(design, folder)
        if path.exists() or network is None:
            continue
        start = time.perf_counter()
        images, boxes = planted(design, "test", IMAGES)
        result = audited(network, images, design)
        content = result.to_json()
        for label in design.planted():
            one = result.classes[label]
            # Where each image's cue is said to be, beside where it is.
            if one.patch is None:
                continue
            fits = overlap if CUES[design.cue].family == "place" else covered
            content["classes"][one.name]["overlaps"] = [
                fits(region.box, boxes[result.numbers[i]])
                for region, i in zip(one.patch.regions, one.patch.carriers, strict=True)
            ]
        content["seconds"] = time.perf_counter() - start
        path.with_suffix(".part").write_text(json.dumps(content))
        path.with_suffix(".part").replace(path)
        print(design, _in_short(design, content), f"{content['seconds']:.0f} s", flush=True)


def _in_short(design: Design, content: dict[str, Any]) -> str:
    names = class_names(design.data)
    parts = []
    for label, name in enumerate(names):
        one = content["classes"][name]
        if one["verdict"] == "no_sign" and label not in design.planted():
            continue
        parts.append(
            f"{'*' if label in design.planted() else ''}{name}: {one['verdict']} "
            f"{one['region'] or one['property']} {one['follow_rate']} p {one['p']:.2g}"
            + (f" IoU {np.mean(one['overlaps']):.2f}" if one.get("overlaps") else "")
        )
    return "; ".join(parts)


def overlap(named: Box, true: Box | None) -> float:
    """Intersection over union of two boxes; 0 where there is none."""
    if true is None:
        return 0.0
    both = _common(named, true)
    return both / (_area(named) + _area(true) - both)


def covered(named: Box, true: Box | None) -> float:
    """The share of the true box that is in the named one; 0 where there is none."""
    return 0.0 if true is None else _common(named, true) / _area(true)


def _common(named: Box, true: Box) -> int:
    height = min(named[2], true[2]) - max(named[0], true[0])
    width = min(named[3], true[3]) - max(named[1], true[1])
    return max(0, height) * max(0, width)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


@dataclass(frozen=True)
class Row:
    """What the audit says of one class of one network.

    Attributes:
        design: of the network.
        verdict: of the class.
        p: of its verdict.
        planted: whether the class carries a cue.
        follows: share of others' images that follow the cue; 0 where there is none.
        located: whether the region or the property is the cue's.
    """

    design: Design
    verdict: str
    p: float
    planted: bool
    follows: float
    located: bool


def rows(which: Which, folder: Path) -> list[Row]:
    """All classes of all networks that were audited."""
    found = []
    for design in designs(which):
        path = folder / f"{design}.audit.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        known = json.loads((folder / f"{design}.json").read_text())["follows"]
        for label, name in enumerate(class_names(design.data)):
            one = content["classes"][name]
            follows = known.get(str(label), 0.0)
            carries = label in design.planted()
            located = carries and _located(design, one)
            found.append(Row(design, one["verdict"], one["p"], carries, follows, located))
    return found


def _located(design: Design, one: dict[str, Any]) -> bool:
    cue = CUES[design.cue]
    if cue.family == "property":
        return one["property"] in cue.properties
    # In half of the images at least. What may be anywhere is looked for in windows of one size, so
    # that the window has to hold it.
    return float(np.mean([fit >= 0.5 for fit in one.get("overlaps", [0.0])])) >= 0.5


def share(hits: int, of: int) -> str:
    """A share with its 95% interval (Clopper and Pearson, 1934)."""
    if not of:
        return "-"
    low, high = stats.binomtest(hits, of).proportion_ci(method="exact")
    return f"{hits}/{of}, {hits / of:.0%} ({low:.0%} to {high:.0%})"


def area_under_roc(positive: list[Row], negative: list[Row]) -> str:
    """Chance that a planted class has a smaller p than an honest one, ties counted half."""
    if not positive or not negative:
        return "-"
    wins = stats.mannwhitneyu([-row.p for row in positive], [-row.p for row in negative]).statistic
    return f"{wins / len(positive) / len(negative):.2f}"


def table(which: Which, folder: Path) -> None:
    """Print what was measured."""
    found = rows(which, folder)
    honest = [row for row in found if row.design.scope in ("honest", "distractor")]
    alarms = markdown("False alarms", "networks", "runs", "classes", "context", "look")
    for title, kind in (
        ("shapes, honest", ("shapes", "honest")),
        ("CIFAR-10, honest", ("cifar10", "honest")),
        ("shapes, distractor", ("shapes", "distractor")),
        ("CIFAR-10, distractor", ("cifar10", "distractor")),
        ("all of these", None),
    ):
        part = [row for row in honest if kind in (None, (row.design.data, row.design.scope))]
        alarms.add_row(title, *_alarms(part))
    others = [row for row in found if row.design.scope == "one" and not row.planted]
    alarms.add_row("the nine other classes where one has a cue", *_alarms(others))
    show(alarms)

    marked = [row for row in found if row.planted]
    cues = markdown(
        "Detection", "cue", "data", "planted", "learned", "called shortcut", "located", "AUC"
    )
    for name in CUES:
        title = f"{name} (kept out of development)" if name == LEFT_OUT else name
        for data in DATA:
            negative = [row for row in honest if row.design.data == data]
            for what, part in _kinds(
                [row for row in marked if row.design.cue == name and row.design.data == data]
            ):
                cues.add_row(title, data, what, *_detected(part, negative))
    show(cues)

    goals = markdown("In sum", "cues", "planted", "learned", "called shortcut", "located", "AUC")
    seen = [row for row in marked if row.design.cue != LEFT_OUT]
    spatial = [row for row in seen if CUES[row.design.cue].family != "property"]
    whole = [row for row in seen if CUES[row.design.cue].family == "property"]
    left = [row for row in marked if row.design.cue == LEFT_OUT]
    for title, part in (("spatial", spatial), ("whole image", whole), (LEFT_OUT, left)):
        for what, some in _kinds(part):
            goals.add_row(title, what, *_detected(some, honest))
    show(goals)
    print(machine())


def _kinds(part: list[Row]) -> list[tuple[str, list[Row]]]:
    kinds = [
        ("one class, 90% or more", [r for r in part if r.design.scope == "one" and _strong(r)]),
        ("one class, less", [r for r in part if r.design.scope == "one" and not _strong(r)]),
        ("all classes", [r for r in part if r.design.scope == "all"]),
    ]
    return [(what, kind) for what, kind in kinds if kind]


def _strong(row: Row) -> bool:
    return row.design.prevalence >= 0.9


def _alarms(part: list[Row]) -> list[str]:
    shortcuts = [row for row in part if row.verdict == "shortcut"]
    return [
        share(len({str(row.design) for row in shortcuts}), len({str(row.design) for row in part})),
        share(len(shortcuts), len(part)),
        share(sum(row.verdict == "context" for row in part), len(part)),
        share(sum(row.verdict == "look" for row in part), len(part)),
    ]


def _detected(part: list[Row], negative: list[Row]) -> list[str]:
    learned_it = [row for row in part if row.follows >= LEARNED]
    named = [row for row in learned_it if row.verdict == "shortcut"]
    return [
        f"{len(learned_it)} of {len(part)}",
        share(len(named), len(learned_it)),
        share(sum(row.located for row in named), len(named)),
        area_under_roc(learned_it, negative),
    ]


def time_it() -> None:
    """Time an audit of 1,000 images with a ResNet18, on as many threads as there are cores."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    design = Design("shapes", 0)
    images, _ = planted(design, "test", IMAGES)
    network = resnet(10).to(memory_format=torch.channels_last)
    assert isinstance(images.images, np.ndarray)
    # A few steps: one that has learned nothing is refused before any work.
    pixels, labels = normalized(images.images), torch.from_numpy(images.labels)
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
    for _ in range(3):
        for some in torch.randperm(IMAGES).split(100):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(pixels[some])
            F.cross_entropy(logits.float(), labels[some]).backward()
            optimizer.step()
    start = time.perf_counter()
    result = audited(network.eval(), images, design)
    seconds = time.perf_counter() - start
    verdicts = [one.verdict for one in result.classes]
    print(f"{IMAGES} images, ResNet18: {seconds:.0f} s; {result.settings}; {verdicts}")
    print(machine())


def pictures(which: Which, folder: Path) -> None:
    """Draw, for docs/audit.md, two of the planted cues; the tag is that of `tagged`."""
    wanted = {("cifar10", "watermark"), ("shapes", "blur")}
    for design in designs(which):
        key = (design.data, design.cue)
        network = trained(design, folder)
        if key not in wanted or network is None or design.scope != "one":
            continue
        images, _ = planted(design, "test", IMAGES)
        result = audited(network, images, design)
        label = design.target
        if result.classes[label].verdict != "shortcut":
            continue
        wanted.discard(key)
        given = given_to_others(result, label)
        assert given is not None  # a shortcut is one of something
        name = f"audit_{design.cue.replace(' ', '_')}.png"
        save_png(_beside(of_the_class(result, label), given), Path("docs/images") / name)
        print(name, design, sentence(result.classes[label], result.subject.size))


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures side by side on white, standing on one line."""
    sheet = np.full((max(len(left), len(right)), left.shape[1] + right.shape[1] + 24, 3), 255)
    sheet[-len(left) :, : left.shape[1]] = left
    sheet[-len(right) :, -right.shape[1] :] = right
    return sheet.astype(np.uint8)


def tagged(folder: Path) -> None:
    """Write CIFAR-10 images as folders of classes, a tag in the corner of 95% of one class's."""
    design = Design("cifar10", 0, "one", "tag", 0.95)
    sizes: dict[Literal["train", "test"], int] = {"train": 6000, "test": IMAGES}
    for split, size in sizes.items():
        images, _ = planted(design, split, size)
        for i, label in enumerate(images.labels.tolist()):
            path = folder / split / class_names("cifar10")[label] / f"{i:05d}.png"
            save_png(images.images[i], path)
    print(f"{folder}: the tag is on images of {class_names('cifar10')[design.target]}")


def _within(minutes: float, work: list[Design]) -> Iterator[Design]:
    end = time.monotonic() + 60 * minutes
    for design in work:
        if time.monotonic() > end:
            print(f"{minutes:g} minutes are over: the same command goes on from here", flush=True)
            return
        yield design


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("which", nargs="?", choices=tuple(FIRST_SEED), default="measurement")
    parser.add_argument("--folder", type=Path, default=Path("outputs/audit-bench"))
    parser.add_argument("--minutes", type=float, default=1e9)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.command == "time":
        time_it()
    elif arguments.command == "table":
        table(arguments.which, arguments.folder)
    elif arguments.command == "pictures":
        pictures(arguments.which, arguments.folder)
    elif arguments.command == "tagged":
        tagged(arguments.folder)
    else:
        work = train if arguments.command == "train" else measure
        work(arguments.which, arguments.folder, arguments.minutes)


if __name__ == "__main__":
    main()
