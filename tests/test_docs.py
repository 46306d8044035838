"""The documentation: what it names is there, and what it shows is so."""

from __future__ import annotations

import doctest
import inspect
import re
import runpy
import shlex
import sys
import tomllib
import types
from pathlib import Path
from xml.etree import ElementTree

import click
import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import xdemsr
from xdemsr import accessor, cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts and "gallery" not in page.parts]
API = {
    line.strip()
    for line in (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").splitlines()
    if line.startswith("   ")
}
MODULES = [name for name in xdemsr.__all__ if inspect.ismodule(getattr(xdemsr, name))]
NAMES = [name for name in xdemsr.__all__ if name not in MODULES]

mpl.use("agg")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    # The gallery's pages are made of its scripts when the documentation is built.
    made = {"gallery/index.rst"} | {
        f"gallery/{path.stem}.rst" for path in (ROOT / "examples").glob("plot_*.py")
    }
    for target in found:
        if "://" not in target and not target.startswith("mailto:") and target not in made:
            assert (page.parent / target).exists(), target


def runs(member: object) -> bool:
    """Whether a docstring has an example under its own heading that doctest runs."""
    document = inspect.getdoc(member) or ""
    examples = doctest.DocTestParser().get_examples(document.partition("\nExamples\n---")[2])
    return any(not example.options.get(doctest.SKIP) for example in examples)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_page_and_an_example(name: str) -> None:
    assert name in API
    assert runs(getattr(xdemsr, name))


@pytest.mark.parametrize("module", [name for name in MODULES if name != "errors"])
def test_so_has_everything_in_public_modules(module: str) -> None:
    members = vars(getattr(xdemsr, module))
    names = members.get("__all__") or [
        name
        for name, member in members.items()
        if isinstance(member, types.FunctionType) and member.__module__ == f"xdemsr.{module}"
    ]
    public = [name for name in names if not name.startswith("_")]
    assert public
    for name in public:
        assert f"{module}.{name}" in API
        assert runs(getattr(getattr(xdemsr, module), name))


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (array.removesuffix("Accessor"), name)
        for array in ("DataArrayAccessor", "DatasetAccessor")
        for name, _ in inspect.getmembers(getattr(accessor, array), inspect.isfunction)
        if not name.startswith("_")
    ],
)
def test_so_has_every_method(array: str, name: str) -> None:
    assert f"{array}.demsr.{name}" in API
    assert runs(getattr(getattr(accessor, f"{array}Accessor"), name))


@pytest.mark.parametrize("name", ["quickstart", "how_it_works", "nodata", "grids", "own_network"])
def test_a_page_can_be_followed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    # What is shown ends where its fence does.
    test = doctest.DocTestParser().get_doctest(
        re.sub("^```.*$", "", page, flags=re.MULTILINE), {}, f"{name}.md", None, 0
    )
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    plt.close("all")
    assert found.attempted
    assert not found.failed


def test_a_catalog_without_a_network_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pystac_client", reason="needs the extra 'stac'")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "stac.md").read_text(encoding="utf-8")
    # The first block asks a server.
    made = re.findall("```python\n(.*?)```", page, flags=re.DOTALL)[1]
    (shown,) = re.findall("```text\n(.*?)```", page, flags=re.DOTALL)
    exec(made, {})
    assert capsys.readouterr().out == shown


@pytest.mark.train
def test_training_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    made, tried = re.findall("```python\n(.*?)```", page, flags=re.DOTALL)[:2]
    scope: dict[str, object] = {}
    exec(made, scope)
    capsys.readouterr()
    exec(tried, scope)
    rows = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:4])
    assert float(rows["small-x4"]) < float(rows["spline"]) == 1.0


def test_drawings_can_be_read() -> None:
    drawings = sorted((ROOT / "docs" / "_static").glob("*.svg"))
    assert drawings
    for path in drawings:
        title = ElementTree.parse(path).find("{http://www.w3.org/2000/svg}title")
        assert title is not None
        assert title.text


def test_the_recipe_for_conda_asks_for_what_the_package_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / "docs" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    found = dict(re.findall(r"- ([\w-]+) >=([\d.]+)", run))
    names = {"dask": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch"}
    asked = {}
    for requirement in project["dependencies"]:
        name, _, version = requirement.partition(">=")
        bare = name.partition("[")[0]
        asked[names.get(bare, bare)] = version
    assert found == asked
    assert f'version: "{xdemsr.__version__}"' in recipe
    minimum = project["requires-python"].removeprefix(">=")
    assert f'python_min: "{minimum}"' in recipe


def test_the_recipe_for_conda_is_one() -> None:
    """By rattler-build's own reading of it."""
    rattler = pytest.importorskip("rattler_build", reason="needs py-rattler-build: nox -s recipe")
    recipe = (ROOT / "docs" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    stage = rattler.Stage0Recipe.from_yaml(recipe)
    (made,) = stage.render(rattler.VariantConfig(), rattler.RenderConfig())
    rendered = made.recipe.to_dict()
    assert rendered["package"] == {"name": "xdemsr", "version": xdemsr.__version__}
    assert rendered["build"]["noarch"] == "python"


COMMANDS = sorted(
    {
        line.removeprefix("$ xdemsr ").partition(" #")[0].partition(" >")[0].strip()
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("$ xdemsr ")
    }
)


@pytest.mark.parametrize("shown", COMMANDS)
def test_a_command_that_a_page_shows_is_one(
    shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its options are known and its values are of their kind; nothing is run."""
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(shown)
    for argument in arguments:
        if argument.endswith((".tif", ".toml", ".zarr", "LIDAR", "PLACES")):
            Path(argument.rpartition("=")[2]).touch()
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    command.make_context(name, arguments)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    check = runpy.run_path(str(ROOT / "docs" / "check_links.py"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">a</h1><a href="#top">b</a><a href="deep/page.html#there">c</a>'
        '<a href="deep/page.html#nowhere">d</a><a href="https://example.org/gone">e</a>'
        '<img srcset="a.png, b.png 2x">'
    )
    (tmp_path / "a.png").touch()
    (tmp_path / "deep" / "page.html").write_text('<p id="there"><a href="../gone.html">f</a>')
    assert check["broken"](tmp_path) == [
        "deep/page.html: ../gone.html",
        "index.html: b.png",
        "index.html: deep/page.html#nowhere",
    ]
    assert check["main"](str(tmp_path)) == 1
    assert check["main"](str(tmp_path / "nothing")) == 1


def test_the_citation_is_of_this_version() -> None:
    said = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {xdemsr.__version__}\n" in said


def test_versions_say_nothing_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    xdemsr.show_versions()
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["xdemsr"] == xdemsr.__version__
    assert {"python", "torch", "gdal", "gpu", "zarr"} <= set(said)
    assert not any("/" in value for value in said.values())


def test_models_and_plans_are_tables_in_notebooks() -> None:
    model = xdemsr.load_model("terrain-x4")
    plan = xdemsr.plan(xdemsr.synthetic.terrain((40, 60)), 4)
    for shown, words in ((model, ("terrain-x4", "155,632", "CC-BY-4.0")), (plan, ("160 x 240",))):
        table = ElementTree.fromstring(shown._repr_html_())
        text = " ".join(table.itertext())
        assert all(word in text for word in words)
