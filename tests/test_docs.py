"""The documentation: what it names is there, and what it shows is so."""

from __future__ import annotations

import doctest
import inspect
import re
import tomllib
import types
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

import xdemsr

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


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_page_and_an_example(name: str) -> None:
    assert name in API
    member = getattr(xdemsr, name)
    if not (inspect.isclass(member) and issubclass(member, BaseException | Warning)):
        assert "Examples\n" in (member.__doc__ or "")


@pytest.mark.parametrize("module", ["plotting", "synthetic", "training"])
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
        assert "Examples\n" in (getattr(getattr(xdemsr, module), name).__doc__ or "")


def test_the_quickstart_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    # What is shown ends where its fence does.
    test = doctest.DocTestParser().get_doctest(
        re.sub("^```.*$", "", page, flags=re.MULTILINE), {}, "quickstart.md", None, 0
    )
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    plt.close("all")
    assert found.attempted > 15
    assert not found.failed
    assert (tmp_path / "fine.png").exists()


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
