"""The model section of the config: which network, with which first layers, and from which weights."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from augcam.errors import nearest, shown

# Of ImageNet's channels, 0..1: what most published weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Stem = Literal["auto", "cifar", "imagenet"]
Stride = Literal[1, 2]
Blocks = Annotated[int, Field(ge=1)]


class _Network(BaseModel):
    """What every network has."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    # A file of weights to start from, of this architecture; its head may have other classes.
    weights: str | None = None
    # Parts that are not trained: prefixes of parameter names, or how many of the first stages.
    freeze: Annotated[int, Field(ge=0)] | tuple[str, ...] = 0
    channels_last: bool | Literal["auto"]
    compile: bool


class ResNetConfig(_Network):
    """`augcam.models.resnet.resnet`."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["resnet10", "resnet18"]
    # Eights: with fewer channels torch 2.15 corrupts memory on a CPU in channels_last (AVX2, measured).
    width: int = Field(ge=8, multiple_of=8)
    blocks: tuple[Blocks, Blocks, Blocks, Blocks]
    strides: tuple[Stride, Stride, Stride, Stride] = (1, 2, 2, 2)
    stem: Stem = "cifar"
    whiten: bool = False
    init: Literal["he", "torch"] = "he"
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _whitens_what_it_can(self) -> "ResNetConfig":
        if self.whiten and self.stem != "cifar":
            raise ValueError(f"stem={self.stem}: whiten=true goes with stem=cifar")
        return self

    @property
    def label(self) -> str:
        """Its name by its depth: two convolutions a block, the first one, and the head."""
        return f"resnet{2 * sum(self.blocks) + 2}"


class LibraryConfig(_Network):
    """A network of torchvision or timm by its name there; further keys are its own arguments."""

    model_config = ConfigDict(extra="allow")

    name: Literal["torchvision", "timm"]
    arch: str = Field(min_length=1)
    pretrained: bool = False
    stem: Stem = "auto"

    @model_validator(mode="after")
    def _starts_from_one_thing(self) -> "LibraryConfig":
        if self.pretrained and self.weights is not None:
            raise ValueError(f"weights={self.weights}: give this or pretrained=true, not both")
        return self

    @property
    def label(self) -> str:
        return self.arch

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the network itself."""
        return dict(self.model_extra or {})


class CustomConfig(_Network):
    """A network of a trusted package: `_target_`, called with `num_classes` and its own arguments."""

    model_config = ConfigDict(extra="allow")

    name: Literal["custom"]
    target: str = Field(alias="_target_", min_length=1)

    @property
    def label(self) -> str:
        return self.target.rpartition(".")[2]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the network itself, without `num_classes`."""
        return dict(self.model_extra or {})


_KINDS = {
    "resnet10": "resnet",
    "resnet18": "resnet",
    "torchvision": "library",
    "timm": "library",
    "custom": "custom",
}


def _kind(model: Any) -> str:
    name = str(model.get("name") if isinstance(model, dict) else getattr(model, "name", None))
    return _KINDS.get(name, name)


def unknown_network(name: str) -> str:
    """What is wrong with `model.name=NAME`, and what would be right."""
    return (
        f"model.name={shown(name)}: no such network; {nearest(name, _KINDS)}\n"
        "torchvision's and timm's by their names there: model=torchvision model.arch=resnet50"
    )


ModelConfig = Annotated[
    Annotated[ResNetConfig, Tag("resnet")]
    | Annotated[LibraryConfig, Tag("library")]
    | Annotated[CustomConfig, Tag("custom")],
    Discriminator(_kind),
]
