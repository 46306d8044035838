"""The gallery: scripts of one shape, and those of a few seconds run.

All of them run when the documentation is built (``nox -s docs``), where what fails is an error.
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

EXAMPLES = Path(__file__).parent.parent / "examples"
GALLERY = sorted(path.stem for path in EXAMPLES.glob("plot_*.py"))


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MPLBACKEND", "agg")
    # Scripts write into folders of their own.
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")
    assert not list(tmp_path.iterdir())


def test_there_are_enough() -> None:
    assert len(GALLERY) >= 12
    assert [int(name.split("_")[1]) for name in GALLERY] == list(range(1, len(GALLERY) + 1))


@pytest.mark.parametrize("name", GALLERY)
def test_a_script_is_a_page(name: str) -> None:
    """It has a title and says what it is about, and pictures come from what users have."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    title, line, *about = (ast.get_docstring(tree) or "").splitlines()
    assert line == "=" * len(title)
    assert len(" ".join(about)) > 80
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert any(call.startswith(("xdemsr.plotting.", "xdemsr.view_3d")) for call in called) or (
        "plt.subplots" in called
    )


@pytest.mark.parametrize(
    "name",
    ["plot_01_upscale_a_dem", "plot_06_stac_to_zarr", "plot_12_bring_your_own_network"],
)
def test_a_script_runs_and_draws(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "stac" in name:
        pytest.importorskip("pystac_client", reason="needs the extra 'stac'")
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    assert plt.get_fignums()
    if name == "plot_12_bring_your_own_network":
        assert "identical: True" in capsys.readouterr().out
