"""The project's own rules, checked on its source: direction of imports, docstrings, links."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess

import pytest

from perceiver_io.data.pipeline.dataset import Dataset, Preparation
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.tasks.task import Task

ROOT = pathlib.Path(__file__).parent.parent

PROJECT = {"perceiver_io", "configs", "experiments", "scripts", "tests"}
# What each part may import besides itself and the leaves, which all may import.
LEAVES = {
    "perceiver_io.axes",
    "perceiver_io.config",
    "perceiver_io.errors",
    "perceiver_io.losses",
    "perceiver_io.roles",
    "perceiver_io.progress",
    "perceiver_io.storage",
}
# Leaves that import JAX, which data must not do.
JAX_LEAVES = {"perceiver_io.losses", "perceiver_io.progress", "perceiver_io.roles"}
LAYERS = {
    # `perceiver_io.load`, which imports them only when it is called.
    "perceiver_io": {"perceiver_io.runtime", "perceiver_io.tasks"},
    "perceiver_io.axes": set(),
    "perceiver_io.config": set(),
    "perceiver_io.errors": set(),
    "perceiver_io.losses": set(),
    "perceiver_io.progress": set(),
    "perceiver_io.roles": set(),
    "perceiver_io.storage": set(),
    "perceiver_io.models": set(),
    "perceiver_io.data": set(),
    "perceiver_io.training": set(),
    "perceiver_io.tasks": {"perceiver_io.models", "perceiver_io.data"},
    "perceiver_io.pretrained": {"perceiver_io.models"},
    "perceiver_io.runtime": {
        "perceiver_io.models",
        "perceiver_io.data",
        "perceiver_io.training",
        "perceiver_io.tasks",
        "perceiver_io.pretrained",
    },
    "configs": set(),
    "experiments": {"perceiver_io.runtime"},
}
# Data is NumPy only, so that its worker processes start without an accelerator.
ARRAY_LIBRARIES = {"jax", "jaxlib", "haiku", "optax", "flax"}


def source_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def root(dotted):
    return dotted.split(".")[0]


def layer_of(dotted):
    parts = dotted.split(".")
    return ".".join(parts[:2]) if parts[0] == "perceiver_io" else parts[0]


def offences(rule, *folders):
    """One line for each violation; the rule yields (line number, text) pairs for a file."""
    return [
        f"{path.relative_to(ROOT)}:{line} {text}"
        for path in source_files(*folders)
        for line, text in rule(path)
    ]


def imports_of(path):
    """(line number, dotted name) of every import of a file, at any depth of its code."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_package_has_its_layer():
    packages = {module_name(path) for path in ROOT.glob("perceiver_io/*/__init__.py")}
    assert packages <= set(LAYERS)


def test_imports_go_one_way():
    def upward_imports(path):
        own = layer_of(module_name(path))
        for line, name in imports_of(path):
            is_ours = root(name) in PROJECT
            leaves = LEAVES - JAX_LEAVES if own == "perceiver_io.data" else LEAVES
            if is_ours and layer_of(name) not in LAYERS[own] | leaves | {own}:
                yield line, f"imports {name}"

    assert not offences(upward_imports, "perceiver_io", "configs", "experiments")


def test_configs_import_ml_collections_only():
    def others(path):
        return [(line, name) for line, name in imports_of(path) if root(name) != "ml_collections"]

    assert not offences(others, "configs")


def test_data_does_not_import_jax():
    def array_libraries(path):
        return [(line, name) for line, name in imports_of(path) if root(name) in ARRAY_LIBRARIES]

    assert not offences(array_libraries, "perceiver_io/data")


FAST = "perceiver_io.models.fast"


def test_fast_forms_have_one_entry():
    """Few modules import them, and only the package: the textbook does not depend on them."""

    def others(path):
        if (ROOT / "perceiver_io" / "models" / "fast") in path.parents:
            return
        models = ROOT / "perceiver_io" / "models"
        may = path in (models / "transformer.py", models / "rematerialisation.py") or (
            path.parent in (models / "perceiver", models / "coatnet")
        )
        for line, name in imports_of(path):
            if name.startswith(FAST) and not (may and name == FAST):
                yield line, f"imports {name}"

    assert not offences(others, "perceiver_io", "configs", "experiments", "scripts")


def homes_of_classes_below(*bases):
    """{name: package} of the bases and of all classes of the project that inherit from them."""
    modules = [importlib.import_module(module_name(p)) for p in source_files("perceiver_io")]
    members = [member for module in modules for member in vars(module).values()]
    classes = [member for member in members if inspect.isclass(member)]
    return {x.__name__: x.__module__.rpartition(".")[0] for x in classes if issubclass(x, bases)}


def test_no_code_asks_for_the_type_of_a_task_or_dataset():
    """Except data about data, and a task about itself and its data."""
    homes = homes_of_classes_below(Task, Dataset, Preparation, Source)
    assert {"ImageClassification", "Dataset", "FlowPreparation", "Mixture"} <= set(homes)

    def questions(path):
        if (ROOT / "perceiver_io" / "data") in path.parents:
            return
        package = module_name(path.parent / "__init__.py")
        known = {package}
        if package.startswith("perceiver_io.tasks."):
            known |= {home for home in homes.values() if home.startswith("perceiver_io.data.")}
        foreign = {name for name, home in homes.items() if home not in known}
        calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
        for call in calls:
            is_question = ast.unparse(call.func) in {"isinstance", "issubclass"}
            if is_question and foreign & set(re.findall(r"\w+", ast.unparse(call.args[1]))):
                yield call.lineno, ast.unparse(call)

    assert not offences(questions, "perceiver_io", "experiments", "scripts")


def test_models_have_no_global_state():
    """The results of a model depend only on its arguments, not on anything set before."""

    def state(path):
        tree = tree_of(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.Global):
                yield node.lineno, f"rebinds {', '.join(node.names)}"
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
                value, ast.List | ast.Set
            ):
                yield node.lineno, f"{ast.unparse(node)} can change"
        for line, name in imports_of(path):
            if root(name) in {"contextvars", "threading"}:
                yield line, f"imports {name}"

    assert not offences(state, "perceiver_io/models")


def undocumented(module):
    """Public names without a docstring; a method may inherit the docstring of its base class."""
    if not inspect.getdoc(module):
        yield module.__name__
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(member) and not member.__doc__:
            yield f"{module.__name__}.{name}"
        elif inspect.isclass(member):
            # The automatic docstring of a dataclass only repeats its fields.
            if not member.__doc__ or member.__doc__.startswith(f"{name}("):
                yield f"{module.__name__}.{name}"
            for method, value in vars(member).items():
                is_public = not method.startswith("_") and callable(value)
                if is_public and not inspect.getdoc(getattr(member, method)):
                    yield f"{module.__name__}.{name}.{method}"


@pytest.mark.parametrize("path", source_files("perceiver_io"), ids=module_name)
def test_public_names_have_docstrings(path):
    assert not list(undocumented(importlib.import_module(module_name(path))))


def test_no_large_files_are_tracked():
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert not [p.name for p in paths if p.is_file() and p.stat().st_size > 8_000_000]


def manual():
    """The README and the pages of docs/."""
    return "\n".join(path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))


def test_manual_names_every_config_and_only_what_exists():
    text = manual()
    for config in (ROOT / "configs").glob("*.py"):
        assert f"configs/{config.name}" in text
    paths = re.findall(r"\b(?:perceiver_io|configs|scripts|docs|tests|experiments)/[\w./]+\w", text)
    placeholders = {"configs/NAME.py", "configs/OTHER.py"}
    assert [path for path in set(paths) - placeholders if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ["README.md", *(p.name for p in ROOT.glob("docs/*.md"))])
def test_links_of_the_manual_are_valid(page):
    path = next(x for x in (ROOT / page, ROOT / "docs" / page) if x.is_file())
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    local = [target for target in targets if not target.startswith("https://")]
    assert [target for target in local if not (path.parent / target).exists()] == []


@pytest.mark.parametrize(
    "config",
    [
        "audioset",
        "coatnet",
        "glue",
        "imagenet",
        "kinetics",
        "masked_lm",
        "optical_flow",
        "point_clouds",
        "starcraft",
        "text_file",
    ],
)
def test_manual_lists_the_presets(config):
    text = manual()
    _, _, table = text.partition(f"\n| `configs/{config}.py:` |")
    listed = re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], flags=re.MULTILINE)
    presets = set(importlib.import_module(f"configs.{config}").PRESETS)
    assert listed and set(listed) <= presets
    assert all(f"`{preset}`" in text for preset in presets)
