"""Config -> data and network, for a new run and for a finished one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from augcam.config.build import build, located, trusted_packages
from augcam.config.model import CustomConfig, LibraryConfig, ModelConfig, ResNetConfig
from augcam.config.schema import (
    CIFARConfig,
    Config,
    CustomDataConfig,
    FolderConfig,
    ShapesConfig,
    TorchvisionConfig,
)
from augcam.data.augment import mix
from augcam.data.augment.build import build_pipeline
from augcam.data.augment.mix import Mix
from augcam.data.augment.pipeline import Pipeline
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets.base import ImageDataset
from augcam.data.datasets.cifar import CIFAR10, CIFAR100
from augcam.data.datasets.folder import ImageFolder
from augcam.data.datasets.shapes import Shapes
from augcam.data.datasets.torchvision import TorchvisionDataset
from augcam.data.loader import auto_workers
from augcam.errors import UserError, first_line
from augcam.models.library import pretrained_weights, timm_network, torchvision_network
from augcam.models.parts import freeze, head_name
from augcam.models.resnet import resnet
from augcam.models.stem import first_convolution, is_patch_embedding, resolved_stem, use_cifar_stem
from augcam.models.weights import load_weights, read_weights


def build_source(config: Config) -> ImageDataset:
    """Where the run's images come from."""
    data = config.data
    if isinstance(data, CIFARConfig):
        return (CIFAR10 if data.name == "cifar10" else CIFAR100)(data.root)
    if isinstance(data, ShapesConfig):
        return Shapes(
            data.seed, data.train_size, data.test_size, data.shortcut, data.orientation_pair
        )
    if isinstance(data, FolderConfig):
        return ImageFolder(
            data.root, data.image_size, data.split, data.memory_gb, data.cache, data.masks
        )
    if isinstance(data, TorchvisionConfig):
        return TorchvisionDataset(
            data.dataset, data.root, data.image_size, data.download, data.memory_gb, data.cache
        )
    return _custom(data)


def _custom(data: CustomDataConfig) -> ImageDataset:
    """A data set of a trusted package. Raises UserError where the class is no data set."""
    kind = located(data.target, "data")
    missing = [
        name for name in ("prepare", "train", "test", "fingerprint") if not hasattr(kind, name)
    ]
    if not isinstance(kind, type) or missing:
        raise UserError(
            f"data._target_={data.target}: is not a data set (missing: {', '.join(missing)}); see "
            "augcam.data.datasets.base.ImageDataset"
        )
    dataset: ImageDataset = build({"_target_": data.target, **data.arguments()}, kind, "data")
    return dataset


def build_run_pipeline(
    config: Config, dataset: ImageDataset, aug: Mapping[str, Any] | None = None
) -> Pipeline:
    """The run's augmentation, or that of `aug`, a part of it, in the run's place.

    Raises:
        UserError: it cannot be built.
    """
    return build_pipeline(
        config.aug if aug is None else aug,
        config.seed,
        mean=lambda: dataset.mean,
        trusted=trusted_packages(),
        classes=lambda: dataset.classes,
        strength=config.aug_strength,
    )


def build_mix(config: Config) -> Mix | None:
    """What happens to the run's training batches and their labels; None where nothing does."""
    mixup, cutmix = config.mix.mixup, config.mix.cutmix
    return mix.build(
        mixup.alpha if mixup else None, cutmix.alpha if cutmix else None, config.seed, config.mix.p
    )


def build_data(config: Config) -> ImageDataModule:
    """The run's LightningDataModule, nothing read yet.

    Raises:
        UserError: the augmentation pipeline cannot be built.
    """
    workers = config.data.num_workers
    dataset = build_source(config)
    return ImageDataModule(
        dataset,
        build_run_pipeline(config, dataset),
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        num_workers=auto_workers(config.trainer.accelerator) if workers == "auto" else workers,
        holdout=config.data.holdout,
        seed=config.seed,
        mix=build_mix(config),
        views=3 if config.loss.jsd else 1,
    )


def build_network(config: Config, num_classes: int) -> nn.Module:
    """The run's network, freshly initialised: (B, 3, H, W) float to (B, num_classes) logits.

    It lies in memory as `model.channels_last` has it, and so does what it is given.
    It follows from the config alone and nothing is fetched: the weights that training begins with are
    `start_from_weights`'s.

    Raises:
        UserError: there is no such network, or it does not fit the images or the classes.
    """
    return network_of(config.model, num_classes, image_size(config))


def network_of(model: ModelConfig, num_classes: int, size: int) -> nn.Module:
    """As `build_network`, from the model section alone, for images of `size` pixels a side."""
    if isinstance(model, ResNetConfig):
        network: nn.Module = resnet(
            num_classes,
            model.width,
            model.blocks,
            model.strides,
            model.dropout,
            model.whiten,
            model.init,
            resolved_stem(model.stem, size),
        )
    elif isinstance(model, LibraryConfig):
        make = timm_network if model.name == "timm" else torchvision_network
        network = make(model.arch, num_classes, size, **model.arguments())
        if has_cifar_stem(model, network, size):
            use_cifar_stem(network)
    else:
        network = custom_network(model, num_classes)
    if model.channels_last:  # auto too: measured faster in every precision
        network = network.to(memory_format=torch.channels_last)
    else:
        network.register_forward_pre_hook(_contiguous)
    if not isinstance(model, ResNetConfig):
        check_logits(network, model, num_classes, size)
    if model.freeze:
        by_number = isinstance(model.freeze, int)  # of stages, which end at the head
        asked = f"model.freeze={model.freeze}"
        freeze(network, model.freeze, head_name(network, num_classes, asked) if by_number else "")
    return network


def start_from_weights(network: nn.Module, config: Config, num_classes: int) -> list[str]:
    """Give a new run's network the weights that it is to begin with, if any.

    Returns:
        The parameters that stay new: the head where its classes are others, and always if pretrained;
        the first convolution where the stem is another.

    Raises:
        UserError: the weights cannot be had, or are another network's, or a parameter that stays new is
            frozen.
    """
    model, size = config.model, image_size(config)
    if model.weights is None and not (isinstance(model, LibraryConfig) and model.pretrained):
        return []
    asked = "model.pretrained=true" if model.weights is None else f"model.weights={model.weights}"
    head = head_name(network, num_classes, asked)
    new = [head]
    if isinstance(model, LibraryConfig) and has_cifar_stem(model, network, size):
        new.append(first_convolution(network)[0])
    if model.weights is not None:
        state, source = read_weights(model.weights), asked
    else:
        assert isinstance(model, LibraryConfig)  # or there is nothing to begin with
        whole = pretrained_weights(model.name, model.arch, num_classes, size, **model.arguments())
        state = {n: value for n, value in whole.items() if not f"{n}.".startswith(f"{head}.")}
        source = f"model.pretrained of {model.arch}"
    unmatched = load_weights(network, state, new, source)
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    if random := [name for name in unmatched if name in fixed]:
        raise UserError(
            f"model.freeze={model.freeze}: {', '.join(random)} would stay random, as {source} does not "
            "fit there; model.stem=imagenet keeps the first convolution of pretrained weights"
        )
    return unmatched


# Pixels a side of torchvision's data sets that are neither 32 nor of many sizes.
_OWN_SIZE = {
    "EMNIST": 28, "FashionMNIST": 28, "FER2013": 48, "KMNIST": 28, "MNIST": 28, "PCAM": 96,
    "QMNIST": 28, "STL10": 96, "USPS": 16,
}  # fmt: skip


def image_size(config: Config) -> int:
    """Pixels a side of the run's images, from the config alone: `data.image_size`, or their own."""
    given: int | None = getattr(config.data, "image_size", None)
    return given or _OWN_SIZE.get(getattr(config.data, "dataset", ""), 32)


def has_cifar_stem(model: LibraryConfig, network: nn.Module, size: int) -> bool:
    """Whether the first layers are changed for small images; `auto` leaves those of patches alone."""
    if model.stem == "auto" and is_patch_embedding(network):
        return False
    return resolved_stem(model.stem, size) == "cifar"


def custom_network(model: CustomConfig, num_classes: int) -> nn.Module:
    """A network of the user's own, of a package that `trust=` lets in."""
    described = {"_target_": model.target} | model.arguments()
    return build(described, nn.Module, "model", num_classes=num_classes)


def _contiguous(network: nn.Module, images: tuple[Any, ...]) -> tuple[Any, ...]:
    """What goes into a network that is not to compute in channels_last: batches are made so."""
    return tuple(one.contiguous() if isinstance(one, torch.Tensor) else one for one in images)


def check_logits(
    network: nn.Module, model: ModelConfig, num_classes: int, size: int, training: bool = False
) -> None:
    """Refuse a network that does not take images of this size or gives other than logits.

    It, and torch's random state, are left as they were.

    Args:
        training: whether it is asked as it will be trained, and not in evaluation mode.

    Raises:
        UserError: with what it gives in place of (B, num_classes).
    """
    modes = [(module, module.training) for module in network.modules()]
    # As batches come: the images of a batch, permuted.
    images = torch.zeros(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    when = " in training" if training else ""
    kept: list[tuple[nn.Module, str, torch.Tensor, torch.Tensor]] = []
    try:
        if training:  # where BatchNorm averages what it sees
            kept = [
                (module, name, buffer, buffer.clone())
                for module, _ in modes
                for name, buffer in module._buffers.items()
                if buffer is not None
            ]
        else:
            network.eval()
        with torch.no_grad(), torch.random.fork_rng([]):
            logits = network(images)
    except Exception as error:  # a network may raise anything
        if training and "more than 1 value per channel" in str(error):
            return  # BatchNorm, of a network that makes one of two images: a batch has more
        advice = ""
        if model.channels_last and "view size is not compatible" in str(error):
            advice = "\nmodel.channels_last=false, or .flatten(1) in place of .view"
        raise UserError(
            f"model: {model.label} cannot take images of {size}x{size} pixels{when} "
            f"({first_line(error)}){advice}"
        ) from None
    finally:
        for module, name, buffer, value in kept:
            module._buffers[name] = buffer.copy_(value)  # which it may have replaced
        for module, mode in modes:
            module.training = mode
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != (2, num_classes):
        raise UserError(
            f"model: {model.label} gives {shape} for 2 images of {num_classes} classes{when}; it must "
            f"give (2, {num_classes})"
        )
