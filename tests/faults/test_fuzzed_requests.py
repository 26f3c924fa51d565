"""Requests that nobody would write, to every command: an answer in words, never a traceback.

Each example is a whole command in this process, up to where the long work would begin. The quick test
makes a few; by hand, with the count printed:

    pytest -n0 -s -m slow tests/faults/test_fuzzed_requests.py

or one part of it at a time, `-k 'two_thousand and 3'`: each draws from a seed of its own.
"""

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.plugins import Plugins
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from augcam.cli.main import COMMANDS
from augcam.config.compose import CONF, compose, flat
from augcam.runs.run_folder import RunFolder
from tests.faults.command import Ended, Started, command, watch

TINY = [
    "data=shapes", "data.train_size=100", "data.test_size=40", "data.holdout=20", "data.batch_size=20",
    "model=resnet10", "model.width=8", "trainer.accelerator=cpu", "trainer.precision=32-true",
]  # fmt: skip

# Keys that say where something is written: there the user may ask for any place.
PLACES = re.compile(
    r"dir\b|root|cache|path|filename|subdir|hydra\.|hydra/|logger|callbacks|weights"
)

TREE: dict = OmegaConf.to_container(compose(TINY), resolve=False)  # type: ignore[assignment]
LEAVES = sorted(flat(TREE))
NODES = sorted({leaf.rpartition(".")[0] for leaf in LEAVES} - {""})
GROUPS = sorted({p.parent.relative_to(CONF).as_posix() for p in CONF.rglob("*.yaml")} - {"."})
HYDRA = [
    "hydra.job.name", "hydra.job.chdir", "hydra.verbose", "hydra.mode", "hydra.output_subdir",
    "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.num", "hydra.launcher.n_jobs",
    "hydra.sweeper.max_batch_size", "hydra.callbacks", "hydra.searchpath", "hydra/launcher",
    "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging", "hydra.job.env_set.X", "hydra",
]  # fmt: skip
ALL_CHOICES = {group: sorted(p.stem for p in (CONF / group).glob("[!_]*.yaml")) for group in GROUPS}

NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([0, -1, 2**31, 2**63, -(2**70), 10**400]), st.integers(),
    st.floats(), st.floats(0, 1), st.sampled_from(["1e400", "-inf", "nan", ".5", "1_000", "0x10"]),
).map(str)  # fmt: skip
WORDS = st.sampled_from(
    ["", "null", "true", "False", "auto", "none", "~", "''", '""', "'", '"', "\\", "a\\b", "\\'", "a b",
     "[", "]", "{}", "[]", "[[[[[[]]]]]]", "{a:1}", "{a:{b:{c:[1,{d:2}]}}}", "{_target_:os.system}",
     "???", "${", "${}", "${x}", "${seed}", "${name}", "${..seed}", "${oc.env:HOME}", "${oc.env:NO}",
     "${now:%Y}", "${hydra:job.name}", "${unique:}", "${cv2:NO}", "${changes:}", "${short:${name}}",
     "..", "../x", "../../../esc", "a/b", "/proc/none", "/dev/null", "con:", "%s{x}", "[/x]", "[red]x",
     "<b>", "$\\frac$", "é", "日本", "\u202egnp", "\U0001f431", "caf\udce9", "\t",
     "a\nb", "x=y", "=", ",", "*", "x" * 3000,
     "[" + "1," * 900 + "1]", "9" * 3000, "[" * 60 + "]" * 60, "os.system", "torch.load", "__import__",
     "torch.optim.SGD", "albumentations.Rotate", "torch.nn.Linear", "hydra.utils.get_object"]
)  # fmt: skip
SWEEPS = st.sampled_from(
    ["1,2", "1,,2", ",", "a,1,null", "range(0)", "x(1)", "range(1,3)", "range(0,1e9,0)", "glob(*)",
     "choice(1,2)", "choice()", "interval(0,1)", "interval(1,0)", "interval(a,b)", "sort(3,1)",
     "tag(a,choice(1,2))", "int(x)", "float(nan)", "str(1)", "bool(7)", "extend_list(1)", "range("]
)  # fmt: skip
VALUES = st.one_of(
    NUMBERS, WORDS, SWEEPS,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.lists(st.one_of(NUMBERS, WORDS), max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
    st.tuples(WORDS, st.one_of(NUMBERS, WORDS)).map(lambda pair: f"{{{pair[0]}:{pair[1]}}}"),
)  # fmt: skip


@st.composite
def keys(draw) -> str:
    """A key of the config, a group or what is nearly one."""
    key = draw(st.sampled_from(draw(st.sampled_from([LEAVES, LEAVES, NODES, GROUPS, HYDRA]))))
    spoilt = draw(
        st.sampled_from(["no"] * 6 + ["drop", "put", "upper", "longer", "package", "index"])
    )
    at = draw(st.integers(0, len(key)))
    letter = draw(st.sampled_from("x.@/~+[]:= -_0é"))
    key = {
        "drop": key[:at] + key[at + 1 :], "put": key[:at] + letter + key[at:], "upper": key.upper(),
        "longer": key + ".x", "package": f"{key}@{draw(st.sampled_from([*LEAVES, '', '_global_']))}",
        "index": f"{key}[0]",
    }.get(spoilt, key)  # fmt: skip
    return draw(st.sampled_from([""] * 6 + ["+", "++", "~", "~~", "-", "@"])) + key


@st.composite
def overrides(draw) -> str:
    """KEY=VALUE, of one kind or another; sometimes a choice that there is, sometimes no `=`."""
    if draw(st.integers(0, 4)) == 0:
        group = draw(
            st.sampled_from([g for g in GROUPS if "hydra" not in g and "experiment" not in g])
        )
        return f"{group}={draw(st.sampled_from(ALL_CHOICES[group] or ['none']))}"
    key, value = draw(keys()), draw(VALUES)
    return draw(st.sampled_from([f"{key}={value}"] * 9 + [key, value, f"{key}=={value}"]))


FLAGS = st.sampled_from(
    [[]] * 8 + [["-m"]] * 2 + [
        ["--cfg", "job"], ["--cfg", "x"], ["--cfg"], ["--resolve"], ["--info"], ["--info", "x"], ["-sc"],
        ["--foo"], ["--run"], ["--package", "x"], ["-p"], ["--config-name", "x"], ["--config-dir", "x"],
        ["--config-dir", "."], ["--config-path", "x"], ["--experimental-rerun", "x"], ["--version"],
        ["-"], ["--"], ["-mm"], ["--hydra-help"], ["--cfg=all"], ["--cfg", "job", "-p", "data"],
    ]
)  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory some levels deep, with a home folder, and nothing that starts anything."""
    here = tmp_path / "work" / "a" / "b" / "c"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "work"))
    monkeypatch.setenv("AUGCAM_SECRET", "s3cr3t")
    monkeypatch.setattr("augcam.cli.train.train_in_words", _train)
    monkeypatch.setattr("augcam.training.run.fit_and_test", _begin)
    # Hydra loads its plugins anew, so their own classes cannot be replaced.
    monkeypatch.setattr(Plugins, "instantiate_launcher", _launcher)
    watch()
    return here


def _begin(*_arguments: object) -> None:
    raise Started


def _train(config, folder: RunFolder, *_rest: object) -> None:
    """The real steps of a run up to its first batch, where they are those of a small run."""
    from augcam.training.run import train

    small = (
        config.data.name == "shapes" and not hasattr(config.data, "target")
        and config.data.train_size + config.data.test_size < 1000
        and getattr(config.model, "width", 99) <= 16 and max(getattr(config.model, "blocks", [9])) < 4
        and {"tensorboard", "csv"} >= {*config.logger}
        and config.preview.draws * config.preview.samples < 100
        and str(config.trainer.devices) in ("auto", "1")
    )  # fmt: skip
    if small:
        train(config, folder)
    raise Started


def _launcher(*_arguments: object, **_settings: object) -> SimpleNamespace:
    """A launcher of a sweep's jobs that starts none."""
    return SimpleNamespace(launch=lambda job_overrides, initial_job_idx: [])


COUNT: Counter[str] = Counter()


def check(ended: Ended, place: Path) -> None:
    """The property of every command."""
    COUNT["inputs"] += 1
    COUNT["started" if ended.started else f"status {ended.status}"] += 1
    problems = ended.problems()
    if "debug=true shows where" in ended.err:
        problems.append(f"a fault of ours: {ended.arguments} {ended.err[-600:]}")
    shown = ended.out + ended.err
    if "--cfg" not in ended.arguments:
        long = [a for a in ended.arguments if len(a) > 1000]
        problems += [f"echoed whole: {a[:60]}" for a in long if (a.partition("=")[2] or a) in shown]
    free = any(PLACES.search(a) for a in ended.arguments if not a.startswith("run="))
    inside = place.parents[2] if free else place / "outputs"
    runs = [a.removeprefix("run=") for a in ended.arguments if a.startswith("run=")]
    outside = [
        path for path in ended.written
        if not any(path.is_relative_to(folder) for folder in (str(inside), *runs))
        and path != place / "outputs"
        and not re.match(r"/(proc|root/\.(cache|config))/", str(path))
    ]  # fmt: skip
    if outside:
        problems.append(f"written outside: {outside[:3]} {ended.arguments}")
    assert not problems, "\n".join(problems)


def quickly(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip


PARTS = 10  # of a slow test, each with examples of its own
REQUESTS = {"given_": st.lists(overrides(), max_size=4), "flags": FLAGS, "tiny": st.integers(0, 9)}


def train_is_asked(place: Path, given_: list[str], flags: list[str], tiny: int) -> None:
    base = TINY if tiny else []
    keys_given = {a.partition("=")[0] for a in given_}
    base = [a for a in base if a.partition("=")[0] not in keys_given or "." in a.partition("=")[0]]
    ended = command("train", *base, *given_, *flags)
    check(ended, place)
    if ended.started:
        folders = [p.parents[1] for p in place.parents[2].rglob(".hydra/config.yaml")]
        for (
            folder
        ) in folders:  # what was begun can be gone on with, but for what a folder may not say
            again = command("train", f"run={folder}")
            check(again, place)
            refused = "not for a run folder" in again.err or "may be built" in again.err
            assert again.started or refused or "${" in str(folder), again.err
    _empty(place.parents[2], place)


def _empty(folder: Path, but: Path) -> None:
    """Take away what an example has left."""
    import shutil

    for path in folder.iterdir():
        if path == but or but.is_relative_to(path):
            if path.is_dir():
                _empty(path, but)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture(scope="module", autouse=True)
def _print_the_count(request):
    yield
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        print(f"\nfuzzed requests: {dict(sorted(COUNT.items()))}")


@quickly(120)
@given(**REQUESTS)
def test_training(place, given_, flags, tiny):
    train_is_asked(place, given_, flags, tiny)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_training_two_thousand_times(place, part):
    @seed(part)
    @quickly(2000 // PARTS)
    @given(**REQUESTS)
    def some_of_them(given_, flags, tiny):
        train_is_asked(place, given_, flags, tiny)

    some_of_them()


# --- the other commands -------------------------------------------------------------------------------

OPTIONS = {
    "audit": ["run", "n", "seed", "trust"],
    "preview": ["samples", "draws", "out", "aug", "data", "trust", *LEAVES],
    "explain": ["run", "images", "n", "layers", "method", "classes", "checkpoint", "check", "samples",
                "seed", "trust"],
    "evaluate": ["run", "n", "samples", "checkpoint", "seed", "corruptions", "trust"],
    "report": ["baseline", "out", "trust"],
    "refine": ["baseline", "seeds", "out", "trust"],
    "board": ["port", "trust"],
}  # fmt: skip


@st.composite
def words(draw) -> list[str]:
    """A command and its arguments."""
    name = draw(st.sampled_from(sorted(OPTIONS)))
    asked = [name]
    for _ in range(draw(st.integers(0, 4))):
        key, value = draw(st.sampled_from(OPTIONS[name])), draw(VALUES)
        kind = draw(st.integers(0, 9))
        asked.append(value if kind == 0 else key if kind == 1 else f"{key}={value}")
    if draw(st.integers(0, 30)) == 0:
        asked[0] = draw(VALUES)
    return asked


def another_is_asked(place: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    monkeypatch.setattr("augcam.cli.preview.look", _begin)
    monkeypatch.setattr("os.execv", _begin)
    if asked[0] == "train" or asked[0].startswith("-"):
        return
    check(command(*asked), place)
    _empty(place.parents[2], place)


@quickly(150)
@given(asked=words())
@example(asked=["explain", "run=.", "images=/"])
@example(asked=["report", "\x1b[31m"])
@example(asked=["board", "x" * 3000])
@example(asked=["evaluate", "run=" + "x" * 3000])
def test_the_other_commands(place, monkeypatch, asked):
    another_is_asked(place, monkeypatch, asked)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_the_other_commands_a_thousand_times(place, monkeypatch, part):
    @seed(part)
    @quickly(1000 // PARTS)
    @given(asked=words())
    def some_of_them(asked):
        another_is_asked(place, monkeypatch, asked)

    some_of_them()


def test_every_command_is_asked():
    assert {*OPTIONS, "train"} == {*COMMANDS}
