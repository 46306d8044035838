"""The examples run."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    "name",
    [
        "upscale_a_dem",
        "bring_your_own_network",
        pytest.param("train_a_network", marks=pytest.mark.train),
    ],
)
def test_an_example_runs(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    said = capsys.readouterr().out
    assert said
    if name == "bring_your_own_network":
        assert "identical: True" in said
    assert os.listdir()
