"""torchvision's and timm's networks by name, and the weights that they publish."""

from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from augcam.errors import UserError, first_line, nearest

# Arguments with which timm would read files or addresses that a config must not name.
_NOT_OF_THE_NETWORK = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


def torchvision_network(
    arch: str, num_classes: int, image_size: int, **arguments: Any
) -> nn.Module:
    """A classification network of torchvision, freshly initialised, its head with `num_classes`.

    Args:
        arch: as in `torchvision.models.list_models()`.
        image_size: pixels a side, which some networks must know.
        arguments: the network's own.

    Raises:
        UserError: no such network, or it refuses the image size or an argument.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if arch not in names:
        raise UserError(f"model.arch={arch}: unknown to torchvision; {nearest(arch, names)}")
    if arch.startswith("vit_"):
        arguments = {"image_size": image_size} | arguments
    elif arch == "maxvit_t":
        arguments = {"input_size": (image_size, image_size)} | arguments
    elif arch in ("googlenet", "inception_v3"):  # they would give three outputs in training
        arguments = {"aux_logits": False, "init_weights": True} | arguments
    try:
        network: nn.Module = torchvision.models.get_model(
            arch, weights=None, num_classes=num_classes, **arguments
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"model.arch={arch}, images of {image_size} pixels: {error}") from None
    return network


def timm_network(arch: str, num_classes: int, image_size: int, **arguments: Any) -> nn.Module:
    """A network of timm, freshly initialised unless `pretrained=True`, its head with `num_classes`.

    Args:
        arch: as in `timm.list_models()`, with or without the name of its weights after a dot.
        image_size: pixels a side, for those networks that must know.
        arguments: the network's own.

    Raises:
        UserError: timm is not installed, has no such network, or refuses the size or an argument.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(
            "model=timm: timm is not installed; uv sync --extra timm, or pip install timm"
        ) from None
    if not timm.is_model(arch):
        raise UserError(f"model.arch={arch}: unknown to timm; {nearest(arch, timm.list_models())}")
    for name in _NOT_OF_THE_NETWORK & arguments.keys():
        raise UserError(
            f"model.{name}: not an argument of the network; model.weights=FILE loads one"
        )
    given: dict[str, Any] = {"num_classes": num_classes} | arguments
    try:
        try:
            network: nn.Module = timm.create_model(arch, **given, img_size=image_size)
        except TypeError as error:  # a convolutional network takes images of any size
            if "img_size" not in str(error):
                raise
            network = timm.create_model(arch, **given)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"model.arch={arch}, images of {image_size} pixels: {error}") from None
    return network


def pretrained_weights(
    library: str, arch: str, num_classes: int, image_size: int, **arguments: Any
) -> dict[str, Tensor]:
    """The weights that torchvision or timm publishes for a network, fetched where they are not cached.

    A ViT's position embeddings are resized to the images.

    Returns:
        A state dict. torchvision's head has ImageNet's 1000 classes; timm's is new.

    Raises:
        UserError: none are published, or they cannot be fetched.
    """
    try:
        if library == "timm":
            made = timm_network(arch, num_classes, image_size, pretrained=True, **arguments)
            return dict(made.state_dict())
        published = list(torchvision.models.get_model_weights(arch))
        if not published:
            raise UserError(f"model.arch={arch}: torchvision publishes no weights for it")
        weights = torchvision.models.get_model_weights(arch).DEFAULT
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except UserError:
        raise
    except Exception as error:  # each library and each of its transports has errors of its own
        raise UserError(
            f"model.pretrained=true: the weights of {arch} cannot be fetched ({first_line(error)}); "
            "where there is no network, give a file: model.pretrained=false model.weights=FILE"
        ) from None
    if arch.startswith("vit_"):
        patch = state["conv_proj.weight"].shape[-1]
        state = dict(interpolate_embeddings(image_size, patch, state))
    return state
