"""Grad-CAM and its relatives: model + layers + batch -> maps. Knows torch alone.

with GradCAM(model, layers=("layer3", "layer4")) as cam:
    maps = cam(images, targets=None)
maps["layer4"].heatmap

with GradCAM(model) as cam:  # at the layer that suits the architecture
    maps = cam(images)
maps[cam.layers[0]].heatmap
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augcam.errors import UserError
from augcam.explain.cells import as_cells, prefix_tokens

Status = Literal["ok", "no_positive_evidence", "constant", "nonfinite"]
STATUSES: tuple[Status, ...] = ("ok", "no_positive_evidence", "constant", "nonfinite")

# Differences below this share of a map's peak are float32 rounding, not evidence.
ROUNDING = 1e-5


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM: channels weighted by their mean gradient (Selvaraju et al., arXiv 1610.02391)."""
    return (gradients.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++: positive gradients in closed-form shares (Chattopadhay et al., arXiv 1710.11063).

    Equation 19's share g^2 / (2 g^2 + sum(A) g^3) is 1 / (2 + sum(A) g) wherever g is not 0: so
    written it needs no epsilon. pytorch-grad-cam adds 1e-6 below the fraction, which decides the
    map wherever gradients are below 1e-3.
    """
    denominator = 2 + activations.sum(dim=(2, 3), keepdim=True) * gradients
    share = torch.where(denominator == 0, 0, 1 / denominator)
    weights = (gradients.relu() * share).sum(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1)


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM: gradient times activation, cell by cell (Draelos, Carin, arXiv 2011.08891)."""
    return (gradients * activations).sum(dim=1)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM: cell by cell, positive gradients alone (Jiang et al., IEEE TIP 2021,
    doi 10.1109/TIP.2021.3089943)."""
    return (gradients.relu() * activations).sum(dim=1)


# Each takes activations and gradients (B, K, h, w) and returns signed maps (B, h, w).
METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": grad_cam,
    "gradcam++": grad_cam_plus_plus,
    "hirescam": hires_cam,
    "layercam": layer_cam,
}


@dataclass(frozen=True)
class LayerMaps:
    """The maps of one layer for a batch.

    Attributes:
        raw: (B, h, w), signed, before ReLU, in units of the logit; float32 (float64 for a model in
            float64), h and w being the layer's cells.
        heatmap: (B, H, W) in [0, 1] at the image's size, same dtype; see `heatmap`.
        status_code: (B,) int64, index into `STATUSES`.
    """

    raw: Tensor
    heatmap: Tensor
    status_code: Tensor

    @cached_property
    def status(self) -> tuple[Status, ...]:
        """One word per sample: what its map is worth. Waits for the device on first use.

        `nonfinite`: NaN or infinity in the raw map; `constant`: all cells are equal (zero too);
        `no_positive_evidence`: cells differ but none speaks for the target. In these three cases
        the heatmap is all zero. Else `ok`.
        """
        return tuple(STATUSES[code] for code in self.status_code.tolist())


@dataclass(frozen=True)
class Maps(Mapping[str, LayerMaps]):
    """The maps of all layers by name, in the order asked for.

    Attributes:
        logits: (B, C), as the model gave them in eval mode.
        targets: (B,) or (B, 2) int64: what was explained.
    """

    layers: dict[str, LayerMaps]
    logits: Tensor
    targets: Tensor

    def __getitem__(self, layer: str) -> LayerMaps:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


def map_status(raw: Tensor) -> Tensor:
    """Status of raw maps (B, h, w): (B,) int64, indices into `STATUSES`; no wait for the device."""
    low, high = raw.flatten(1).aminmax(dim=1)
    rounding = ROUNDING * torch.maximum(low.abs(), high.abs())
    code = torch.zeros(len(raw), dtype=torch.int64, device=raw.device)
    code = code.masked_fill(high <= rounding, STATUSES.index("no_positive_evidence"))
    code = code.masked_fill(high - low <= rounding, STATUSES.index("constant"))
    # aminmax hands NaN on, so these two speak for every cell.
    return code.masked_fill(~(low.isfinite() & high.isfinite()), STATUSES.index("nonfinite"))


def heatmap(raw: Tensor, status_code: Tensor, size: tuple[int, int]) -> Tensor:
    """Positive part of raw maps, at `size`, each stretched to [0, 1]; zero where status is not ok.

    ReLU, bilinear interpolation (`align_corners=False`: cells are areas, not points), then each
    sample's own minimum becomes 0 and its maximum 1, as in pytorch-grad-cam and torchcam, but with
    no epsilon, so that the scale of the logits does not matter.

    Args:
        raw: (B, h, w).
        status_code: (B,), from `map_status`.
        size: (H, W) in pixels.

    Returns:
        (B, H, W), dtype of `raw`.
    """
    maps = F.interpolate(raw.relu()[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    stretched = (maps - low) / (high - low)
    # where, not a product: 0 x NaN is NaN.
    usable = (status_code[:, None, None] == 0) & (high > low)
    return torch.where(usable, stretched, 0)


class GradCAM:
    """Class activation maps of a classifier at any of its layers.

    All layers come from one forward and one backward pass; the graph begins at the earliest layer,
    so only activations get gradients. During a call the model runs in eval mode, in float32
    (float64 if it has float64 parameters), without autocast and uncompiled, whatever surrounds it:
    training, validation under `inference_mode`, frozen weights. Afterwards, and after an exception
    too, everything is as before: modes, parameters and their `.grad` and `requires_grad`, buffers,
    random state and, on leaving the context, hooks.

    Args:
        model: from (B, 3, H, W) to logits (B, C). May be compiled (either way), frozen, in
            half precision or channels_last.
        layers: names as in `model.named_modules()`, each making maps once per forward: (B, K, h, w),
            (B, h, w, K), or the tokens of a transformer (see `augcam.explain.cells`). `auto` is
            `target_layer` for the images of the first call; from then on the attribute `layers` has
            its name.
        method: one of `METHODS`.

    Raises:
        UserError: unknown method or layer; the message names the nearest ones.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] = "auto",
        method: str = "gradcam",
    ) -> None:
        if method not in METHODS:
            raise UserError(f"Unknown method {method!r}; one of: {', '.join(METHODS)}.")
        # torch.compile(model) wraps the module that has the layers.
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.layers = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
        self.method = method
        modules = dict(self.model.named_modules(remove_duplicate=False))
        if not self.layers:
            raise UserError(f"No layers to explain; some of: {_listed(_likely_layers(modules))}.")
        for layer in self.layers:
            if layer != "auto" and (not layer or layer not in modules):
                nearest = difflib.get_close_matches(str(layer), modules, n=3)
                names = dict.fromkeys([*nearest, *_likely_layers(modules)])
                raise UserError(
                    f"Unknown layer {layer!r} of {type(self.model).__name__}.\n"
                    f"Layers that make maps: auto, {_listed(list(names))}."
                )
        self._prefix_tokens = prefix_tokens(self.model)
        self._hooks = ExitStack()
        self._entered = self._hooked = False
        # Outputs of the layers during a call; None outside one, and then the hooks do nothing.
        self._outputs: dict[str, list[Any]] | None = None

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = self._hooked = False
        self._hooks.close()

    def _hook(self, layer: str) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if self._outputs is None:
                return None
            outputs = self._outputs.setdefault(layer, [])
            if not isinstance(output, Tensor) or not output.is_floating_point():
                outputs.append(output)
                return None
            # The model may run its trunk under no_grad; this lasts no longer than that block.
            torch.set_grad_enabled(True)
            if not output.requires_grad:
                output = output.detach().requires_grad_()  # the graph begins here
            outputs.append(output)
            # The model goes on with a copy: an in-place ReLU behind the layer would overwrite ours.
            return output.clone()

        return keep

    def __call__(self, images: Tensor, targets: Tensor | Sequence[int] | None = None) -> Maps:
        """Explain a batch.

        Args:
            images: (B, 3, H, W) floating point, normalized as the model expects; moved to its
                device and dtype.
            targets: None for the predicted classes; (B,) class indices; or (B, 2) for the
                difference of two logits, first minus second: what speaks for the one and against
                the other.

        Returns:
            Maps by layer, on the model's device, outside any graph.

        Raises:
            UserError: wrong images or targets; a layer that makes no spatial map (1x1 counts as
                none), runs more or less than once, or does not reach the logits.
        """
        if not self._entered:
            raise RuntimeError(
                "GradCAM keeps its hooks in a context: with GradCAM(...) as cam: ..."
            )
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            raise UserError(
                f"Images must be a floating-point tensor (B, 3, H, W), not {_described(images)}."
            )
        if len(images) == 0:
            raise UserError("No images to explain: the batch is empty.")
        size = (images.shape[2], images.shape[3])
        if not self._hooked:
            self.layers = layer_names(self.model, self.layers, size)
            for layer in self.layers:
                hook = self.model.get_submodule(layer).register_forward_hook(self._hook(layer))
                self._hooks.callback(hook.remove)
            self._hooked = True
        with ExitStack() as stack:
            images = stack.enter_context(_prepared(self.model, images))
            self._outputs = {}
            stack.callback(setattr, self, "_outputs", None)
            logits = self.model(images)
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
                raise UserError(f"The model must give logits (B, C), not {_described(logits)}.")
            activations = self._checked_outputs(images)
            chosen = _resolve(targets, logits)
            score = logits.gather(1, chosen.view(len(logits), -1))
            total = score[:, 0].sum() - score[:, 1:].sum()
            # A sample's logits depend on that sample alone (eval mode), so the gradient of the sum
            # holds every sample's own.
            gradients: Sequence[Tensor | None] = [None] * len(activations)
            if total.requires_grad:
                gradients = torch.autograd.grad(total, activations, allow_unused=True)
            found = {}
            with torch.no_grad():
                for layer, activation, gradient in zip(
                    self.layers, activations, gradients, strict=True
                ):
                    if gradient is None:
                        raise UserError(f"The logits do not depend on layer {layer!r}.")
                    # A model that switches autocast on inside its forward gives half precision.
                    raw = METHODS[self.method](
                        self._cells(activation, size).to(images.dtype),
                        self._cells(gradient, size).to(images.dtype),
                    )
                    code = map_status(raw)
                    found[layer] = LayerMaps(raw, heatmap(raw, code, size), code)
            return Maps(found, logits.detach().to(images.dtype), chosen)

    def _cells(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        cells = as_cells(output.detach(), size, self._prefix_tokens)
        assert cells is not None  # `_checked_outputs` has looked
        return cells

    def _checked_outputs(self, images: Tensor) -> list[Tensor]:
        """The one spatial output of each layer, in the order asked for."""
        assert self._outputs is not None
        checked = []
        size = (images.shape[2], images.shape[3])
        for layer in self.layers:
            outputs = self._outputs.get(layer, [])
            if len(outputs) != 1:
                problem = (
                    f"runs {len(outputs)} times in one forward pass, so its map is ambiguous"
                    if outputs
                    else "does not run in the forward pass"
                )
            elif not _is_spatial(outputs[0], size, self._prefix_tokens):
                problem = (
                    f"has no spatial extent: it gives {_described(outputs[0])} for "
                    f"{size[0]}x{size[1]} images"
                )
            else:
                checked.append(outputs[0])
                continue
            self._outputs = None  # from here the hooks are silent
            names = _spatial_layers(self.model, images)
            raise UserError(f"Layer {layer!r} {problem}.\nLayers that make maps: {_listed(names)}.")
        return checked


def _resolve(targets: Tensor | Sequence[int] | None, logits: Tensor) -> Tensor:
    """Targets as int64 (B,) or (B, 2) on the logits' device, checked against their C classes."""
    count, classes = logits.shape
    if targets is None:
        return logits.detach().argmax(dim=1)
    try:
        chosen = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"Targets must be class indices, not {targets!r}.") from error
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise UserError(f"Targets must be integer class indices, not {chosen.dtype}.")
    if tuple(chosen.shape) not in ((count,), (count, 2)):
        raise UserError(
            f"Targets have shape {tuple(chosen.shape)}; for {count} images it must be ({count},), "
            f"or ({count}, 2) for a difference of two logits."
        )
    # Looked at where they are: targets on the CPU cost no wait for the device.
    outside = chosen[(chosen < 0) | (chosen >= classes)]
    if len(outside):
        raise UserError(f"Target {int(outside[0])} is not a class: 0 to {classes - 1}.")
    return chosen.to(device=logits.device, dtype=torch.int64, copy=True)


@contextmanager
def _prepared(model: nn.Module, images: Tensor) -> Iterator[Tensor]:
    """Make the model fit for a gradient pass, and hand out images that fit it; undo all at the end.

    Each module holds stand-ins for its parameters: the same storage outside the graph (so frozen
    or not makes no difference, and nothing is kept for layers before the earliest map), or a
    float32 copy of half-precision ones, or a plain copy of inference tensors, which autograd
    refuses. Buffers are replaced only where a copy is needed.
    """
    modules = list(model.modules())
    floats = [p for p in model.parameters() if p.is_floating_point()]
    wide = any(p.dtype == torch.float64 for p in floats)
    dtype = torch.float64 if wide else torch.float32
    device = floats[0].device if floats else images.device
    copies: dict[int, Tensor] = {}

    def is_unfit(tensor: Tensor) -> bool:
        return tensor.is_inference() or tensor.dtype in (torch.float16, torch.bfloat16)

    def stand_in(tensor: Tensor) -> Tensor:
        if not is_unfit(tensor):
            return tensor.detach()
        # Shared tensors are copied once. `copy` makes a normal tensor of an inference tensor.
        if id(tensor) not in copies:
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            copies[id(tensor)] = tensor.detach().to(kind, copy=True)
        return copies[id(tensor)]

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {device.type, "cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        # Dropout is off in eval mode; this is for models that draw numbers whatever their mode.
        devices = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices))
        if any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in modules):
            # Hooks never fire inside a compiled graph.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for module in modules:
            # Not model.eval(): that goes through train(), which models override.
            stack.callback(setattr, module, "training", module.training)
            module.training = False
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    stack.callback(module._parameters.__setitem__, name, parameter)
                    module._parameters[name] = nn.Parameter(
                        stand_in(parameter), requires_grad=False
                    )
            for name, buffer in module._buffers.items():
                if buffer is not None and is_unfit(buffer):
                    stack.callback(module._buffers.__setitem__, name, buffer)
                    module._buffers[name] = stand_in(buffer)
        yield images.detach().to(device, dtype, copy=images.is_inference())


def layer_names(
    model: nn.Module, layers: Sequence[str], image_size: tuple[int, int]
) -> tuple[str, ...]:
    """`layers`, each once, with `auto` replaced by `target_layer`; for images of (H, W) pixels."""
    names = (target_layer(model, image_size) if name == "auto" else name for name in layers)
    return tuple(dict.fromkeys(names))


def page_layers(model: nn.Module, image_size: tuple[int, int]) -> tuple[str, ...]:
    """The layers that a page shows beside each other: a ResNet's four stages, else `target_layer`."""
    last = target_layer(model, image_size)
    names = tuple(f"layer{stage}" for stage in range(1, 5))
    if all(hasattr(model, name) for name in names):
        # With ImageNet's stem and small images the last stages may have a single cell.
        return names[: names.index(last) + 1] if last in names else (last,)
    return (last,)


def target_layer(model: nn.Module, image_size: tuple[int, int]) -> str:
    """The layer whose map suits the architecture: the last one from which all cells reach the logits.

    Convolutional networks: the whole of the last stage, before pooling (`layer4`, `features`); where
    images are so small that it has one cell, the last layer that has more. Transformers: a
    normalisation layer, as pytorch-grad-cam advises; in a ViT that reads its class token the one before
    the last attention (`blocks.11.norm1`), because patches behind that have no way to the logits; in
    one that averages its patches, and in Swin, the last.

    It follows from the architecture and the image size: one forward and one backward pass of fixed
    noise, with weights that are all zero (a new head may be) replaced. The model is left as it was.

    Args:
        image_size: (H, W) in pixels.

    Raises:
        UserError: no layer of the model makes maps.
    """
    model = getattr(model, "_orig_mod", model)
    prefix = prefix_tokens(model)
    noise = torch.randn(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
    outputs: dict[str, list[Tensor]] = {}  # in the order in which the layers end
    coarse = set()  # layers whose map has one cell

    def keep(name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], Tensor | None]:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if not _is_candidate(module, output, image_size, prefix):
                if (
                    isinstance(output, Tensor)
                    and output.ndim == 4
                    and output.shape[2:].numel() == 1
                ):
                    coarse.add(f"{name}.")
                return None
            torch.set_grad_enabled(True)
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            outputs.setdefault(name, []).append(output)
            copy: Tensor = output.clone()
            return copy

        return hook

    with ExitStack() as stack:
        images = stack.enter_context(_prepared(model, noise))
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(keep(name, module)).remove)
            for kind, parameter in module._parameters.items():
                if parameter is not None and kind != "bias" and not parameter.any():
                    made = nn.Parameter(torch.randn_like(parameter) / 10, requires_grad=False)
                    module._parameters[kind] = made  # a stand-in, which `_prepared` takes away
        logits = model(images)
        once = {name: many[0] for name, many in outputs.items() if len(many) == 1}
        if not once or not logits.requires_grad:
            raise UserError(
                f"No layer of {type(model).__name__} makes maps, so that there is no Grad-CAM of it; "
                "explain.images=0 trains without panels"
            )
        gradients = torch.autograd.grad(logits.sum(), list(once.values()), allow_unused=True)
    reaching = []
    for name, gradient in zip(once, gradients, strict=True):
        cells = as_cells(gradient, image_size, prefix)
        if cells is not None and cells.any():
            reaching.append(name)
    # The stage before is better than half of one, where there is one.
    stages = [name for name in reaching if not name.startswith(tuple(coarse))]
    return (stages or reaching or list(once))[-1]


def _is_candidate(
    module: nn.Module, output: Any, size: tuple[int, int], prefix: int | None
) -> bool:
    if not _is_spatial(output, size, prefix):
        return False
    cells = as_cells(output, size, prefix)
    if output.ndim == 3 or (cells is not None and cells.shape != output.shape):
        return "Norm" in type(module).__name__
    # Pooling, dropout and the like only hand on what an earlier layer made.
    activation = type(module).__module__ == "torch.nn.modules.activation"
    return activation or any(True for _ in module.parameters())


def _is_spatial(output: Any, size: tuple[int, int], prefix: int | None) -> bool:
    cells = as_cells(output, size, prefix)
    return cells is not None and cells.shape[2:].numel() > 1


def _likely_layers(modules: Mapping[str, nn.Module]) -> list[str]:
    """Names, at most two deep, of modules that hold a convolution: known without a forward pass."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        name
        for name, module in modules.items()
        if name
        and name.count(".") < 2
        and any(isinstance(part, convolutions) for part in module.modules())
    ]


def _spatial_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Names of all modules that make one spatial map each in a forward pass of the first image."""
    shapes: dict[str, list[Any]] = {}
    size, prefix = (images.shape[2], images.shape[3]), prefix_tokens(model)
    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if name:

                def keep(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                    shapes.setdefault(name, []).append(_is_spatial(output, size, prefix))

                stack.callback(module.register_forward_hook(keep).remove)
        model(images[:1])
    return sorted(
        (name for name, spatial in shapes.items() if spatial == [True]),
        key=lambda name: name.count("."),
    )


def _listed(names: Sequence[str], most: int = 24) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
