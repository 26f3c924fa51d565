"""A classifier that was not trained here: a network of the config, and a file of its weights."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from augcam.config.model import IMAGENET_MEAN, IMAGENET_STD, LibraryConfig
from augcam.config.schema import Config
from augcam.data.normalize import network_input
from augcam.errors import UserError
from augcam.models.weights import load_weights, read_weights
from augcam.runs.build import network_of
from augcam.runs.finished_run import FinishedRun
from augcam.runs.run_folder import RunFolder


def load_network_from_file(
    config: Config,
    weights: Path,
    image_size: int = 224,
    classes: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    folder: Path = Path(),
) -> FinishedRun:
    """A classifier from its architecture and a file of weights, all of which must fit.

    Args:
        config: its `model` is the architecture; the rest is not looked at. A library's network has its
            own first layers, whatever the image size, unless `stem` is `cifar`.
        weights: a state dict, a checkpoint or safetensors; see `augcam.models.weights`.
        image_size: pixels a side that it was trained on.
        classes: the class names; without them they are numbered, as many as the last layer has outputs.
        mean, std: of each channel, in 0..1, that its images were normalized with.
        folder: where what is drawn of it goes.

    Returns:
        A run without a test set: its arrays have no images in them, of `image_size` pixels.

    Raises:
        UserError: the weights cannot be read or are another network's, or the names are not as many as
            its outputs.
    """
    state = read_weights(weights)
    heads = [len(v) for n, v in state.items() if n.endswith("weight") and v.ndim]
    if not heads:
        raise UserError(f"weights={weights}: no layer's weight among its {len(state)} tensors")
    outputs = heads[-1]
    names = tuple(classes) or tuple(f"class {number}" for number in range(outputs))
    if len(names) != outputs:
        raise UserError(f"weights={weights}: {outputs} classes, but {len(names)} names are given")
    model = config.model
    if isinstance(model, LibraryConfig) and model.stem == "auto":
        # The stem for small images makes another network, and one whose weights may even fit.
        model = model.model_copy(update={"stem": "imagenet"})
    network = network_of(model, outputs, image_size)
    load_weights(network, state, (), f"weights={weights}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return FinishedRun(
        RunFolder(folder),
        network.eval().to(device),
        names,
        partial(network_input, mean=mean, std=std, device=device),
        np.zeros((0, image_size, image_size, 3), np.uint8),
        np.zeros(0, np.int64),
        None,
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
    )


def answer_among(network: nn.Module, outputs: Sequence[int]) -> None:
    """Let the network answer with these of its logits alone, in this order: (B, C) to (B, outputs).

    Its softmax is then over these: the likeliest of the classes that one's images have.
    """
    chosen = list(outputs)
    network.register_forward_hook(lambda module, images, logits: logits[:, chosen])
