"""What mkdocs adds to docs/: README's sections as pages, and the reference of every key.

A section of README is written once, in README; its page is made here. The reference of the config is
read from `conf/`, whose comments say what a key means, and from the schema, which says what it takes.
A key without a meaning ends the build.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel, TypeAdapter

from augcam.cli import audit, board, evaluate, explain, foreign, refine, report
from augcam.config import model as networks
from augcam.config import schema
from augcam.config.compose import CONF

ROOT = Path(__file__).parents[1]

# The page of each section of README that is one; "" is what stands above the first section.
SECTIONS = {
    "": "index.md",
    "Start here": "index.md",
    "The commands you will use": "commands.md",
    "What a run leaves": "commands.md",
    "How to read the TensorBoard page": "tensorboard.md",
    "Compare augmentations": "sweeps.md",
    "How to add an augmentation": "transforms.md",
    "Your own network": "networks.md",
    "From Python": "python.md",
}
FILES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    made = {
        **readme_pages(),
        **{page: (ROOT / name).read_text() for name, page in FILES.items()},
        "reference/config.md": config_reference(),
        "reference/commands.md": commands_reference(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them: those of README, and those from docs/ to files above it."""
    up = "../" * page.file.src_uri.count("/")

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        target = target.removeprefix("../").removeprefix("docs/")
        if target == "README.md":
            target = next(
                (p for title, p in SECTIONS.items() if slug(title) == anchor[1:]), "index.md"
            )
        target = FILES.get(target, target)
        if files.get_file_from_path(target):
            return f"[{words}]({up}{target}{anchor})"
        # A file of the repository, or one that is still to come: its name alone.
        return words

    # What is above docs/, and folders, which have no page.
    above = re.compile(r"(?<!!)\[([^]]+)\]\((\.\./[\w./-]+|[\w-]+/)(#[\w-]+)?\)")
    of_root = re.compile(r"\[([^]]+)\]\(((?!https?:|#)[\w./-]+)(#[\w-]+)?\)")
    generated = page.file.src_uri in {*SECTIONS.values(), *FILES.values()}
    return (of_root if generated else above).sub(link, markdown)


def slug(title: str) -> str:
    """A heading's anchor."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def readme_pages() -> dict[str, str]:
    """README's sections by the page they are on; the first heading of a page is its title."""
    parts = re.split(r"^## (.+)\n", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    sections = {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))
    pages: dict[str, str] = {}
    for title, page in SECTIONS.items():
        level = "##" if page in pages else "#"
        heading = f"{level} {title}\n" if title else ""
        pages[page] = pages.get(page, "") + heading + sections[title]
    return pages


# -- the config -------------------------------------------------------------------------------------

GROUPS = {
    "data": "Where the images come from.",
    "mix": "What happens to a batch and its labels.",
    "model": "The network.",
    "optim": "The optimizer: any of `torch.optim` by its `_target_`, its own arguments beside it.",
    "scheduler": "The schedule of the rate: any of `torch.optim.lr_scheduler` by its `_target_`.",
    "trainer": "Lightning's Trainer.",
    "explain": "The Grad-CAM panels of each epoch.",
    "logger": "Where scalars and pictures go: any of Lightning's loggers by its `_target_`.",
    "callbacks": "Any of Lightning's callbacks by its `_target_`.",
}
# Keys that mean the same everywhere.
COMMON = {
    "_target_": "the class that is built; the keys beside it are its arguments",
    "name": "of this choice, for tables and folders",
}
MODELS: dict[str, Any] = {
    "data/_loader": schema._Loader,
    "data/cifar10": schema.CIFARConfig,
    "data/cifar100": schema.CIFARConfig,
    "data/shapes": schema.ShapesConfig,
    "data/folder": schema.FolderConfig,
    "data/torchvision": schema.TorchvisionConfig,
    "mix": schema.MixConfig,
    "model/resnet10": networks.ResNetConfig,
    "model/resnet18": networks.ResNetConfig,
    "model/torchvision": networks.LibraryConfig,
    "model/timm": networks.LibraryConfig,
    "model/custom": networks.CustomConfig,
    "optim": schema.OptimConfig,
    "scheduler": schema.SchedulerConfig,
    "trainer": schema.TrainerConfig,
    "explain": schema.ExplainConfig,
    "train": schema.Config,
}


class Key:
    """A key of a file of conf/: its dotted path, what is written there, and what its comment says."""

    def __init__(self, path: str, value: str, meaning: str) -> None:
        self.path, self.value, self.meaning = path, value, meaning


def keys(path: Path) -> Iterator[Key]:
    """The keys of a file of conf/, in order, `defaults` and `hydra` left out.

    A key's comment stands after its value and on the lines below that hold nothing else, or above it.
    """
    text = path.read_text()
    lines = text.splitlines()
    root = yaml.compose(text)
    if isinstance(root, yaml.MappingNode):
        yield from _keys(root, lines, "")


def _keys(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Key]:
    for key, value in node.value:
        if not prefix and key.value in ("defaults", "hydra"):
            continue
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style
        first, last = key.start_mark.line, key.start_mark.line if nested else value.end_mark.line
        rest = lines[last].partition(" # ")[2] if not nested else ""
        words = [rest.strip()]
        for line in lines[last + 1 :]:
            if not rest or not re.match(rf" {{{key.start_mark.column + 2},}}#", line):
                break
            words.append(line.strip(" #"))
        if not rest:
            words = _above(lines, first)
        written = lines[first].partition(":")[2].partition(" # ")[0].strip()
        yield Key(f"{prefix}{key.value}", "" if nested else written, " ".join(words).strip())
        if nested:
            yield from _keys(value, lines, f"{prefix}{key.value}.")


def _above(lines: list[str], first: int) -> list[str]:
    """The comment above a line, unless it is the head of the file."""
    words: list[str] = []
    for line in reversed(lines[:first]):
        if not line.lstrip().startswith("#"):
            return words[::-1]
        words.append(line.strip(" #"))
    return []


def head(path: Path) -> str:
    """The comment at the top of a file of conf/, its indented lines as code."""
    words = ""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").removeprefix(" ")
        words += f"\n\n    {text.strip()}\n\n" if text.startswith("  ") else f"{text} "
    return words.strip()


def bases(path: Path) -> list[Path]:
    """The files of its group that a file of conf/ begins with."""
    defaults = (yaml.safe_load(path.read_text()) or {}).get("defaults", [])
    near = [path.with_name(f"{one}.yaml") for one in defaults if isinstance(one, str)]
    return [one for one in near if one.is_file()]


def meaning(path: Path, key: Key) -> str:
    """What a key means: as its own file says, or the file that this one begins with, or everywhere.

    Raises:
        ValueError: nothing says it.
    """
    if key.meaning:
        return key.meaning
    for base in bases(path):
        for other in keys(base):
            if other.path == key.path and (other.meaning or key.path in COMMON):
                return meaning(base, other)
    if key.path.rpartition(".")[2] in COMMON:
        return COMMON[key.path.rpartition(".")[2]]
    if path.parent.name in ("logger", "callbacks") and "." not in key.path:
        return "its name among the run's"
    raise ValueError(
        f"{path.relative_to(CONF)}: {key.path} has no meaning: write it behind the value"
    )


def taken(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a key takes, in words, from its JSON schema."""
    if "$ref" in node:
        return "keys of its own"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(taken(one, definitions) for one in node["anyOf"]))
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{one}`" for one in node["enum"])
    low = node.get("minimum", node.get("exclusiveMinimum"))
    high = node.get("maximum", node.get("exclusiveMaximum"))
    kind = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true` or `false`",
        "string": "text",
        "null": "`null`",
        "array": "list",
        "object": "keys of its own",
    }
    words = kind[node["type"]] if "type" in node else "anything"
    if low is not None:
        words += f", {'over' if 'exclusiveMinimum' in node else 'from'} {low:g}"
    if high is not None:
        words += f" {'to below' if 'exclusiveMaximum' in node else 'to'} {high:g}"
    return words


def properties(kind: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The JSON schemas of a model's keys, and the definitions that they name."""
    whole = TypeAdapter(kind).json_schema()
    return whole.get("properties", {}), whole.get("$defs", {})


def table(path: Path, kind: Any) -> list[str]:
    """A file's keys: key, value there, what it takes, what it means."""
    takes, definitions = properties(kind) if kind else ({}, {})
    lines = ["", "| key | here | takes | meaning |", "|---|---|---|---|"]
    group = "" if path.parent == CONF else f"{path.parent.relative_to(CONF).as_posix()}."
    for key in keys(path):
        inner, known = key.path, takes
        node = known.get(inner, {})
        while "." in inner and not node:
            outer, _, inner = inner.partition(".")
            refs = re.findall(r"#/\$defs/(\w+)", str(known.get(outer, {})))
            known = definitions[refs[0]].get("properties", {}) if refs else {}
            node = known.get(inner, {})
        words = taken(node, definitions) if node else ""
        value = f"`{key.value}`" if key.value else ""
        cells = [f"`{group}{key.path}`", value, words, meaning(path, key)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""] if len(lines) > 3 else [""]


def files_of(group: str) -> list[Path]:
    """The files of a group, the one that the others begin with first."""
    return sorted((CONF / group).glob("*.yaml"))


def missing() -> list[str]:
    """Keys of the schema that no file of conf/ has."""
    gone = []
    for place, kind in MODELS.items():
        paths = [CONF / f"{place}.yaml"] if "/" in place or place == "train" else files_of(place)
        have: set[str] = set()
        while paths:
            path = paths.pop()
            have |= {key.path for key in keys(path)}
            paths += bases(path)
        have |= set(GROUPS) | {"aug"} if place == "train" else set()
        have |= {"name"} if "/_" in place else set()  # which each of the choices has
        for name in properties(kind)[0]:
            if name not in have:
                gone.append(f"{place}: {name}")
    return gone


def config_reference() -> str:
    """The page of every key.

    Raises:
        ValueError: a key has no meaning, or the schema has one that conf/ lacks.
    """
    if gone := missing():
        raise ValueError(f"keys of the schema that conf/ does not have: {', '.join(gone)}")
    lines = [
        "# Config", "",
        "Every key, made from `conf/` and from the schema that checks it. `group=choice` takes a "
        "file of `conf/group/`, `key=value` sets a key; `python train.py --cfg job` prints the "
        "whole, and with arguments before it what they make of it.", "",
        "## The run", *table(CONF / "train.yaml", schema.Config),
        "## aug", "",
        "The pipeline of a training image. [Augmentations](../augmentations.md) has every pipeline, "
        "every transform and its parameters: `aug.NAME.PARAMETER=VALUE`.", "",
    ]  # fmt: skip
    for group, words in GROUPS.items():
        lines += [f"## {group}", "", words, ""]
        for path in files_of(group):
            shared = path.stem.startswith("_")
            lines += [
                f"### {group}: all" if shared else f"### {group}={path.stem}",
                "",
                head(path),
                "",
            ]
            lines += table(path, MODELS.get(f"{group}/{path.stem}", MODELS.get(group)))
            if bases(path):
                names = " and ".join(f"`{one.stem}`" for one in bases(path))
                lines += [f"Further keys: those of {names}.", ""]
    lines += ["## experiment", "", "Whole recipes.", ""]
    for path in sorted((CONF / "experiment").rglob("*.yaml")):
        name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
        lines += [f"### experiment={name}", "", head(path), ""]
    return "\n".join(lines)


COMMANDS: dict[str, type[BaseModel]] = {
    "audit": audit.Options,
    "audit weights=FILE": audit.ForeignOptions,
    "evaluate": evaluate.Options,
    "report": report.Options,
    "refine": refine.Options,
    "explain": explain.Options,
    "explain weights=FILE": foreign.Options,
    "board": board.Options,
}


def commands_reference() -> str:
    """The options of the commands that do without Hydra.

    Raises:
        ValueError: an option has no description.
    """
    lines = [
        "# Commands' options", "",
        "`augcam train` and `augcam preview` take the keys of the [config](config.md). "
        "`trust=mypackage` lets a package of your own into every command.", "",
    ]  # fmt: skip
    for name, options in COMMANDS.items():
        takes, definitions = properties(options)
        lines += [
            f"## augcam {name}",
            "",
            "| option | default | takes | meaning |",
            "|---|---|---|---|",
        ]
        for attribute, field in options.model_fields.items():
            key = field.alias or attribute  # `data.root`
            if not field.description:
                raise ValueError(f"augcam {name}: {key} has no description")
            default = "" if field.is_required() else f"`{field.default}`"
            words = taken(takes[key], definitions)
            lines.append(f"| `{key}=` | {default} | {words} | {field.description} |")
        lines.append("")
    return "\n".join(lines)
