"""The package as it is built and imported: a wheel that holds everything, names shared with Hugging Face, light imports."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import EntryPoint

import pytest

import temporal

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHARED_NAMES = ("datasets", "kernels")  # ours inside temporal, Hugging Face's at the top
HEAVY = (
    "lightning",
    "librosa",
    "matplotlib",
    "numba",
    "pytorch_lightning",
    "spikingjelly",
    "torch._dynamo",
    "torchaudio",
    "triton",
)
LIGHT_PACKAGES = ("layers", "neurons", "delays", "frontends")  # what an engineer imports into a model of their own
OPTIONAL = ("spikingjelly", "torchaudio", "triton")  # not on every system, or not beside every torch


def python(*arguments, cwd, path=(), check=True) -> subprocess.CompletedProcess:
    """A fresh interpreter in the folder `cwd`, with `path` as PYTHONPATH and nothing else of this process's."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if check and done.returncode:
        pytest.fail(f"{arguments[0]} exited with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def build(
    source: pathlib.Path, out: pathlib.Path, kind: str = "wheel", check: bool = True
) -> subprocess.CompletedProcess:
    """What pip does with a source tree, without the isolated environment that it would fill from the network."""
    hook = f"import setuptools.build_meta as backend; backend.build_{kind}({str(out)!r})"
    out.mkdir(parents=True, exist_ok=True)
    return python("-c", hook, cwd=source, check=check)


def unpacked(archive: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        return folder
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def tracked() -> list[pathlib.PurePosixPath]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        message = f"nothing says which files belong to {ROOT}: {listing.stderr.strip()}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    names = [pathlib.PurePosixPath(name) for name in listing.stdout.split("\0") if name]
    return [name for name in names if os.path.lexists(ROOT / name)]


def copy_checkout(tracked, folder: pathlib.Path) -> pathlib.Path:
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def checkout(tracked, tmp_path_factory) -> pathlib.Path:
    """The tracked files alone: what a fresh clone would hold."""
    return copy_checkout(tracked, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("wheel")
    build(checkout, out)
    (archive,) = out.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """The folder that pip would make of the wheel in site-packages."""
    return unpacked(wheel, tmp_path_factory.mktemp("installed"))


def expected_in_wheel(tracked) -> set[str]:
    inside = {str(name) for name in tracked if name.parts[0] == "temporal" and name.name not in SHARED_NAMES}
    return inside | {f"temporal/{name}" for name in tracked if name.parts[0] in SHARED_NAMES}


def test_the_wheel_holds_every_tracked_file_and_nothing_else(tracked, installed):
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    info = f"temporal-{PROJECT['version']}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")}
    about.add(f"{info}/licenses/LICENSE")
    expected = expected_in_wheel(tracked)
    assert expected - files == set(), (
        "tracked, but not in the wheel: [tool.setuptools.package-data] lists what is not Python"
    )
    assert files - expected - about == set(), "in the wheel, but not tracked"
    assert about - files == set()
    assert "temporal/py.typed" in files
    for name in expected:
        assert (installed / name).read_bytes() == (ROOT / name).read_bytes(), f"{name} was changed by the build"


def test_a_wheel_from_the_source_archive_is_the_same(checkout, wheel, tmp_path):
    build(checkout, tmp_path / "sdist", "sdist")
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    source = unpacked(archive, tmp_path / "source")
    tops = {path.name for path in source.iterdir()}
    generated = {"PKG-INFO", "setup.cfg", "temporal.egg-info"}
    assert tops - generated == {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "temporal"}
    build(source, tmp_path / "again")
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}


def test_a_checkout_without_links_is_refused_and_the_message_mends_it(tracked, tmp_path):
    origin = copy_checkout(tracked, tmp_path / "origin")

    def git(*arguments, cwd):
        who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *arguments], cwd=cwd, check=True, capture_output=True)

    git("init", cwd=origin)
    git("add", "--all", cwd=origin)
    git("commit", "--message", "copy", cwd=origin)
    git("clone", "--config", "core.symlinks=false", str(origin), "flat", cwd=tmp_path)
    flat = tmp_path / "flat"
    assert (flat / "temporal" / "kernels").read_text() == "../kernels"  # else this would test nothing

    refused = build(flat, tmp_path / "refused", check=False)
    assert refused.returncode != 0 and not list((tmp_path / "refused").glob("*.whl"))
    assert "temporal/kernels is not the symbolic link to ../kernels" in refused.stderr
    assert "Traceback" not in refused.stderr
    advice = [line.split() for line in refused.stderr.splitlines() if line.startswith("    git ")]
    assert len(advice) == 2
    for _, *arguments in advice:
        git(*arguments, cwd=flat)
    build(flat, tmp_path / "mended")
    assert len(list((tmp_path / "mended").glob("*.whl"))) == 1


def test_an_editable_install_finds_all_packages_and_takes_no_other_name(checkout, tmp_path):
    build(checkout, tmp_path / "out", "editable")
    (archive,) = (tmp_path / "out").glob("*.whl")
    site_packages = unpacked(archive, tmp_path / "site")
    code = f"""
import importlib.util, site
site.addsitedir({str(site_packages)!r})
for name in {SHARED_NAMES}:
    ours = importlib.util.find_spec("temporal." + name)
    assert ours.origin == {str(checkout)!r} + f"/temporal/{{name}}/__init__.py", ours
    assert importlib.util.find_spec(name) is None, name
"""
    python("-S", "-c", code, cwd=tmp_path)  # -S: without site-packages, where the package may be installed as well


def test_versions_and_entry_point_agree_with_the_package(installed):
    assert PROJECT["version"] == temporal.__version__
    ((name, target),) = PROJECT["scripts"].items()
    assert callable(EntryPoint(name, target, "console_scripts").load())
    assert f"{name} = {target}" in next(installed.glob("*.dist-info/entry_points.txt")).read_text()


def test_this_process_tests_one_copy_of_the_package():
    """Every module, those loaded for their doctests too, comes from this checkout and not from site-packages."""
    ours = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "temporal"}
    foreign = {name: file for name, file in ours.items() if not pathlib.Path(file).is_relative_to(ROOT / "temporal")}
    assert ours and not foreign


# --- the names that Hugging Face owns ---


@pytest.fixture
def theirs(tmp_path) -> pathlib.Path:
    """A site-packages folder with a `datasets` and a `kernels` of somebody else."""
    folder = tmp_path / "theirs"
    for name in SHARED_NAMES:
        package = folder / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("from .rows import Row\nfrom . import rows\nWHOSE = 'theirs'\n")
        (package / "rows.py").write_text("import dataclasses\n@dataclasses.dataclass\nclass Row:\n    value: int = 3\n")
        (package / "__main__.py").write_text("print('ran', __package__)\n")
    return folder


@pytest.fixture(params=["from the root", "from elsewhere, root on the path", "from elsewhere, installed"])
def place(request, tmp_path) -> dict:
    """Where an interpreter starts, and what PYTHONPATH holds before Hugging Face's packages."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if request.param == "from the root":
        return {"cwd": ROOT, "path": []}
    if request.param == "from elsewhere, root on the path":
        return {"cwd": elsewhere, "path": [ROOT]}
    return {"cwd": elsewhere, "path": [request.getfixturevalue("installed")]}


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
def test_both_packages_live_in_one_process(ours_first, place, theirs):
    ours = "import temporal.datasets, temporal.kernels\n"
    both = ours + "import datasets, kernels\n" if ours_first else "import datasets, kernels\n" + ours
    code = both + f"""
import importlib, importlib.util, pathlib, pickle, sys
for name in {SHARED_NAMES}:
    their, our = sys.modules[name], sys.modules["temporal." + name]
    assert their is globals()[name] and our is getattr(temporal, name) and their is not our
    assert their.WHOSE == "theirs" and not hasattr(our, "WHOSE")
    assert their.__name__ == their.__spec__.name == name and our.__name__ == our.__spec__.name == "temporal." + name
    assert pathlib.Path(their.__file__).is_relative_to({str(theirs)!r})
    assert not pathlib.Path(our.__file__).is_relative_to({str(theirs)!r})
    rows = importlib.import_module(name + ".rows")
    assert rows is their.rows and rows.__name__ == name + ".rows" and rows.Row is their.Row
    assert type(pickle.loads(pickle.dumps(rows.Row(5)))) is rows.Row
    assert importlib.util.find_spec(name).origin == their.__file__
    assert importlib.import_module(name) is their and importlib.reload(their).WHOSE == "theirs"
import datasets.rows, kernels.rows
from datasets import Row
from kernels.rows import Row as Other
assert Row is datasets.rows.Row and Other is kernels.Row
"""  # fmt: skip
    python("-c", code, cwd=place["cwd"], path=[*place["path"], theirs])


@pytest.mark.parametrize("name", SHARED_NAMES)
def test_python_dash_m_runs_theirs(name, place, theirs):
    done = python("-m", name, cwd=place["cwd"], path=[*place["path"], theirs])
    assert done.stdout == f"ran {name}\n"


@pytest.mark.parametrize("name", SHARED_NAMES)
def test_without_theirs_the_name_is_missing_as_anywhere_else(name):
    """Without site-packages (-S), whatever this environment has installed."""
    code = f"""
import importlib.util, sys
importlib.util.find_spec("{name}")
for attempt in range(2):
    try:
        import {name}
    except ModuleNotFoundError as error:
        assert error.name == "{name}" and "temporal.{name}" in str(error), error
    else:
        raise SystemExit("imported " + {name}.__file__)
    assert "{name}" not in sys.modules
"""
    python("-S", "-c", code, cwd=ROOT)


# --- what an import costs, and what it needs ---


def test_importing_the_package_loads_nothing_heavy():
    """`import temporal` loads no third party at all, and each package adds to torch what it needs and nothing slow."""
    packages = sorted(path.parent.name for path in (ROOT / "temporal").glob("*/__init__.py"))
    assert set(LIGHT_PACKAGES) <= set(packages)
    code = f"""
import importlib, json, sys
from sys import stdlib_module_names as stdlib

def loaded():
    return set(sys.modules)

def third_party(names):
    return sorted({{n.split(".")[0] for n in names}} - set(stdlib) - {{"temporal"}})

started = loaded()
import temporal
report = {{"temporal": third_party(loaded() - started)}}
import torch
known = loaded()
for package in {[*LIGHT_PACKAGES, *(p for p in packages if p not in LIGHT_PACKAGES)]}:
    importlib.import_module("temporal." + package)
    new, known = loaded() - known, loaded()
    report[package] = [third_party(new), [name for name in {HEAVY} if name in new], len(new)]
print(json.dumps(report))
"""
    report = json.loads(python("-c", code, cwd=ROOT).stdout)
    assert report.pop("temporal") == []
    for package, (_, heavy, _) in report.items():
        assert heavy == [], f"import temporal.{package} loads {heavy}"
    for package in LIGHT_PACKAGES:
        others = set(report[package][0]) - {"torch"}
        assert not others, f"import temporal.{package} loads {others}: import them where they are used"
    modules = sum(report[package][2] for package in LIGHT_PACKAGES)
    assert modules < 150, f"{modules} modules, this project's included, beside the 1,200 of torch"


BLOCK = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))\n"  # an import fails, find_spec finds nothing


def test_every_installed_module_imports_without_optional_packages(installed, tmp_path):
    code = BLOCK + """
import importlib, pkgutil, temporal
names = [found.name for found in pkgutil.walk_packages(temporal.__path__, "temporal.", onerror=lambda name: None)]
for name in names:
    if not name.endswith(("__main__", ".cuda", "._triton")):  # a GPU's backends load when they are chosen
        importlib.import_module(name)
print(len(names), temporal.__file__)
"""  # fmt: skip
    done = python("-c", code, cwd=tmp_path, path=[installed])
    count, file = done.stdout.split()
    assert pathlib.Path(file).is_relative_to(installed)
    assert int(count) > 15  # else the walk stopped early


def test_the_suite_is_collected_without_optional_packages():
    code = BLOCK + "import pytest; raise SystemExit(pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider']))"
    done = python("-c", code, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
