"""The house's rules, checked on the source: imports go downward only, and library code has no side effects."""

import ast
import graphlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdsim._versions import REFUSED, refuse_broken_jax

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "sgdsim"

# From the ground up: a room knows itself and the rooms before it, never one after. Those on the ground know no other.
GROUND = ("_versions", "draws", "theory", "covariance")
ROOMS = (*GROUND, "problems", "processes", "ensemble", "density", "measures", "plots", "studies", "cli")
ALLOWED = {room: frozenset(ROOMS[: i + 1]) for i, room in enumerate(ROOMS)}
ALLOWED |= {room: frozenset({room}) for room in GROUND}
ALLOWED["ensemble"] = frozenset((*GROUND, "ensemble"))  # the time loop knows neither problems nor processes

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
ROOM_MODULES = [name for name in MODULES if name != "sgdsim"]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str, tree: ast.AST, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, module of sgdsim) for each import, wherever it stands; the front door itself is "sgdsim"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "sgdsim")
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if is_package else module.split(".")[:-1]
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source.split(".")[0] == "sgdsim":
                for alias in node.names:
                    longer = f"{source}.{alias.name}"
                    yield node.lineno, longer if longer in MODULES else source


def upward_imports(module: str, text: str, is_package: bool = False) -> list[str]:
    room = room_of(module)
    found = []
    for line, target in imports_of(module, ast.parse(text), is_package):
        if room_of(target) == "":
            found.append(f"line {line}: imports the front door, sgdsim, instead of the room that it wants")
        elif room_of(target) not in ALLOWED[room]:
            found.append(f"line {line}: {room} must not know {target}")
    return found


def side_effects(text: str) -> list[str]:
    """What library code must not do; `cli.py` may print and switch x64 on."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            if {n.split(".")[0] for n in names} & {"pickle", "cloudpickle", "dill", "joblib", "shelve"}:
                found.append((node.lineno, "pickle"))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "print":
                found.append((node.lineno, "print("))
            elif called in ("eval", "exec"):
                found.append((node.lineno, "eval("))
            elif called in ("plt.show", "pyplot.show", "matplotlib.pyplot.show"):
                found.append((node.lineno, "plt.show"))
            elif called.endswith(("rcParams.update", "plt.rc", "pyplot.rc", "matplotlib.rc", "style.use")):
                found.append((node.lineno, "rcParams"))
            if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                found.append((node.lineno, "pickle"))
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            written = ast.unparse(node.value)
            if written.endswith("rcParams"):
                found.append((node.lineno, "rcParams"))
            elif isinstance(node, ast.Attribute) and node.attr == "jax_enable_x64":
                found.append((node.lineno, "jax_enable_x64"))
        elif isinstance(node, ast.Constant) and node.value in ("jax_enable_x64", "JAX_ENABLE_X64"):
            found.append((node.lineno, "jax_enable_x64"))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def test_every_module_has_a_room() -> None:
    strangers = sorted({room_of(name) for name in ROOM_MODULES} - set(ROOMS))
    assert not strangers, f"give these a place in ROOMS (tests/test_imports.py): {strangers}"


@pytest.mark.parametrize("module", ROOM_MODULES)
def test_imports_go_downward_only(module: str) -> None:
    path = MODULES[module]
    assert upward_imports(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module: {
            target
            for _, target in imports_of(
                module, ast.parse(MODULES[module].read_text(encoding="utf-8")), MODULES[module].name == "__init__.py"
            )
        }
        for module in MODULES
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


@pytest.mark.parametrize("module", [name for name in MODULES if name != "sgdsim.cli"])
def test_library_code_has_no_side_effects(module: str) -> None:
    assert side_effects(MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print(1)", "print("),
        ("import matplotlib.pyplot as plt\nplt.show()", "plt.show"),
        ("plt.rcParams['font.size'] = 3", "rcParams"),
        ("mpl.rcParams.update({})", "rcParams"),
        ("plt.style.use('x')", "rcParams"),
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("np.load(p, allow_pickle=True)", "pickle"),
        ("eval('1')", "eval("),
        ("jax.config.update('jax_enable_x64', True)", "jax_enable_x64"),
        ("jax.config.jax_enable_x64 = True", "jax_enable_x64"),
    ],
)
def test_side_effects_are_seen(text: str, what: str) -> None:
    assert [line.split(": ")[1] for line in side_effects(text)] == [what]


@pytest.mark.parametrize(
    "text",
    [
        '"""Does not print(), and never sets jax_enable_x64."""',
        "jax.eval_shape(f, x)",
        "np.savez(p, allow_pickle=False)",
        "y = jax.config.jax_enable_x64",
        "ax.figure.savefig(path)",
    ],
)
def test_harmless_code_is_let_through(text: str) -> None:
    assert side_effects(text) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("sgdsim.draws", "from sgdsim.problems import Problem"),
        ("sgdsim.theory", "from sgdsim import draws"),
        ("sgdsim.ensemble.simulate", "from sgdsim.processes.sgd import SGD"),
        ("sgdsim.ensemble.simulate", "from ..problems.problem import Problem"),
        ("sgdsim.processes.sgd", "def f():\n    from sgdsim.ensemble import simulate"),
        ("sgdsim.processes.sgd", "import sgdsim.measures.kl"),
        ("sgdsim.measures.kl", "from sgdsim.studies import compare"),
        ("sgdsim.studies.compare", "from sgdsim import SGD"),
        ("sgdsim.studies.compare", "from sgdsim import cli"),
    ],
)
def test_upward_imports_are_seen(module: str, text: str) -> None:
    assert len(upward_imports(module, text)) == 1


def test_downward_imports_are_let_through() -> None:
    text = "import numpy\nfrom sgdsim import theory\nfrom sgdsim.ensemble import simulate\nfrom .kl import kl"
    assert upward_imports("sgdsim.measures.curvature", text) == []


def test_refused_versions_are_those_that_pip_leaves_out() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    for name in ("jax>=", "jaxlib>="):
        (wanted,) = (d for d in dependencies if d.startswith(name))
        assert {part[2:] for part in wanted.split(",") if part.startswith("!=")} == set(REFUSED)

    refuse_broken_jax("0.10.1", "0.10.1")
    with pytest.raises(ImportError, match=r"jaxlib 0\.10\.2"):
        refuse_broken_jax("0.10.1", "0.10.2")
