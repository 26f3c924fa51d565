"""What augmentation pipelines do to images, before time is spent on them.

augcam preview 'aug=glob(*)'
augcam preview aug=rotate aug.rotate.limit=5,15,30
augcam preview --help

torch and what needs it are imported late: a wrong key is told in a second.
"""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from augcam.cli.errors import for_each
from augcam.config.build import trust_given
from augcam.config.compose import compose, quoted, sweep_jobs, unique
from augcam.config.schema import Config, validate
from augcam.errors import UserError
from augcam.viz.terminal import progress_bars

if TYPE_CHECKING:
    from augcam.data.augment.pipeline import Pipeline
    from augcam.viz.page import Section

USAGE = """
What augmentation pipelines do to images, before time is spent on them. Of each pipeline: a grid of
raw training images beside several draws of the same, its transforms, microseconds per image, and
what is odd: it changes nothing, or leaves nothing to see. Writes PNG files and one HTML page.

  augcam preview 'aug=glob(*)'                          every pipeline of conf/aug
  augcam preview aug=cutout,rotate                      two of them
  augcam preview aug=rotate aug.rotate.limit=5,15,30    one knob, three previews
  augcam preview aug=crop_flip mix=mixup,cutmix         mixed batches
  augcam preview aug=flip +aug/op@aug.blur=blur         a transform more
  augcam preview data=folder data.root=~/flowers        your own images

Every key of train.py can be given; a list of values, glob() or range() makes a preview of each.
And these:

  samples=      images in each grid, the first of each class first; short for preview.samples [6]
  draws=        augmented draws of each; short for preview.draws [4]
  out=          folder to write to [outputs/previews/DATE_TIME_ID]
"""


IMAGES, REPEATS = 300, 7  # what is measured: so many images, drawn and timed so often


# A draw that keeps less than this share of its image's contrast, or of its tones, shows nothing. What is
# in conf/aug leaves 0.4 of both in the worst of 4,000 draws of CIFAR-10. A blur by 31 pixels leaves less
# than this in 39% of them, black and a hole as large as the image in all.
LEAST = 1 / 4


# Destroyed draws in this share are bad luck, more are pointed out. The policies' wide ranges, brightness
# down to a hundredth among them, cost 2 to 4% of CIFAR-10's draws: that is how they were published.
FEW = 0.05


TILES = 15  # images in a pipeline's row of thumbnails, about


@dataclass(frozen=True)
class Effect:
    """What a pipeline does to images, as shares (0..1) of its draws.

    Attributes:
        draws: how many there were.
        changed: the share that differs from the raw image in any pixel.
        flat, toneless: the shares that have lost three quarters of their contrast, or of their tones.
        destroyed: the share that has lost one of the two.
        micros: float64 (repeats,), microseconds per image.
    """

    draws: int
    changed: float
    flat: float
    toneless: float
    destroyed: float
    micros: np.ndarray


@dataclass(frozen=True)
class Preview:
    """One pipeline, looked at.

    Attributes:
        label: the pipeline's name, and what else varies between the previews.
        effect: of the whole pipeline.
        alone: of each transform by itself.
        grid: uint8 (height, width, 3), raw images beside their draws, mixed if the run mixes.
        strip: uint8 (height, width, 3), the first of them in one row, without captions.
        mixing: microseconds an image that mixing a batch takes on the CPU; None where none is.
    """

    label: str
    config: Config
    pipeline: "Pipeline"
    effect: Effect
    alone: Mapping[str, Effect]
    grid: np.ndarray
    strip: np.ndarray
    mixing: float | None = None


def configs(overrides: Sequence[str]) -> list[tuple[str, Config]]:
    """The configs that `train.py -m OVERRIDES` would run, each with a label.

    Raises:
        UserError: what is wrong with any of them.
    """

    given = {quoted(one) for one in overrides}

    def composed(job: Sequence[str]) -> tuple[str, Config]:
        config = validate(compose(job))
        varied = [one for one in job if one not in given and not one.startswith("aug=")]
        return " ".join([config.aug_name, *varied]), config

    return for_each(composed, sweep_jobs(overrides))


def remains(image: np.ndarray) -> tuple[float, float]:
    """How much there is to see in an image, wherever it was moved, turned or mirrored to.

    Neither number depends on where a pixel is: no flip, crop or rotation is taken for damage. Nor is
    noise, or pixels out of their places: that is left to the eye.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        Contrast: standard deviation over the pixels, in grey levels, root mean square of the channels.
        Tones: entropy of the luma's histogram (ITU-R BT.601, 64 bins), in bits.
    """
    step = max(1, min(image.shape[:2]) // 64)  # every n-th pixel of a large image says the same
    pixels = image[::step, ::step].reshape(-1, 3).astype(np.float32)
    contrast = np.sqrt(np.square(pixels - pixels.mean(axis=0)).mean())
    luma = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    counts = np.bincount((luma / 4).astype(np.int64))
    shares = counts[counts > 0] / len(pixels)
    return float(contrast), float(-(shares * np.log2(shares)).sum())


def measure(
    pipeline: "Pipeline",
    images: np.ndarray,
    repeats: int = REPEATS,
    labels: Sequence[int] | None = None,
) -> Effect:
    """Draw every image `repeats` times in one thread, timed, and look at what comes out.

    Args:
        images: uint8 (N, H, W, 3).
        labels: N, the class of each; may be left out where every transform is for all classes.
    """
    of_each = [None] * len(images) if labels is None else labels
    before = [remains(image) for image in images]
    micros, found = [], []
    for epoch in range(repeats):
        began = time.perf_counter()
        drawn = [
            pipeline(image, epoch, index, label)
            for index, (image, label) in enumerate(zip(images, of_each, strict=True))
        ]
        micros.append((time.perf_counter() - began) / len(images) * 1e6)
        for raw, image, (contrast, tones) in zip(images, drawn, before, strict=True):
            if np.array_equal(raw, image):
                found.append((False, False, False))
            else:
                contrast_left, tones_left = remains(image)
                found.append((True, contrast_left < LEAST * contrast, tones_left < LEAST * tones))
    changed, flat, toneless = np.array(found).T
    return Effect(
        draws=len(found),
        changed=float(changed.mean()),
        flat=float(flat.mean()),
        toneless=float(toneless.mean()),
        destroyed=float((flat | toneless).mean()),
        micros=np.array(micros),
    )


def mixing_micros(config: Config, images: np.ndarray) -> float:
    """Microseconds an image of a mixed batch of up to 128 on the CPU: the fastest of 30 batches.

    Args:
        config: of a run that mixes; every batch is mixed here, whatever `mix.p`.
        images: uint8 (N, H, W, 3).
    """
    import torch

    from augcam.runs.build import build_mix

    mix = build_mix(config)
    assert mix is not None
    mix.p = 1.0
    batch = torch.from_numpy(images[:128]).permute(0, 3, 1, 2).float()
    shares = torch.eye(10)[torch.arange(len(batch)) % 10]
    seconds = []
    for number in range(30):
        began = time.perf_counter()
        mix(batch, shares, 0, number)
        seconds.append(time.perf_counter() - began)
    return min(seconds) / len(batch) * 1e6


def oddities(effect: Effect, alone: Mapping[str, Effect]) -> list[str]:
    """What is odd about a pipeline, in words that follow its name; mostly nothing.

    Args:
        effect: of the whole pipeline.
        alone: of each transform by itself.
    """
    if not alone:
        return ["has no transforms: images stay as they are"]
    if effect.changed == 0:
        return [f"changes nothing: all {effect.draws:,} draws equal their raw images"]
    found = [f"its {name} changes nothing" for name, one in alone.items() if one.changed == 0]
    if effect.destroyed > FEW:
        lost = "contrast" if effect.flat >= effect.toneless else "tones"
        words = (
            f"destroys {effect.destroyed:.0%} of its draws: under a quarter of the {lost} is left"
        )
        worst, share = max(((n, e.destroyed) for n, e in alone.items()), key=lambda pair: pair[1])
        if len(alone) > 1 and share > FEW:
            words += f" ({worst} by itself: {share:.0%})"
        found.append(words)
    return found


def raw_images(config: Config) -> tuple[np.ndarray, list[int], list[str]]:
    """Training images of a run, the first of each class, then the second ..., with their labels.

    Returns:
        uint8 (N, H, W, 3), N labels and the names of all classes. N is at most `IMAGES`; the first
        images are those that the run's own preview shows.
    """
    from augcam.data.splits import stratified_holdout
    from augcam.runs.build import build_source
    from augcam.training.callbacks.preview import first_of_each_class

    source = build_source(config)
    source.prepare()
    train = source.train()
    holdout = 0 if config.data.holdout == "test" else config.data.holdout
    kept, _ = stratified_holdout(train.labels, holdout, config.seed)
    index = kept[first_of_each_class(train.labels[kept], IMAGES)]
    return train.images[index], train.labels[index].tolist(), list(source.classes)


def look(wanted: Sequence[tuple[str, Config]]) -> list[Preview]:
    """Build, measure and draw every pipeline.

    Raises:
        UserError: pipelines cannot be built or do not fit the images, or these cannot be read.
    """
    from augcam.runs.build import build_mix, build_run_pipeline, build_source
    from augcam.training.callbacks.preview import draw_samples, headings
    from augcam.viz.grid import TEXT_FOR_TENSORBOARD, captioned_grid

    # Opened once: the mean colour of a folder, where a transform fills with it, is read from images.
    datasets = {config.data: build_source(config) for _, config in wanted}

    def pipeline_of(config: Config, aug: Mapping[str, Any] | None = None) -> "Pipeline":
        return build_run_pipeline(config, datasets[config.data], aug)

    pipelines = for_each(lambda pair: pipeline_of(pair[1]), wanted)
    read: dict[Any, tuple[np.ndarray, list[int], list[str]]] = {}
    for _, config in wanted:
        if (config.data, config.seed) not in read:
            read[config.data, config.seed] = raw_images(config)
    todo = [
        (label, config, pipeline, *read[config.data, config.seed])
        for (label, config), pipeline in zip(wanted, pipelines, strict=True)
    ]
    for_each(lambda one: one[2].check(one[3][0]), todo)

    found = []
    with progress_bars() as progress:
        for label, config, pipeline, images, labels, classes in progress.track(
            todo, description="measuring"
        ):
            effect = measure(pipeline, images, labels=labels)
            alone = dict.fromkeys(pipeline.transforms, effect)
            if len(alone) > 1:
                parts = {n: pipeline_of(config, {n: config.aug[n]}) for n in alone}
                alone = {name: measure(part, images, 3, labels) for name, part in parts.items()}
            samples, draws = config.preview.samples, config.preview.draws
            mix = build_mix(config)
            rows, captions = draw_samples(
                images[:samples], labels[:samples], classes, pipeline, draws, mix
            )
            heads = headings(draws)
            grid = captioned_grid(rows, captions, heads, TEXT_FOR_TENSORBOARD)
            few = rows[: max(1, TILES // (1 + draws))]
            one_row = [image for row in few for image in row]
            strip = captioned_grid([one_row], [""], heads * len(few), TEXT_FOR_TENSORBOARD)
            mixing = mixing_micros(config, images) if mix else None
            found.append(Preview(label, config, pipeline, effect, alone, grid, strip, mixing))
    return found


_HOW_TO_READ = (
    "**Changed**: draws that differ from their raw image in any pixel.",
    "**Destroyed**: draws that keep less than a quarter of their image's contrast (standard deviation "
    "of the pixels) or of its tones (entropy of the histogram). Neither depends on where a pixel is: "
    "flips and crops are no damage, and noise and scrambled pixels go unnoticed. Look at the pictures.",
    "**Microseconds per image**: one thread; median and range of {repeats} repeats over {images} "
    "images. It is the random part, the pipeline proper. Normalize and ToTensorV2, the same for all, "
    "run once per batch on the training device and are not in it.",
)


def write(previews: Sequence[Preview], out: Path, command: str) -> Path:
    """Write a PNG for each pipeline and the page of all, all of them or none; the page's path.

    Raises:
        UserError: the folder cannot be written.
    """
    from augcam.viz.grid import save_png
    from augcam.viz.markdown import bullets, code, plain
    from augcam.viz.page import Page, Section, Table, write_html

    first = previews[0].effect
    images = first.draws // len(first.micros)
    overview = [
        [
            one.label,
            " → ".join(one.alone) or "-",
            f"{one.effect.changed:.1%}",
            f"{one.effect.destroyed:.1%}",
            f"{np.median(one.effect.micros):.1f}",
            f"{one.effect.micros.min():.1f} to {one.effect.micros.max():.1f}",
        ]
        for one in previews
    ]
    reading = [line.format(repeats=len(first.micros), images=images) for line in _HOW_TO_READ]
    sections = [
        Section(
            "All pipelines",
            [
                Table(
                    ("pipeline", "transforms", "changed", "destroyed", "µs per image", "range"),
                    overview,
                    "Shares of all draws.",
                ),
                bullets(reading),
            ],
        )
    ]
    odd = {one.label: oddities(one.effect, one.alone) for one in previews}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and then moved: what stops half-way leaves no half preview.
        with TemporaryDirectory(prefix=".preview-", dir=out.parent) as name:
            beside = Path(name)
            for number, one in enumerate(previews, start=1):
                png = beside / f"{number:02d}_{one.config.aug_name.replace('/', '-')}.png"
                thumbnails = png.with_stem(f"{png.stem}_thumbnails")
                save_png(one.grid, png)
                save_png(one.strip, thumbnails)
                sections.append(_section(one, odd[one.label], png, thumbnails))
            count = "One pipeline" if len(previews) == 1 else f"{len(previews)} pipelines"
            data = " and ".join(dict.fromkeys(one.config.data.label for one in previews))
            page = Page(
                "What the pipelines do",
                f"{count} on training images of {plain(data)}, by {code(command)}.",
                sections,
                warnings=[
                    f"**{plain(label)}** {plain(words)}."
                    for label, found in odd.items()
                    for words in found
                ],
            )
            write_html(beside / "index.html", page)
            out.mkdir(exist_ok=True)
            for path in beside.iterdir():
                path.replace(out / path.name)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror or error}; give another folder") from None
    return out / "index.html"


def _section(one: Preview, odd: Sequence[str], png: Path, thumbnails: Path) -> "Section":
    from augcam.viz.markdown import plain
    from augcam.viz.page import Folded, Picture, Section, Table

    rows = [
        [
            name,
            in_words(one.config.aug[name] or {}),
            f"{one.pipeline.transforms[name].p:.0%}",
            f"{effect.changed:.1%}",
            f"{effect.destroyed:.1%}",
            f"{np.median(effect.micros):.1f}",
        ]
        for name, effect in one.alone.items()
    ]
    transforms = Table(
        ("transform", "what it is", "applied", "changed alone", "destroyed alone", "µs alone"),
        rows,
        f"The transforms of {plain(one.label)}, each by itself.",
    )
    micros = float(np.median(one.effect.micros))
    speed = float(f"{1e6 / micros:.2g}")
    text = f"{micros:.1f} µs per image: about {speed:,.0f} images a second on one core."
    if one.mixing is not None:
        text += (
            f" Then batches are mixed ({plain(one.config.mix.name)}): {one.mixing:.1f} µs per image on "
            "one CPU core, less on a GPU, where it runs. Captions name what each draw is made of."
        )
    return Section(
        one.label,
        [
            " ".join([*(f"**{plain(words[0].upper() + words[1:])}.**" for words in odd), text]),
            Picture(thumbnails, "Raw images, each before draws of it.", density=2),
            Folded(
                "All images, and each transform by itself",
                [
                    Picture(png, "Raw images, and draws of each as training would see them."),
                    transforms,
                ],
            ),
        ],
    )


def refuse_unwritable(out: Path) -> None:
    """Tell before the work what would fail after it; nothing is created.

    Raises:
        UserError: `out`, or the nearest folder above it that exists, cannot be written.
    """
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"out={out}: {nearest} is not a folder to write in; give another folder")


def in_words(settings: Mapping[str, Any]) -> str:
    """A transform and its arguments as the config gives them, without its probability."""
    said = []
    for name, value in settings.items():
        if name not in ("_target_", "p") and value is not None:
            said.append(f"{name} {value}")
    kind = settings["_target_"].rpartition(".")[2]
    return f"{kind}: {', '.join(said)}" if said else kind


def main(arguments: Sequence[str]) -> None:
    """Look at the pipelines that were asked for, print what was found, and write the page."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE.strip())
        return
    out = Path("outputs", "previews", f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{unique()}")
    overrides = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "out":
            out = Path(value).expanduser()
        elif argument not in ("-m", "--multirun"):  # a sweep's command line may be tried as it is
            overrides.append(f"preview.{argument}" if key in ("samples", "draws") else argument)
    trust_given(overrides)
    wanted = configs(overrides)
    if any(config.preview.samples == 0 for _, config in wanted):
        raise UserError("samples=0: there would be nothing to see; at least 1")
    refuse_unwritable(out)
    previews = look(wanted)

    from rich import get_console
    from rich.table import Table

    table = Table(box=None)
    longest = max(len(one.label) for one in previews)
    table.add_column("pipeline", overflow="fold", min_width=min(longest, 30))
    for heading in ("changed", "destroyed", "µs/image"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what is odd")
    for one in previews:
        effect = one.effect
        table.add_row(
            one.label, f"{effect.changed:.1%}", f"{effect.destroyed:.1%}",
            f"{np.median(effect.micros):.1f}", "; ".join(oddities(effect, one.alone)) or "-",
        )  # fmt: skip
    page = write(previews, out, shlex.join(["augcam", "preview", *arguments]))
    get_console().print(table, markup=False)
    get_console().print(f"{page}", soft_wrap=True, markup=False)
