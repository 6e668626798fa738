"""What may know of what, and what importing the package must not do.

The claim of the library is that gradients come from the chain rule: layers, activations, losses and optimisers are
compositions, and have no rule and no backward of their own. Here that is checked, not believed.
"""

import ast
import json
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import autograd
import autograd.functional
import autograd.nn
import autograd.optim
import autograd.special

PACKAGE = Path(autograd.__file__).parent

# From the bottom to the top: a module imports only from lower layers and, without cycles, from its own. A package
# (numpy, nn, ...) counts as one module here.
LAYERS = (
    {
        "modes",
        "saved",
        "arguments",
        "geometry",
        "memory",
        "data",
        "images",
        "fashion_mnist",
    },  # know nothing of the rest
    {"kernels"},  # arrays in, arrays out
    {"graph", "tensor", "primitive"},  # the engine: knows no operation
    {"numpy"},
    {"conv", "pool", "special", "transforms", "checking"},
    {"functional"},
    {"nn", "optim"},
    {"lens"},
    {"learn", "bench"},
    {"page"},
    {"__main__"},
)
ENGINE = {"modes", "saved", "graph", "tensor", "primitive"}
COMPOSITIONS = {"functional", "nn", "optim"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def top_level(path):
    """The module, or the package within the package, that a source file belongs to; '' is the package itself."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def run_time_nodes(node):
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from run_time_nodes(child)


def imported(path):
    """Where a source file imports from within the package: names of its modules and packages."""
    found = set()
    here = ("autograd", *path.relative_to(PACKAGE).parts[:-1])
    for node in run_time_nodes(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            base = [part for part in base if part][1:]
            found |= {base[0]} if base else {alias.name for alias in node.names if not alias.name.startswith("__")}
    return found - {top_level(path)}


def dependencies():
    graph = {}
    for path in SOURCES:
        graph.setdefault(top_level(path), set()).update(imported(path))
    return graph


def layer(module):
    return next(i for i, modules in enumerate(LAYERS) if module in modules)


def identifiers(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


class TestImports:
    def test_every_module_has_its_layer(self):
        assert set(dependencies()) - {""} <= set().union(*LAYERS)

    def test_the_imports_that_this_file_sees_are_real(self):
        """So that a mistake in reading the sources cannot make the other tests pass."""
        graph = dependencies()
        assert {"kernels", "geometry", "numpy", "primitive"} <= graph["conv"]
        assert {"functional", "tensor"} <= graph["nn"]
        assert graph["tensor"] == {"graph", "modes"}
        assert "tensor" not in graph["graph"], "needed only by type checkers"

    def test_imports_point_downwards(self):
        for module, others in dependencies().items():
            for other in others - {"_kernels"}:
                assert not module or layer(other) <= layer(module), f"{module} imports {other}"

    def test_there_are_no_cycles(self):
        TopologicalSorter(dependencies()).prepare()

    def test_the_engine_knows_no_operation(self):
        for module in ENGINE:
            assert dependencies()[module] <= ENGINE

    def test_kernels_know_nothing_of_tensors(self):
        assert dependencies()["kernels"] <= {"_kernels", "geometry", "arguments", "memory"}
        assert "Tensor" not in set(identifiers(PACKAGE / "kernels.py"))

    def test_only_kernels_opens_the_compiled_extension(self):
        assert [module for module, others in dependencies().items() if "_kernels" in others] == ["kernels"]

    def test_only_primitives_and_the_surface_use_kernels(self):
        users = {module for module, others in dependencies().items() if "kernels" in others}
        assert users <= {"", "conv", "pool", "special", "lens", "bench", "__main__"}

    def test_nothing_that_users_import_needs_the_programs(self):
        assert not dependencies()[""] & set().union(*LAYERS[7:])

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_imports_within_the_package_are_relative(self, path):
        """Another distribution owns the name `autograd`: an absolute import could find that one."""
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "autograd" for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module.split(".")[0] != "autograd"

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_every_file_says_what_it_is(self, path):
        assert ast.get_docstring(tree(path))


class TestGradientsComeFromTheChainRule:
    def test_there_is_something_to_look_at(self):
        assert {top_level(path) for path in SOURCES} >= COMPOSITIONS

    @pytest.mark.parametrize(
        "path",
        [path for path in SOURCES if top_level(path) in COMPOSITIONS],
        ids=lambda path: str(path.relative_to(PACKAGE)),
    )
    def test_layers_activations_losses_and_optimisers_make_no_primitive(self, path):
        assert not {"Primitive", "primitive", "Node", "Plan", "sweep"} & set(identifiers(path))

    def test_nothing_but_a_tensor_has_a_backward(self):
        found = [
            (top_level(path), node.name)
            for path in SOURCES
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "backward" in node.name
        ]
        assert found == [("tensor", "backward")]

    def test_every_rule_lives_with_its_primitive(self):
        """Seen from the registry, whatever the sources look like."""
        modules = {
            rule.__module__.removeprefix("autograd.").split(".")[0]
            for primitive in autograd.Primitive.registry.values()
            for rule in primitive.rules.values()
        }
        assert modules == {"numpy", "conv", "pool", "special"}

    def test_no_module_or_optimiser_class_has_a_gradient_method(self):
        classes = {
            thing
            for module in (autograd.functional, autograd.nn, autograd.optim)
            for thing in vars(module).values()
            if isinstance(thing, type) and not issubclass(thing, autograd.Tensor)
        }
        assert autograd.nn.Module in classes
        for kind in classes:
            assert not {"backward", "vjp", "jvp", "gradient"} & set(dir(kind))


# Compares the process before and after importing the package; NumPy has been imported before, with what that does.
SIDE_EFFECTS = """
import gc, json, locale, os, random, signal, sys, threading, warnings
import numpy as np

tasks = "/proc/self/task"  # also has the threads that were not started by Python

def state():
    tiny = np.array([np.finfo("f4").smallest_subnormal, np.finfo("f8").smallest_subnormal])
    one = np.ones(1)
    return {
        "threads": os.listdir(tasks) if os.path.isdir(tasks) else threading.active_count(),
        "signal handlers": [str(signal.getsignal(s)) for s in signal.valid_signals()],
        "environment": dict(os.environ),
        "denormals are kept": [bool((tiny * 1.0 > 0).all()), bool((tiny.astype("f4")[:1] * np.float32(1) > 0).all())],
        "rounding to nearest": [(one + 2.0**-53).item(), (one + 1.5 * 2.0**-53).item(), (-one - 2.0**-53).item()],
        "numpy errors": np.geterr(),
        "numpy printing": repr(np.get_printoptions()),
        "warning filters": repr(warnings.filters),
        "recursion limit": sys.getrecursionlimit(),
        "random numbers": [hash(random.getstate()), np.random.get_state()[1].tolist()],
        "paths": [sys.path[:], os.getcwd()],
        "hooks": [str(sys.excepthook), str(sys.gettrace()), str(sys.getprofile()), str(sys.displayhook)],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "locale": locale.setlocale(locale.LC_ALL),
    }

before = state()
import autograd, autograd.nn, autograd.optim, autograd.functional, autograd.checking, autograd.data
after = state()
print(json.dumps([[name for name in before if before[name] != after[name]], sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-c", SIDE_EFFECTS]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return json.loads(result.stdout)


class TestImportingThePackage:
    def test_changes_nothing_in_the_process(self, report):
        changed, _ = report
        assert not changed

    def test_does_not_load_what_only_programs_and_tests_need(self, report):
        _, modules = report
        loaded = {name.split(".")[0] for name in modules}
        assert "autograd" in loaded
        assert not loaded & {"matplotlib", "rich", "pooch", "pytest", "hypothesis", "torch", "scipy", "sklearn"}

    def test_prints_nothing(self):
        command = [sys.executable, "-W", "error", "-c", "import autograd"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
        assert (result.stdout, result.stderr) == ("", "")


def test_a_clash_with_the_other_distribution_of_this_name_is_explained(tmp_path):
    """Installed into one environment, the two overwrite each other's files: ours is then found beside theirs."""
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_bytes((PACKAGE / "__init__.py").read_bytes())
    (tmp_path / "autograd" / "tracer.py").touch()
    command = [sys.executable, "-c", "import autograd"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode
    assert "ImportError: the distributions 'convgrad' and 'autograd' are both installed in" in result.stderr
    assert "environment" in result.stderr
