"""The rules of the house, read from the source: imports point one way, and what is used is declared."""

import ast
import pathlib
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# A package imports from its own floor or from below. A new package takes its floor here.
FLOORS = (
    {"_failpoints"},
    {"_files"},
    {"kernels"},
    {"layers"},
    {"frontends", "neurons", "delays", "recurrent", "convrnn", "convolution"},
    {"models", "datasets"},
    {"training", "studies", "analysis", "streaming", "interop", "benchmarks"},
    {"cli", "__main__"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
LOADED_WHEN_CHOSEN = {"cuda", "_triton"}
CATCH_ALL = {"base", "common", "helpers", "misc", "tools", "util", "utils"}


@dataclass
class Source:
    """One file, and the dotted name it is imported by ("" for files that are not part of the package)."""

    path: pathlib.Path
    module: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The part of the house: temporal.layers.norm lies in "layers", temporal itself in ""."""
        return room(self.module)

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and absolute dotted name of everything that is imported, at the top or inside a function."""
        is_package = self.path.name == "__init__.py"
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                parts = self.module.split(".") if node.level else []
                parts = parts[: len(parts) - node.level + is_package] + (node.module or "").split(".")
                for alias in node.names:
                    yield node.lineno, ".".join([*filter(None, parts), alias.name])

    def imported_at_load(self) -> set[str]:
        """Top-level names that the module needs when it is loaded: not those inside functions or under TYPE_CHECKING."""
        found, todo = set(), list(self.tree.body)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                todo += node.orelse
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                todo += ast.iter_child_nodes(node)
        return found

    def at(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def room(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "temporal" or len(parts) == 1:
        return ""
    return ROOT_NAMES.get(parts[1], parts[1])


def sources(folder: str, package: str = "") -> Iterator[Source]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        below = path.relative_to(ROOT / folder).with_suffix("").parts
        if any(parent.is_symlink() for parent in path.parents):
            continue  # temporal/kernels is read as kernels
        parts = [package, *below] if package else []
        yield Source(path, ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8")))


def root_names() -> dict[str, str]:
    """The room of each name that `temporal` itself hands out: Model -> layers."""
    tree = ast.parse((ROOT / "temporal" / "__init__.py").read_text())
    (home,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "_HOME")
    return ast.literal_eval(home)


ROOT_NAMES = root_names()
LIBRARY = [
    *sources("temporal", "temporal"),
    *sources("kernels", "temporal.kernels"),
    *sources("datasets", "temporal.datasets"),
]
TESTS = list(sources("tests"))
EXAMPLES = list(sources("examples"))


RENAMED = {"PIL": "pillow"}


def declared(*extras: str) -> set[str]:
    """What pyproject.toml declares; all import names but `RENAMED` are the distribution's, in small letters."""
    wanted = [*PROJECT["dependencies"], *(d for extra in extras for d in PROJECT["optional-dependencies"][extra])]
    return {re.match(r"[\w-]+", requirement).group().lower() for requirement in wanted}


def distribution(name: str) -> str:
    return RENAMED.get(name, name.lower().replace("_", "-"))


def third_party(names) -> set[str]:
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"temporal"}
    return {distribution(name) for name in tops}


def check_none(faults: list[str], rule: str) -> None:
    assert not faults, rule + ":\n" + "\n".join(faults)


def test_the_sources_are_found():
    assert {"temporal", "temporal.kernels", "temporal.datasets"} <= {source.module for source in LIBRARY}
    assert len(LIBRARY) > 15 and TESTS


def test_every_package_has_a_floor():
    rooms = {source.room for source in LIBRARY} - {""}
    assert rooms <= set(FLOOR), f"give {rooms - set(FLOOR)} a floor in FLOORS"


def test_imports_point_down():
    faults = []
    for source in LIBRARY:
        if source.room in FLOOR:
            for line, name in source.imports():
                if FLOOR.get(room(name), -1) > FLOOR[source.room]:
                    faults.append(f"{source.at(line)} imports {name}")
    check_none(faults, "an import that points up")


def test_packages_do_not_import_each_other_in_a_circle():
    below: dict[str, set[str]] = {}
    for source in LIBRARY:
        found = {room(name) for _, name in source.imports()} & set(FLOOR)
        below.setdefault(source.room, set()).update(found - {source.room})
    settled: set[str] = set()
    while ready := {name for name, needs in below.items() if name not in settled and needs <= settled}:
        settled |= ready
    assert set(below) == settled, {
        name: sorted(needs - settled) for name, needs in below.items() if name not in settled
    }


def test_the_shared_names_are_imported_through_temporal():
    faults = [
        f"{source.at(line)} imports {name}: write temporal.{name}"
        for source in [*LIBRARY, *TESTS, *EXAMPLES]
        for line, name in source.imports()
        if name.split(".")[0] in ("kernels", "datasets")
    ]
    check_none(faults, "plain `datasets` and `kernels` are Hugging Face's")


def test_no_star_imports_no_catch_all_files():
    stars = [source.at(line) for source in [*LIBRARY, *TESTS] for line, name in source.imports() if name.endswith("*")]
    check_none(stars, "star import")
    check_none(
        [source.at(1) for source in LIBRARY if source.path.stem in CATCH_ALL], "a file that everyone must open first"
    )


def test_the_library_does_not_print_and_its_checks_survive_python_o():
    prints, asserts = [], []
    for source in LIBRARY:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print" and source.room != "cli":
                prints.append(source.at(node.lineno))
            if isinstance(node, ast.Assert) and node.msg is None:
                asserts.append(source.at(node.lineno))
    check_none(prints, "only the command line prints")
    check_none(asserts, "an assert without a message: raise an error that names the argument")


@pytest.mark.parametrize(
    ("files", "extras"),
    [
        pytest.param(LIBRARY, tuple(PROJECT["optional-dependencies"]), id="library, all extras"),
        pytest.param(TESTS, ("test",), id="tests, extra test"),
        pytest.param(EXAMPLES, ("demo",), id="examples, extra demo"),
    ],
)
def test_what_is_imported_is_declared(files, extras):
    """So that nothing works only because somebody's environment happens to have it."""
    allowed = declared(*extras)
    faults = [f"{source.at(1)} imports {missing}" for source in files if (missing := third_party_of(source) - allowed)]
    check_none(faults, "pyproject.toml does not declare it for this use")


def third_party_of(source: Source) -> set[str]:
    return third_party(name for _, name in source.imports())


def test_the_library_loads_without_its_extras():
    """What only an extra installs is imported inside the function that uses it, or by a backend, which loads when chosen."""
    allowed = declared()
    faults = [
        f"{source.at(1)} imports {extra}"
        for source in LIBRARY
        if source.path.stem not in LOADED_WHEN_CHOSEN and (extra := third_party(source.imported_at_load()) - allowed)
    ]
    check_none(faults, "imported at load, but only an extra brings it")
