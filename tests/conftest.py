"""Rasters and models that several tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

# Workers of process pools and clusters find the tests' networks by name, as a user's are found.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "support"), os.environ.get("PYTHONPATH", "")]
)

import xdemsr
from xdemsr.spec import VERTICAL_ERROR, Band, Context, Local, ModelSpec, Windowed

ELEVATION = Band("elevation", "m")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU, or a torch that torchvision goes with, where there is none."""
    import torch

    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "torch finds no CUDA device"
    try:
        import segmentation_models_pytorch  # noqa: F401
    except (ImportError, RuntimeError):
        missing["unets"] = "segmentation-models-pytorch cannot be imported: nox -s unets"
    for item in items:
        for mark, reason in missing.items():
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctests and the demo write where nobody minds."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dem() -> xr.DataArray:
    """A small fractal terrain with voids, not square."""
    dem = xdemsr.synthetic.terrain((43, 61), gsd=30.0, seed=1)
    dem[10:14, 20:27] = np.nan
    dem[40:, :3] = np.nan
    return dem


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def make_model(model_folder: Path) -> Callable[..., Path]:
    """Save a network with random weights and give its path; made once for each name."""
    import torch

    from xdemsr.models import build

    def make(
        name: str,
        architecture: str,
        scale: int,
        context: Context,
        options: dict[str, object] | None = None,
        inputs: tuple[Band, ...] = (ELEVATION,),
        outputs: tuple[Band, ...] = (ELEVATION,),
        **more: object,
    ) -> Path:
        path = model_folder / f"{name}.safetensors"
        if not path.exists():
            spec = ModelSpec(
                name=name,
                architecture=architecture,
                scale=scale,
                context=context,
                options=options or {},
                inputs=inputs,
                outputs=outputs,
                **more,
            )
            torch.manual_seed(0)
            module = build(spec)
            with torch.no_grad():
                for parameter in module.parameters():
                    if parameter.ndim > 1 and not parameter.any():
                        parameter.normal_(std=0.05)
            xdemsr.save_model(module, path, spec)
        return path

    return make


@pytest.fixture(scope="session")
def terrain_model(make_model: Callable[..., Path]) -> Path:
    """A small terrain network of scale 16: local, told the vertical error."""
    return make_model(
        "small-terrain",
        "terrain",
        16,
        Local(halo=11, tile=16),
        {"scale": 16, "features": 8, "blocks": 2},
        inputs=(ELEVATION, Band(VERTICAL_ERROR, "m")),
        border="odd",
        gsd=(10.0, 100.0),
    )


@pytest.fixture(scope="session")
def windowed_model(make_model: Callable[..., Path]) -> Path:
    """A small EfficientNetV2-DEM with squeeze-and-excitation: windows of 25, blended."""
    return make_model(
        "small-effnet",
        "effnetv2_dem",
        16,
        Windowed(25, 8),
        {"groups": [[8, 1, 1], [8, 4, 1]]},
        border="odd",
    )


@pytest.fixture(scope="session")
def edsr_model(make_model: Callable[..., Path]) -> Path:
    """A small EDSR of scale 4."""
    return make_model(
        "small-edsr",
        "edsr",
        4,
        Local(halo=11, tile=20),
        {"scale": 4, "blocks": 2, "features": 8, "centre_radius": 3, "skip": "bicubic"},
    )
