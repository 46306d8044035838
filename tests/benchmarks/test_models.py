"""Throughput of models beside the bare network on the same tiles and the bare write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from bare import BareNetwork, bare_write, computed
from conftest import Findings, Times

import xdemsr
from xdemsr.models.edsr import EDSR
from xdemsr.spec import Local, ModelSpec

# Name, scale, pixels along a side of the source over those of x16, precision.
JOBS = [
    ("terrain-x16", 16, 1.0, "auto"),
    ("terrain-x16", 16, 1.0, "fp32"),
    ("effnetv2-dem-x16", 16, 0.125, "auto"),
    ("effnetv2-dem-x16", 16, 0.125, "fp32"),
    ("terrain-x4", 4, 2.0, "auto"),
    ("edsr", 4, 0.5, "auto"),
    ("s2-x2", 2, 1.0, "auto"),
    ("dtm-from-dsm", 1, 2.0, "auto"),
    ("bicubic", 16, 1.0, "auto"),
    ("histospline", 16, 1.0, "auto"),
]
LIMITS = {"terrain-x16": 1.2, "effnetv2-dem-x16": 1.1}
WORDS = {"auto": "half where the device has it", "fp32": "float32"}


@pytest.fixture(scope="session")
def edsr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EDSR 8 x 64 with random weights."""
    options = {"scale": 4, "blocks": 8, "features": 64, "centre_radius": 4, "skip": "bicubic"}
    spec = ModelSpec("edsr", "edsr", 4, Local(halo=24), options=options)
    path = tmp_path_factory.mktemp("models") / "edsr.safetensors"
    xdemsr.save_model(EDSR(**options), path, spec)
    return path


def raster(name: str, shape: tuple[int, int]) -> xr.DataArray | xr.Dataset:
    """What a model takes."""
    dem = xdemsr.synthetic.terrain(shape, gsd=1.0 if name == "dtm-from-dsm" else 30.0)
    bands = {"s2-x2": ["red", "green", "blue", "nir"], "dtm-from-dsm": ["red", "green", "blue"]}
    if name not in bands:
        return dem.chunk(512)
    values = np.random.default_rng(0).uniform(0.1, 1.0, (len(bands[name]), *shape))
    if name == "s2-x2":
        values *= 4000
    colours = xr.DataArray(
        values.astype(np.float32),
        dims=("band", "y", "x"),
        coords={"band": bands[name], "y": dem.y, "x": dem.x, "spatial_ref": dem.spatial_ref},
        name="colours",
    )
    if name == "s2-x2":
        return colours.chunk(band=1, y=512, x=512)
    return xr.Dataset({"dsm": dem, "rgb": colours}).chunk(y=512, x=512)


def answered(
    name: str, model: object, scale: int, obj: xr.DataArray | xr.Dataset, precision: str
) -> xr.DataArray:
    """The lazy answer."""
    if name == "dtm-from-dsm":
        return xdemsr.refine(obj, precision=precision)
    return obj.demsr.upscale(scale, model, precision=precision)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "scale", "share", "precision"), JOBS)
def test_models(
    name: str,
    scale: int,
    share: float,
    precision: str,
    race: Callable[..., Times],
    findings: Findings,
    size: int,
    effnet: Path,
    edsr: Path,
    store: Path,
) -> None:
    model = {"effnetv2-dem-x16": effnet, "edsr": edsr}.get(name, name)
    shape = (int(size * share), int(size * share))
    fine = answered(name, model, scale, raster(name, shape), precision)
    there = computed(fine)
    jobs = {
        "library": lambda: xdemsr.write_zarr(fine, store),
        "network": BareNetwork(model, scale if scale > 1 else None, shape, precision),
        "write": lambda: bare_write(there, store),
    }
    # Rounds of the bare network alone differ by a half: a limit needs more than three of them.
    times = race(jobs, rounds=10 if name in LIMITS else 3)
    seconds = {job: times.best(job) for job in jobs}
    ratio = seconds["library"] / (seconds["network"] + seconds["write"])
    work = times.work("library") / (times.work("network") + times.work("write"))
    findings.table(
        "models",
        (
            "model",
            "precision",
            "source",
            "output, Mpx/s",
            "network, s",
            "write, s",
            "all, s",
            "ratio",
            "of processors",
        ),
        [
            [
                name,
                WORDS[precision],
                " x ".join(map(str, shape)),
                f"{fine.size / seconds['library'] / 1e6:.3g}",
                *(f"{seconds[job]:.2f}" for job in ("network", "write", "library")),
                f"{ratio:.2f}",
                f"{work:.2f}",
            ]
        ],
    )
    if name in LIMITS and precision == "auto":
        findings.target(
            f"`{name}`: time over bare network and bare write", ratio, LIMITS[name], most=True
        )
