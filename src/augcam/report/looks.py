"""Where networks look, side by side: which images tell augmentations apart, and maps that compare."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import entr

from augcam.data.datasets.base import ImageSet, check_fingerprint
from augcam.errors import UserError
from augcam.explain import cam
from augcam.explain.overlay import overlay
from augcam.report.charts import PictureCell
from augcam.report.load import Maps, Run


def test_images(run: Run) -> ImageSet:
    """The test set that the run was tested on.

    Raises:
        UserError: it cannot be read, or holds other images by now.
    """
    from augcam.runs.build import build_source

    # Not prepared, and told not to: what is missing would be downloaded.
    data = run.config.data
    if hasattr(data, "download"):
        data = data.model_copy(update={"download": False})
    source = build_source(run.config.model_copy(update={"data": data}))
    recorded = (run.folder.metrics() or {}).get("data_fingerprint")
    check_fingerprint(recorded, source, f"run={run.folder}")
    images = source.test()
    assert run.predictions is not None
    # The run may have been tested on the first images alone.
    count = len(run.predictions.label)
    if not np.array_equal(images.labels[:count], run.predictions.label):
        raise UserError("the test set holds other images than when the runs were tested")
    return images


def disagreement(groups: Sequence[Sequence[Maps]]) -> np.ndarray:
    """How much the groups disagree on each image: Jensen-Shannon divergence of their probabilities.

    A group's probabilities are the mean over its runs; groups weigh alike. The entropy of the mean
    less the mean of the entropies (Lin, IEEE Trans. Inf. Theory 37, 1991).

    Args:
        groups: the runs of each group, over the same n images.

    Returns:
        float64 (n,), in bits: 0 where all agree, at most log2 of the number of groups.
    """
    means = np.stack(
        [np.mean([maps.probabilities.astype(np.float64) for maps in g], axis=0) for g in groups]
    )
    means /= means.sum(axis=-1, keepdims=True)  # float16 has rounded them
    apart = entr(means.mean(axis=0)).sum(axis=-1) - entr(means).sum(axis=-1).mean(axis=0)
    divergence: np.ndarray = np.maximum(apart, 0) / np.log(2)
    return divergence


def unit(maps: Maps) -> float:
    """A network's own unit of evidence: the median peak of its maps that say something.

    Raw Grad-CAM values are in the network's own logits, whose scale depends on how it was trained: the
    maps of two networks can only be laid side by side once each is divided by a unit of its own. With
    one unit for all of a network's maps, weak evidence stays weaker than strong evidence; stretched to
    its own peak, as a single heat map is, every map would look equally sure.
    """
    peaks = maps.map_true[maps.usable].max(axis=(1, 2))
    return float(np.median(peaks)) if len(peaks) else 1.0


def overlays(images: np.ndarray, maps: Maps, chosen: np.ndarray) -> np.ndarray:
    """The true class's evidence over images, in the network's own unit: 1 and more is red.

    Args:
        images: uint8 (M, H, W, 3).
        maps: of one network. chosen: int (M,), the images' places in it.

    Returns:
        uint8 (M, H, W, 3); an image whose map says nothing is grey.
    """
    raw = torch.from_numpy(maps.map_true[chosen]).float()
    size = (images.shape[1], images.shape[2])
    heat = F.interpolate(raw.relu()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    status = [cam.STATUSES[code] for code in cam.map_status(raw)]
    return overlay(images, np.clip(heat.numpy() / unit(maps), 0, 1), status)


def side_by_side(
    images: ImageSet,
    runs: Mapping[str, Run],
    chosen: np.ndarray,
    classes: Sequence[str],
) -> list[list[PictureCell]]:
    """A row for each chosen image: the image itself, then what each run's network sees in it.

    Args:
        images: the test set.
        runs: by group, each with maps.
        chosen: int (M,), places in the evaluated subset.
    """
    first = next(iter(runs.values())).maps
    assert first is not None
    shown = images.images[first.index[chosen]]
    columns = [
        [
            PictureCell(picture, f"{classes[label]}\ntest {index}")
            for picture, label, index in zip(
                shown, first.label[chosen], first.index[chosen], strict=True
            )
        ]
    ]
    for run in runs.values():
        assert run.maps is not None
        probabilities = run.maps.probabilities[chosen].astype(np.float32)
        predicted = probabilities.argmax(axis=1)
        columns.append(
            [
                PictureCell(picture, f"{classes[k]}\n{p[k]:.0%}", bool(k == label))
                for picture, k, p, label in zip(
                    overlays(shown, run.maps, chosen), predicted, probabilities,
                    run.maps.label[chosen], strict=True,
                )
            ]
        )  # fmt: skip
    return [list(row) for row in zip(*columns, strict=True)]
