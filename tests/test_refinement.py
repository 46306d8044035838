"""Networks that correct a surface model: sizes, context, centring, and units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import xdemsr
from xdemsr.errors import InputError, ModelError
from xdemsr.models.context import verify_context
from xdemsr.models.deepdem import DeepDEM
from xdemsr.models.refinement import opening
from xdemsr.models.resdepth import ResDepth
from xdemsr.spec import Band, Local, ModelSpec

BANDS = ("dsm", "red", "nodata_mask")
SMALL: dict[str, Any] = {
    "bands": BANDS,
    "depth": 2,
    "features": 4,
    "centre_radius": 3,
    "openings": (3, 5),
}


def awake(network: nn.Module) -> nn.Module:
    """Random weights and statistics, so that every part matters."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return network.eval()


def inputs(ny: int = 96, nx: int = 112) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, ny, nx, generator=generator) * 10 + 400
    x[:, 2] = (x[:, 2] > 395).float()
    return x


@pytest.mark.parametrize(
    ("bands", "count"),
    [(1, 12_624_193), (2, 12_624_769), (3, 12_625_345), (5, 12_626_497), (6, 12_627_073)],
)
def test_resdepth_has_the_published_number_of_parameters(bands: int, count: int) -> None:
    network = ResDepth([f"band{k}" for k in range(bands)])
    assert sum(p.numel() for p in network.parameters()) == count


def test_deepdems_own_unet_has_the_published_number_of_parameters() -> None:
    network = ResDepth([f"band{k}" for k in range(6)], depth=8, norm=False, last_bias=False)
    assert sum(p.numel() for p in network.parameters()) == 29_930_240


@pytest.mark.parametrize(
    ("encoder", "count"),
    [("resnet18", 14_337_617), ("resnet34", 24_445_777), ("resnet50", 32_530_513)],
)
@pytest.mark.unets
def test_deepdem_has_the_published_number_of_parameters(encoder: Any, count: int) -> None:
    network = DeepDEM(encoder=encoder)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.unets
def test_deepdem_runs_within_its_declared_context() -> None:
    network = awake(DeepDEM(BANDS, centre_radius=8))
    spec = ModelSpec(
        name="deepdem",
        architecture="deepdem",
        scale=1,
        context=Local(network.radius, network.stride),
        inputs=tuple(map(Band, BANDS)),
    )
    verify_context(network, spec)


def test_without_its_extra_deepdem_says_what_to_install() -> None:
    try:
        import segmentation_models_pytorch  # noqa: F401
    except (ImportError, RuntimeError):
        with pytest.raises(InputError, match=r"pip install 'xdemsr\[unets\]'"):
            DeepDEM()
    else:
        pytest.skip("segmentation-models-pytorch works here")


def test_what_lies_beyond_the_declared_context_does_not_matter() -> None:
    network = awake(ResDepth(**SMALL))
    spec = ModelSpec(
        name="small",
        architecture="resdepth",
        scale=1,
        context=Local(network.radius, network.stride),
        inputs=tuple(map(Band, BANDS)),
    )
    verify_context(network, spec)
    far = ModelSpec(**{**spec.__dict__, "context": Local(network.stride, network.stride)})
    with pytest.raises(ModelError, match="declares a halo"):
        verify_context(network, far)


def test_a_tile_with_its_halo_is_the_whole() -> None:
    network = awake(ResDepth(**SMALL))
    x = inputs()
    halo, stride = network.radius, network.stride
    y0, x0 = 32 // stride * stride, 40 // stride * stride
    assert halo <= min(y0, x0)
    tile = x[..., y0 - halo : y0 + 16 + halo, x0 - halo : x0 + 24 + halo]
    with torch.inference_mode():
        whole, core = network(x), network(tile, halo=halo)
    torch.testing.assert_close(core, whole[..., y0 : y0 + 16, x0 : x0 + 24], atol=1e-3, rtol=0)


def test_a_constant_height_passes_through() -> None:
    network = awake(ResDepth(**SMALL))
    x = inputs()
    higher = x.clone()
    higher[:, 0] += 1500
    with torch.inference_mode():
        first, second = network(x), network(higher)
    torch.testing.assert_close(second, first + 1500, atol=0.02, rtol=0)
    assert (first - x[:, :1]).abs().mean() > 0.1


def test_masked_heights_do_not_move_the_centre() -> None:
    network = awake(ResDepth(**SMALL))
    x = inputs()
    x[:, 2] = 1.0
    x[:, 2, 40:60, 40:70] = 0.0
    spoilt = x.clone()
    spoilt[:, 0, 45:50, 45:50] = -9999.0
    near = (slice(None), slice(None), slice(30, 38), slice(30, 66))
    first, second = (network._centred(heights)[near] for heights in (x, spoilt))
    torch.testing.assert_close(second, first, atol=1e-2, rtol=0)


def test_constants_are_taken_from_the_middle_of_the_samples() -> None:
    network = ResDepth(BANDS, depth=2, features=4, centre_radius=40)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 32, 48, generator=generator)
    x[:, 0] = x[:, 0] * 7 + 900
    x[0, 0] *= 1e4
    x[:, 1] = x[:, 1] * 30 + 120
    network.adapt(x)
    # White noise about its mean over most of the patch keeps its spread; the outlier is left out.
    assert float(network.height_scale) == pytest.approx(7.0, rel=0.05)
    assert network.mean.flatten().tolist() == pytest.approx([120, 0], abs=1)
    assert network.std.flatten().tolist() == pytest.approx([30, 1], abs=1)


def test_constants_are_taken_of_a_surface_without_guides() -> None:
    network = ResDepth(("dsm",), depth=2, features=4, centre_radius=40)
    x = torch.randn(20, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 7 + 900
    network.adapt(x)
    assert float(network.height_scale) == pytest.approx(7.0, rel=0.05)


def test_an_opening_takes_away_what_is_narrower() -> None:
    ground = torch.linspace(0, 5, 40).expand(1, 1, 30, 40).clone()
    dsm = ground.clone()
    dsm[..., 10:14, 20:24] += 12
    opened = opening(dsm, 7)
    assert (opened <= dsm).all()
    assert float((opened - ground).abs()[..., 8:16, 18:26].max()) < 1.0
    assert float(opening(dsm, 3)[..., 12, 22]) > 12


def test_openings_must_have_a_middle() -> None:
    with pytest.raises(ModelError, match="odd widths"):
        ResDepth(BANDS, openings=(4,))


def test_maps_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ModelError, match="multiples of 4, found 30 x 40"):
        ResDepth(**SMALL)(torch.zeros(1, 3, 30, 40))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = awake(ResDepth(**SMALL))
    spec = ModelSpec(
        name="small-refine",
        architecture="resdepth",
        options={**SMALL, "bands": list(BANDS), "openings": [3, 5]},
        scale=1,
        context=Local(network.radius, network.stride, tile=32),
        inputs=(Band("dsm", "m"), Band("red"), Band("nodata_mask")),
        outputs=(Band("dtm", "m"),),
        border="odd",
        task="refinement",
    )
    path = str(tmp_path_factory.mktemp("refine") / "small.safetensors")
    xdemsr.save_model(network, path, spec)
    return path


def dataset(chunks: Callable[[xr.Dataset], xr.Dataset] = lambda ds: ds) -> xr.Dataset:
    dem = xdemsr.synthetic.terrain((83, 101), gsd=1.0, seed=3)
    rng = np.random.default_rng(0)
    red = dem.copy(data=rng.uniform(0, 255, dem.shape).astype("float32"))
    ds = xr.Dataset({"red": red, "nodata_mask": xr.ones_like(dem), "dsm": dem})
    return chunks(ds)


@pytest.mark.parametrize("size", [(83, 101), (17, 23), (40, 9)])
def test_the_answer_does_not_depend_on_chunks(saved: str, size: tuple[int, int]) -> None:
    expected = dataset().demsr.apply(saved)
    lazy = dataset(lambda ds: ds.chunk(dict(zip("yx", size, strict=True))))
    found = lazy.demsr.apply(saved, chunks=(31, 44))
    assert found.chunks is not None
    xr.testing.assert_identical(found.compute().drop_attrs(), expected.drop_attrs())


def test_the_order_of_variables_does_not_matter(saved: str) -> None:
    ds = dataset()
    expected = ds.demsr.apply(saved)
    shuffled = ds[["nodata_mask", "dsm", "red"]].demsr.apply(saved)
    xr.testing.assert_identical(shuffled, expected)
    assert expected.attrs["units"] == "m"


def test_a_better_first_guess_is_made_of_the_surface_and_corrected(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = {"bands": ["dsm", "ground"], "base": "ground", "depth": 2, "features": 4,
               "centre_radius": 3}  # fmt: skip
    network = ResDepth(**options)
    spec = ModelSpec(
        name="guess", architecture="resdepth", options=options, scale=1, border="odd",
        context=Local(network.radius, network.stride, tile=32), task="refinement",
        inputs=(Band("dsm", "m"), Band("ground", "m")), outputs=(Band("dtm", "m"),),
    )  # fmt: skip
    path = str(tmp_path_factory.mktemp("guess") / "guess.safetensors")
    xdemsr.save_model(network, path, spec)
    dsm = xdemsr.synthetic.terrain((70, 90), gsd=1.0, relief=8.0)
    dsm[20:29, 30:44] += 9.0
    expected = xdemsr.ground_filter(dsm)
    # Untaught, it adds nothing to the guess.
    found = xdemsr.refine(dsm, path)
    np.testing.assert_array_equal(found, expected)
    lazy = xdemsr.refine(dsm.chunk(y=31, x=23), path)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, found)
    other = xdemsr.refine(dsm, path, guides={"ground": dsm - 1})
    np.testing.assert_allclose(other, dsm - 1, atol=1e-4)


def test_the_spread_of_heights_is_that_above_the_guess() -> None:
    network = ResDepth(("dsm", "ground", "red"), base="ground", depth=2, features=4)
    x = torch.randn(30, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 300.0
    x[:, 0] = x[:, 0] * 4 + 300
    x[:, 2] = x[:, 2] * 9 + 70
    network.adapt(x)
    assert float(network.height_scale) == pytest.approx(4.0, rel=0.05)
    assert network.mean.flatten().tolist() == pytest.approx([0, 70], abs=0.5)
    scaled = network._scaled(x)
    assert scaled.shape[1] == network.channels == 3
    assert float(scaled[:, 1].std()) == pytest.approx(1.0, rel=0.05)


def test_the_first_guess_must_be_a_guide() -> None:
    with pytest.raises(ModelError, match="base 'dtm' is no guide"):
        ResDepth(BANDS, base="dtm")
