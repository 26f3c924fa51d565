"""Config -> data and network, for a new run and for a finished one."""

from torch import nn

from augcam.config.schema import Config
from augcam.data.augment import mix
from augcam.data.augment.pipeline import build
from augcam.data.datamodule import ImageDataModule
from augcam.data.datasets.base import Source
from augcam.data.datasets.cifar import CIFAR10
from augcam.data.datasets.folder import ImageFolder
from augcam.data.datasets.shapes import Shapes
from augcam.data.loader import auto_workers
from augcam.models.resnet import resnet


def build_source(config: Config) -> Source:
    """Where the run's images come from."""
    data = config.data
    if data.name == "cifar10":
        return CIFAR10(data.root)
    if data.name == "shapes":
        return Shapes(data.seed, data.train_size, data.test_size, data.shortcut)
    return ImageFolder(data.root, data.image_size)


def build_data(config: Config) -> ImageDataModule:
    """The run's LightningDataModule, nothing read yet.

    Raises:
        UserError: the augmentation pipeline cannot be built.
    """
    workers = config.data.num_workers
    return ImageDataModule(
        build_source(config),
        build(config.aug, config.seed),
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        num_workers=auto_workers(config.trainer.accelerator) if workers == "auto" else workers,
        holdout=config.data.holdout,
        seed=config.seed,
        mix=mix.build(
            config.mix.mixup.alpha if config.mix.mixup else None,
            config.mix.cutmix.alpha if config.mix.cutmix else None,
            config.seed,
            config.mix.p,
        ),
    )


def build_network(config: Config, num_classes: int) -> nn.Module:
    """The run's network, freshly initialised: (B, 3, H, W) float to (B, num_classes) logits."""
    model = config.model
    return resnet(
        num_classes,
        model.width,
        model.blocks,
        model.strides,
        model.dropout,
        model.whiten,
        model.init,
    )
