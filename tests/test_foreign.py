"""Checkpoints of other projects: the same numbers, or a refusal that says why."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from checkpoints import AuthorsEDSR, BasicEDSR, Blocky, Stretch, TheirResDepth
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Global
from safetensors.torch import save_file
from torch import Tensor, nn

import xdemsr
from xdemsr import Band, Local, ModelSpec, Windowed
from xdemsr.errors import InputError, ModelError, WeightsError
from xdemsr.models.context import measure_context


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def image(bands: int, high: float, shape: tuple[int, int] = (41, 57)) -> xr.DataArray:
    """Noise of 0 to ``high``, not square, with a regular grid."""
    values = np.random.default_rng(0).uniform(0, high, (bands, *shape)).astype(np.float32)
    y, x = (10.0 * np.arange(n) for n in shape)
    return xr.DataArray(values, dims=("band", "y", "x"), coords={"y": -y, "x": x})


def whole(module: nn.Module, raster: xr.DataArray) -> np.ndarray[Any, Any]:
    """What the original says of the whole raster at once."""
    with torch.inference_mode():
        return module(torch.from_numpy(raster.values.reshape(1, -1, *raster.shape[-2:])))[0].numpy()


def inside(answer: np.ndarray[Any, Any], scale: int, margin: int) -> np.ndarray[Any, Any]:
    """Without the border, which the originals pad with zeros."""
    cut = slice(margin * scale, -margin * scale)
    return answer[..., cut, cut]


@pytest.mark.parametrize(
    ("scale", "mean"), [(2, (0.4488, 0.4371, 0.4040)), (3, (0.5,)), (4, (0.1, 0.2, 0.3, 0.4))]
)
def test_edsr_of_its_authors_answers_as_theirs(
    tmp_path: Path, scale: int, mean: tuple[float, ...]
) -> None:
    theirs = seeded(lambda: AuthorsEDSR(scale, mean=mean))
    path = save(theirs.state_dict(), tmp_path / "edsr.pt")
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors", licence="MIT")
    assert (spec.name, spec.scale, spec.licence) == ("edsr", scale, "MIT")
    assert len(spec.inputs) == len(spec.outputs) == len(mean)
    raster = image(len(mean), 255.0)
    fine = (raster if len(mean) > 1 else raster[0]).demsr.upscale(
        scale, tmp_path / "ours.safetensors", precision="fp32"
    )
    expected = inside(whole(theirs, raster), scale, 10).squeeze()
    np.testing.assert_allclose(inside(fine.values, scale, 10), expected, atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(
    blocks=st.integers(1, 4),
    features=st.integers(1, 6),
    scale=st.sampled_from([2, 3, 4, 8]),
    bands=st.integers(1, 5),
    theirs=st.sampled_from([AuthorsEDSR, BasicEDSR]),
)
def test_shapes_tell_the_options(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: int,
    features: int,
    scale: int,
    bands: int,
    theirs: type[nn.Module],
) -> None:
    """Whatever was chosen is read back from names and shapes, and gives the same numbers."""
    mean = (0.25,) * bands
    network = seeded(lambda: theirs(scale, blocks, features, mean=mean))
    folder = tmp_path_factory.mktemp("shapes")
    path = save({"params": network.state_dict()}, folder / "net.pth")
    # BasicSR does not keep these two.
    options = {"mean": 0.25, "std": 1 / 255} if theirs is BasicEDSR else {}
    spec = xdemsr.convert(path, folder / "ours.safetensors", options=options)
    found = {name: spec.options[name] for name in ("blocks", "features", "scale", "bands")}
    assert found == {"blocks": blocks, "features": features, "scale": scale, "bands": bands}
    x = torch.rand(1, bands, 19, 23)
    module = xdemsr.load_model(folder / "ours.safetensors").module
    with torch.inference_mode():
        torch.testing.assert_close(module(x), network(x), rtol=1e-4, atol=1e-4)


def test_contexts_that_follow_from_the_architecture_are_large_enough(tmp_path: Path) -> None:
    path = save(seeded(lambda: AuthorsEDSR(2, 3)).state_dict(), tmp_path / "edsr.pt")
    model = xdemsr.load_model(path)
    measured = xdemsr.measure_context(model.module, model.spec.inputs)
    assert isinstance(model.spec.context, Local)
    assert isinstance(measured, Local)
    assert measured.halo <= model.spec.context.halo <= measured.halo + 2


@pytest.mark.parametrize("range_", [(0.0, 4000.0), [(0.0, 1.0), (10.0, 20.0), (-5.0, 5.0)]])
def test_value_ranges_are_those_of_the_raster(tmp_path: Path, range_: Any) -> None:
    theirs = seeded(AuthorsEDSR)
    path = save(theirs.state_dict(), tmp_path / "edsr.pt")
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors", value_range=range_)
    pairs = np.array(range_ if isinstance(range_, list) else [range_] * 3)
    low, span = (
        torch.tensor(v, dtype=torch.float32)[:, None, None]
        for v in (pairs[:, 0], pairs[:, 1] - pairs[:, 0])
    )
    x = torch.rand(1, 3, 17, 21)
    with torch.inference_mode():
        answer = xdemsr.load_model(spec).module(x * span + low)
        expected = theirs(x * 255) / 255 * span + low
    torch.testing.assert_close((answer - low) / span, (expected - low) / span, rtol=0, atol=1e-5)


@pytest.mark.parametrize("range_", [(1.0, 0.0), (0.0, float("inf")), (0.0, float("nan")), (1.0,)])
def test_value_ranges_are_finite_and_rise(tmp_path: Path, range_: Any) -> None:
    path = save(seeded(AuthorsEDSR).state_dict(), tmp_path / "edsr.pt")
    with pytest.raises(InputError, match=r"must be \(low, high\)"):
        xdemsr.convert(path, tmp_path / "ours.safetensors", value_range=range_)


@pytest.mark.parametrize(("features", "expected"), [(64, 1.0), (256, 0.1)])
def test_residual_scales_are_the_published_ones(
    tmp_path: Path, features: int, expected: float
) -> None:
    path = save(AuthorsEDSR(2, 1, features).state_dict(), tmp_path / "edsr.pt")
    assert xdemsr.load_model(path).spec.options["residual_scale"] == expected


def test_residual_scales_are_those_noted_or_told(tmp_path: Path) -> None:
    network, path = AuthorsEDSR(2, blocks=1), tmp_path / "edsr.pt"
    noted = {"state_dict": network.state_dict(), "hyper_parameters": {"res_scale": 0.5}}
    save(noted, path)
    assert xdemsr.load_model(path).spec.options["residual_scale"] == 0.5
    told = xdemsr.convert(path, tmp_path / "m.safetensors", options={"residual_scale": 0.7})
    assert told.options["residual_scale"] == 0.7


def test_shifts_that_do_not_undo_each_other_are_refused(tmp_path: Path) -> None:
    network = AuthorsEDSR()
    with torch.no_grad():
        network.add_mean.bias.add_(1.0)
    path = save(network.state_dict(), tmp_path / "edsr.pt")
    with pytest.raises(ModelError, match="does not undo its sub_mean"):
        xdemsr.load_model(path)


def test_averaged_weights_are_taken_first(tmp_path: Path) -> None:
    last, averaged = (seeded(lambda s=s: BasicEDSR(features=s)) for s in (4, 5))
    content = {"params": last.state_dict(), "params_ema": averaged.state_dict()}
    path = save(content, tmp_path / "net_g_latest.pth")
    assert xdemsr.load_model(path).spec.options["features"] == 5


def test_basicsr_does_not_keep_the_mean_of_other_bands(tmp_path: Path) -> None:
    path = save(BasicEDSR(mean=(0.0,)).state_dict(), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="options="):
        xdemsr.load_model(path)
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors", options={"mean": 3.0, "std": 2.0})
    assert float(xdemsr.load_model(path, spec=spec).module.mean) == 3.0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"state_dict": {**{f"net.module.{k}": v for k, v in s.items()},
                                  "loss.weight": torch.ones(2)}},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {"generator": s, "discriminator": {"head.0.weight": torch.ones(1)}},
    ],
)  # fmt: skip
def test_wrappings_are_taken_off(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    theirs = seeded(AuthorsEDSR)
    path = save(wrap(theirs.state_dict()), tmp_path / "last.ckpt")
    x = 255 * torch.rand(1, 3, 15, 18)
    with torch.inference_mode():
        torch.testing.assert_close(xdemsr.load_model(path).module(x), theirs(x), rtol=0, atol=1e-3)


def test_half_precision_is_read_into_single(tmp_path: Path) -> None:
    theirs = seeded(lambda: AuthorsEDSR().half())
    path = save(theirs.state_dict(), tmp_path / "half.pt")
    x = 255 * torch.rand(1, 3, 15, 18)
    with torch.inference_mode():
        answer, expected = xdemsr.load_model(path).module(x), theirs.float()(x)
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-3)


def test_bare_safetensors_are_recognised_too(tmp_path: Path) -> None:
    theirs = seeded(AuthorsEDSR)
    tensors = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "theirs.safetensors")
    spec = xdemsr.convert(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors")
    assert spec.options["blocks"] == 3
    with pytest.raises(InputError, match="another name"):
        xdemsr.convert(tmp_path / "theirs.safetensors", tmp_path / "theirs.safetensors")
    with pytest.raises(InputError, match="used as it is"):
        xdemsr.convert(tmp_path / "ours.safetensors", tmp_path / "again.safetensors")


def test_a_foreign_checkpoint_can_be_used_as_it_is(tmp_path: Path) -> None:
    """Loaded without converting, it runs on workers from its own file, with the same numbers."""
    path = save(seeded(AuthorsEDSR).state_dict(), tmp_path / "edsr.pt")
    xdemsr.convert(path, tmp_path / "ours.safetensors")
    raster = image(3, 255.0)
    with pytest.raises(ModelError, match="made for scale 2, not 3"):
        xdemsr.load_model(path, scale=3)
    lazy = raster.chunk(20).demsr.upscale(2, xdemsr.load_model(path), precision="fp32")
    assert isinstance(lazy.data, da.Array)
    converted = raster.demsr.upscale(2, tmp_path / "ours.safetensors", precision="fp32")
    np.testing.assert_array_equal(lazy.values, converted.values)


@pytest.mark.parametrize("chunks", [7, {"y": 13, "x": -1}, 40])
def test_converted_networks_do_not_depend_on_chunks(tmp_path: Path, chunks: Any) -> None:
    path = save(seeded(AuthorsEDSR).state_dict(), tmp_path / "edsr.pt")
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors")
    raster = image(3, 255.0)
    raster[:, 5:9, 30:33] = np.nan
    fine = raster.demsr.upscale(2, spec, precision="fp32")
    lazy = raster.chunk(chunks).demsr.upscale(2, spec, precision="fp32", chunks=33)
    np.testing.assert_array_equal(lazy.values, fine.values)
    np.testing.assert_array_equal(
        np.isnan(fine.values), np.isnan(raster.values).repeat(2, 1).repeat(2, 2)
    )


def test_strides_that_only_faint_disturbances_show_are_found() -> None:
    context = measure_context(Blocky(), [Band("elevation", "m")])
    assert isinstance(context, Local)
    assert context.multiple_of == 4
    assert context.halo % 4 == 0
    assert measure_context(Blocky(), [Band("elevation", "m")], stride=6).multiple_of == 12


# ResDepth


def resdepth_checkpoint(path: Path, channels: int = 3) -> nn.Module:
    """A checkpoint as its trainer writes it; statistics of batch normalisation that matter."""
    theirs = seeded(lambda: TheirResDepth(channels))
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    optimizer = torch.optim.Adam(theirs.parameters())
    content = {
        "epoch": 12,
        "model_state_dict": theirs.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "loss_train": 1.5,
        "loss_val": 1.25,
    }
    torch.save(content, path)
    return theirs


def test_resdepth_answers_as_theirs(tmp_path: Path) -> None:
    theirs = resdepth_checkpoint(tmp_path / "Model_best.pth")
    constants = {"height_scale": 33.0, "mean": (261.0, 240.0), "std": 245.0}
    spec = xdemsr.convert(
        tmp_path / "Model_best.pth", tmp_path / "ours.safetensors", constants=constants
    )
    assert [band.name for band in spec.inputs] == ["dsm", "ortho_left", "ortho_right"]
    assert (spec.scale, spec.border, len(spec.outputs)) == (1, "odd", 1)
    x = torch.randn(1, 3, 24, 32) * torch.tensor([20.0, 245.0, 245.0])[:, None, None] + 250
    with torch.inference_mode():
        module = xdemsr.load_model(spec).module
        # Theirs takes off the mean of the tile, ours a regional one: theirs is given ours.
        given = torch.cat([module._centred(x) / 33, (x[:, 1:] - module.mean) / module.std], 1)
        expected = x[:, :1] + 33 * (theirs(given) - given[:, :1])
        torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-3)


def test_resdepth_must_be_told_its_constants(tmp_path: Path) -> None:
    resdepth_checkpoint(tmp_path / "m.pth")
    resdepth_checkpoint(tmp_path / "alone.pth", channels=1)
    out = tmp_path / "ours.safetensors"
    with pytest.raises(ModelError, match="constants height_scale, mean, std"):
        xdemsr.load_model(tmp_path / "m.pth")
    with pytest.raises(ModelError, match="constants mean, std"):
        xdemsr.convert(tmp_path / "m.pth", out, constants={"height_scale": 33.0})
    with pytest.raises(ModelError, match="leave value_range away"):
        xdemsr.convert(tmp_path / "m.pth", out, value_range=(0.0, 1.0))
    wrong: dict[str, Any] = {"height_scale": 33.0, "mean": (1.0, 2.0, 3.0), "std": 1.0}
    with pytest.raises(ModelError, match="is 2 numbers, found 3"):
        xdemsr.convert(tmp_path / "m.pth", out, constants=wrong)
    wrong = {"height_scale": 33.0, "mean": 1.0, "std": 1.0, "dsm_std": 1.0}
    with pytest.raises(ModelError, match="no constant 'dsm_std'"):
        xdemsr.convert(tmp_path / "m.pth", out, constants=wrong)
    assert not out.exists()
    spec = xdemsr.convert(tmp_path / "alone.pth", out, constants={"height_scale": 33.0})
    assert [band.name for band in spec.inputs] == ["dsm"]


# What is told


def test_what_is_told_is_written(tmp_path: Path) -> None:
    path = save(seeded(lambda: AuthorsEDSR(mean=(0.5,))).state_dict(), tmp_path / "edsr.pt")
    spec = xdemsr.convert(
        path,
        tmp_path / "ours.safetensors",
        name="mine",
        inputs=[Band("height", "ft")],
        context=Local(40, tile=64),
        border="mirror",
        gsd=(1.0, 4.0),
        citation="Lim et al.",
    )
    assert xdemsr.load_model(tmp_path / "ours.safetensors").spec == spec
    assert spec.inputs == spec.outputs == (Band("height", "ft"),)
    assert (spec.name, spec.context, spec.border) == ("mine", Local(40, tile=64), "mirror")
    assert (spec.gsd, spec.citation) == ((1.0, 4.0), "Lim et al.")


@pytest.mark.parametrize(
    ("told", "error", "words"),
    [
        ({"inputs": ["a", "b"]}, ModelError, "takes 3 bands; told were 2"),
        ({"options": {"depth": 3}}, ModelError, "does not take the options"),
        ({"options": {"mean": [1.0, 2.0]}}, ModelError, "one for each of the 3 bands"),
        ({"context": Local(2)}, ModelError, "declares a halo of 2 px"),
        ({"value_range": (5.0, 1.0)}, InputError, "must be"),
        ({"value_range": [(0.0, 1.0), (0.0, 2.0)]}, InputError, "one such pair for each of the 3"),
        ({"spec": ModelSpec("m", "edsr", 2, Local(9)), "name": "m"}, InputError, "says all"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, told: dict[str, Any], error: type[Exception], words: str
) -> None:
    path = save(seeded(AuthorsEDSR).state_dict(), tmp_path / "edsr.pt")
    with pytest.raises(error, match=words):
        xdemsr.convert(path, tmp_path / "ours.safetensors", **told)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_specification_is_enough_for_what_is_not_recognised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Stretch().eval()
    path = save({"state_dict": {f"net.{k}": v for k, v in network.state_dict().items()}},
                tmp_path / "theirs.ckpt")  # fmt: skip
    with pytest.raises(WeightsError, match=r"first\.weight.*ONNX.*spec="):
        xdemsr.load_model(path)
    spec = ModelSpec("stretch", "checkpoints:Stretch", 2, Local(3))
    assert xdemsr.convert(path, tmp_path / "ours.safetensors", spec=spec).name == "stretch"
    x = torch.rand(1, 1, 9, 13)
    with torch.inference_mode():
        loaded = xdemsr.load_model(tmp_path / "ours.safetensors")
        torch.testing.assert_close(loaded.module(x), network(x))


def test_a_specification_of_edsr_keeps_its_own_constants(tmp_path: Path) -> None:
    path = save(seeded(AuthorsEDSR).state_dict(), tmp_path / "edsr.pt")
    options = {"scale": 2, "bands": 3, "blocks": 3, "features": 8, "residual_scale": 1.0,
               "mean": [1.0, 2.0, 3.0]}  # fmt: skip
    colours = tuple(Band(name) for name in ("red", "green", "blue"))
    spec = ModelSpec("m", "edsr", 2, Local(10), options=options, inputs=colours, outputs=colours)
    saved = xdemsr.convert(path, tmp_path / "ours.safetensors", spec=spec)
    for loaded in (xdemsr.load_model(path, spec=spec), xdemsr.load_model(saved)):
        assert loaded.module.mean.flatten().tolist() == [1.0, 2.0, 3.0]


def test_unknown_notes_are_shown(tmp_path: Path) -> None:
    content = {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": {"arch": "FunnyNet"}}
    with pytest.raises(WeightsError, match="FunnyNet"):
        xdemsr.load_model(save(content, tmp_path / "m.ckpt"))


def test_our_own_trainings_are_taken_up(tmp_path: Path) -> None:
    """A run's checkpoint has the network's parameters and its loss's."""
    from xdemsr.models.edsr import EDSR

    torch.manual_seed(0)
    network = EDSR(2, blocks=1, features=4)
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    path = save({"state_dict": {**tensors, "loss.weights": torch.ones(3)}, "epoch": 0},
                tmp_path / "best.ckpt")  # fmt: skip
    options = {"scale": 2, "blocks": 1, "features": 4}
    spec = ModelSpec("mine", "edsr", 2, Local(7), options=options)
    assert xdemsr.load_model(path, spec=spec).parameters == sum(
        parameter.numel() for parameter in network.parameters()
    )


# Refused


class Trap:
    """What would leave a file behind, were it unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.file, "w"))


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.ckpt", "m.bin"])
@pytest.mark.parametrize("place", ["beside", "within", "notes"])
def test_payloads_are_not_run(tmp_path: Path, name: str, place: str) -> None:
    sprung, tensors = tmp_path / "sprung", AuthorsEDSR().state_dict()
    trap = Trap(sprung)
    content: dict[str, Any] = {
        "beside": {"params": tensors, "epoch": trap},
        "within": {"params": {**tensors, "trap": trap}},
        "notes": {"state_dict": tensors, "hyper_parameters": {"lr": trap}},
    }[place]
    path = save(content, tmp_path / name)
    for refused in (
        lambda: xdemsr.load_model(path),
        lambda: xdemsr.convert(path, tmp_path / "ours.safetensors"),
    ):
        with pytest.raises(WeightsError, match="could run code"):
            refused()
    assert not sprung.exists()
    # The trap is a real one.
    pickle.loads(pickle.dumps(trap)).close()
    assert sprung.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.jit.trace(Stretch(), torch.ones(1, 1, 8, 8)).save(str(path))
    with pytest.raises(WeightsError, match=r"TorchScript.*torch\.onnx\.export"):
        xdemsr.load_model(path)


@pytest.mark.parametrize("name", ["m.pt2", "m.pt"])
def test_exported_programs_are_refused(tmp_path: Path, name: str) -> None:
    program = torch.export.export(Stretch(), (torch.ones(1, 1, 8, 8),))
    torch.export.save(program, tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(tmp_path / name)
    way = rf"convert\(torch\.export\.load\('{name}'\), out\)"
    for refused in (
        lambda: xdemsr.load_model(tmp_path / name),
        lambda: xdemsr.convert(tmp_path / name, tmp_path / "ours.safetensors"),
    ):
        with pytest.raises(WeightsError, match=r"torch\.export program.*" + way):
            refused()


# ONNX


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of one and of three channels, of any size, of one size, and in two files."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    dynamic = torch.export.Dim.DYNAMIC
    free = ({0: dynamic, 2: dynamic, 3: dynamic},)
    for name, network, channels, side, shapes, outside in (
        ("grey", Stretch, 1, (16, 24), free, False),
        ("colour", Stretch, 3, (16, 24), free, True),
        ("fixed", Stretch, 1, (32, 32), None, False),
        ("global", lambda channels: Global(), 1, (16, 24), free, False),
    ):
        torch.manual_seed(0)
        module = network(channels).eval()
        with warnings.catch_warnings():
            # The exporter is not ours.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (torch.rand(1, channels, *side),),
                dynamo=True,
                dynamic_shapes=shapes,
                verbose=False,
            )
        program.save(folder / f"{name}.onnx", external_data=outside)
        torch.save(module.state_dict(), folder / f"{name}.pt")
    return folder


def stretch(folder: Path, name: str) -> nn.Module:
    network = Stretch(3 if name == "colour" else 1).eval()
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return network


def test_onnx_answers_as_torch(tmp_path: Path, onnx_folder: Path) -> None:
    spec = xdemsr.convert(onnx_folder / "grey.onnx", tmp_path / "ours.safetensors")
    assert (spec.architecture, spec.scale, spec.context) == ("onnx", 2, Local(2))
    raster = image(1, 1.0)[0]
    fine = raster.demsr.upscale(2, spec)
    expected = whole(stretch(onnx_folder, "grey"), raster)[0]
    np.testing.assert_allclose(inside(fine.values, 2, 2), inside(expected, 2, 2), atol=1e-5)


@pytest.mark.parametrize("chunks", [9, {"y": -1, "x": 14}])
@pytest.mark.parametrize("name", ["grey", "fixed"])
def test_onnx_does_not_depend_on_chunks(
    tmp_path: Path, onnx_folder: Path, chunks: Any, name: str
) -> None:
    spec = xdemsr.convert(onnx_folder / f"{name}.onnx", tmp_path / "ours.safetensors")
    raster = image(1, 1.0)[0]
    raster[5:9, 30:33] = np.nan
    fine = raster.demsr.upscale(2, spec)
    lazy = raster.chunk(chunks).demsr.upscale(2, spec, chunks=31)
    np.testing.assert_array_equal(lazy.values, fine.values)
    void = np.isnan(raster.values).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(np.isnan(fine.values), void)


def test_onnx_of_fixed_size_has_windows_of_that_size(tmp_path: Path, onnx_folder: Path) -> None:
    spec = xdemsr.convert(onnx_folder / "fixed.onnx", tmp_path / "ours.safetensors")
    assert spec.context == Windowed(32, 8)
    x = torch.rand(3, 1, 32, 32)
    with torch.inference_mode():
        # Several at once, though the program takes one.
        answer = xdemsr.load_model(spec).module(x)
        torch.testing.assert_close(answer, stretch(onnx_folder, "fixed")(x), rtol=0, atol=1e-5)


def test_networks_that_see_everything_need_a_window(tmp_path: Path, onnx_folder: Path) -> None:
    source, out = onnx_folder / "global.onnx", tmp_path / "ours.safetensors"
    with pytest.raises(ModelError, match="window="):
        xdemsr.convert(source, out)
    assert xdemsr.convert(source, out, window=24).context == Windowed(24, 6)
    fine = image(1, 1.0)[0].demsr.upscale(2, out)
    lazy = image(1, 1.0)[0].chunk(15).demsr.upscale(2, out, chunks=33)
    np.testing.assert_array_equal(lazy.values, fine.values)


def test_onnx_in_two_files_becomes_one(tmp_path: Path, onnx_folder: Path) -> None:
    source = onnx_folder / "colour.onnx"
    assert (onnx_folder / "colour.onnx.data").exists()
    with pytest.raises(WeightsError, match="puts both into one"):
        xdemsr.load_model(source)
    spec = xdemsr.convert(source, tmp_path / "ours.safetensors")
    x = torch.rand(1, 3, 11, 17)
    with torch.inference_mode():
        answer = xdemsr.load_model(spec).module(x)
        torch.testing.assert_close(answer, stretch(onnx_folder, "colour")(x), rtol=0, atol=1e-5)


def test_onnx_programs_read_no_other_file(tmp_path: Path, onnx_folder: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Not even one that would be found from where the process was started."""
    monkeypatch.chdir(onnx_folder)
    with pytest.raises(WeightsError, match=r"External data|cannot get file size"):
        xdemsr.load_model("colour.onnx")


def test_colour_networks_answer_one_band_at_a_time(tmp_path: Path, onnx_folder: Path) -> None:
    spec = xdemsr.convert(
        onnx_folder / "colour.onnx",
        tmp_path / "ours.safetensors",
        inputs=[Band("elevation", "m")],
        value_range=(100.0, 300.0),
    )
    assert len(spec.inputs) == len(spec.outputs) == 1
    x = torch.rand(2, 1, 11, 17)
    theirs = stretch(onnx_folder, "colour")
    with torch.inference_mode():
        answer = xdemsr.load_model(spec).module(100 + 200 * x)
        expected = 100 + 200 * theirs(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
        torch.testing.assert_close(answer, expected, rtol=0, atol=2e-3)
        several = xdemsr.convert(
            onnx_folder / "colour.onnx", tmp_path / "two.safetensors", inputs=["a", "b"]
        )
        both = xdemsr.load_model(several).module(x.reshape(1, 2, 11, 17))
        alone = theirs(x.expand(-1, 3, -1, -1)).mean(1)
        torch.testing.assert_close(both[0], alone, rtol=0, atol=1e-5)


def test_onnx_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch, onnx_folder: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    seen: list[Any] = []
    start = onnxruntime.InferenceSession

    def spy(content: bytes, options: Any, **more: Any) -> Any:
        seen.append(options)
        return start(content, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    xdemsr.load_model(onnx_folder / "grey.onnx")
    assert seen
    assert all(o.intra_op_num_threads == o.inter_op_num_threads == 1 for o in seen)


def graph(path: Path, *inputs: list[Any], number: str = "FLOAT") -> Path:
    """A program that answers with its first input, doubled and as it is."""
    onnx = pytest.importorskip("onnx")
    kind, helper = getattr(onnx.TensorProto, number), onnx.helper
    nodes = [
        helper.make_node("Add", ["in0", "in0"], ["double"]),
        helper.make_node("Identity", ["in0"], ["same"]),
    ]
    ins = [helper.make_tensor_value_info(f"in{i}", kind, s) for i, s in enumerate(inputs)]
    outs = [helper.make_tensor_value_info(name, kind, inputs[0]) for name in ("double", "same")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ins, outs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("inputs", "number", "words"),
    [
        ([[1, 1, 16, 24]], "FLOAT", "one square window"),
        ([[4, 1, 16, 16]], "FLOAT", "one square window at a time"),
        ([["n", 1, "y", "x"], [1]], "FLOAT", "one input"),
        ([["n", 1, "y"]], "FLOAT", "one input"),
        ([["n", 1, "y", "x"]], "INT64", "one input of numbers"),
        ([["n", 2, "y", "x"]], "FLOAT", "takes 2 bands and answers with 2; told were 1"),
    ],
)
def test_onnx_programs_of_other_forms_are_refused(
    tmp_path: Path, inputs: list[Any], number: str, words: str
) -> None:
    path = graph(tmp_path / "g.onnx", *inputs, number=number)
    with pytest.raises(ModelError, match=words):
        xdemsr.convert(path, tmp_path / "ours.safetensors", inputs=["elevation"])


@pytest.mark.parametrize("number", ["FLOAT", "DOUBLE", "FLOAT16"])
def test_one_of_several_outputs_is_chosen(tmp_path: Path, number: str) -> None:
    path = graph(tmp_path / "g.onnx", ["n", "c", "y", "x"], number=number)
    x = torch.arange(15.0).reshape(1, 1, 3, 5)
    for options, factor in (({}, 2), ({"output": "same"}, 1)):
        spec = xdemsr.convert(path, tmp_path / "ours.safetensors", options=options)
        torch.testing.assert_close(xdemsr.load_model(spec).module(x), factor * x)
    with pytest.raises(ModelError, match="no output 'none'"):
        xdemsr.convert(path, tmp_path / "ours.safetensors", options={"output": "none"})


def test_damaged_onnx_is_refused(tmp_path: Path, onnx_folder: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes((onnx_folder / "grey.onnx").read_bytes()[:-500])
    for refused in (
        lambda: xdemsr.load_model(path),
        lambda: xdemsr.convert(path, tmp_path / "ours.safetensors"),
    ):
        with pytest.raises(WeightsError, match="ONNX"):
            refused()


# torch.export


def exported(
    path: Path, network: nn.Module, shape: tuple[int, ...], *free: int
) -> torch.export.ExportedProgram:
    """A program with some of its axes left free, as its user loads it from a file."""
    axes = dict.fromkeys(free, torch.export.Dim.DYNAMIC)
    program = torch.export.export(network, (torch.rand(shape),), dynamic_shapes=(axes,))
    torch.export.save(program, path)
    return torch.export.load(path)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.export.ExportedProgram]:
    """Programs of two bands: of any size, and of one."""
    pytest.importorskip("onnxruntime")
    folder, network = tmp_path_factory.mktemp("exported"), seeded(lambda: Stretch(2, scale=1))
    return {
        "free": exported(folder / "free.pt2", network, (2, 2, 16, 24), 0, 2, 3),
        "fixed": exported(folder / "fixed.pt2", network, (1, 2, 32, 32)),
    }


def pair() -> xr.DataArray:
    """Two bands with a void, 41 x 57."""
    raster = image(2, 1.0)
    raster[:, 5:9, 30:33] = np.nan
    return raster


def test_exported_programs_answer_as_torch(tmp_path: Path, programs: Any) -> None:
    spec = xdemsr.convert(programs["free"], tmp_path / "ours.safetensors")
    assert (spec.name, spec.architecture, spec.context) == ("ours", "onnx", Local(2))
    assert "torch.export" in spec.summary
    raster = image(2, 1.0)
    answer = raster.demsr.apply(tmp_path / "ours.safetensors")
    expected = whole(seeded(lambda: Stretch(2, scale=1)), raster)
    np.testing.assert_allclose(inside(answer.values, 1, 2), inside(expected, 1, 2), atol=1e-5)


def test_exported_programs_of_fixed_size_answer_as_torch(tmp_path: Path, programs: Any) -> None:
    """On windows of that size, blended as those of the bare network are."""
    spec = xdemsr.convert(programs["fixed"], tmp_path / "ours.safetensors", name="mine")
    assert (spec.name, spec.context) == ("mine", Windowed(32, 8))
    bare = replace(
        spec, architecture="checkpoints:Stretch", options={"channels": 2, "scale": 1}, weights=None
    )
    network = seeded(lambda: Stretch(2, scale=1))
    theirs = xdemsr.save_model(network, tmp_path / "theirs.safetensors", bare)
    answer, expected = (pair().demsr.apply(model, precision="fp32") for model in (spec, theirs))
    np.testing.assert_allclose(answer.values, expected.values, atol=1e-5)


@pytest.mark.parametrize("chunks", [9, {"band": -1, "y": -1, "x": 14}])
@pytest.mark.parametrize("name", ["free", "fixed"])
def test_exported_programs_do_not_depend_on_chunks(
    tmp_path: Path, programs: Any, chunks: Any, name: str
) -> None:
    spec = xdemsr.convert(programs[name], tmp_path / "ours.safetensors")
    whole_, lazy = (raster.demsr.apply(spec) for raster in (pair(), pair().chunk(chunks)))
    assert isinstance(lazy.data, da.Array)
    np.testing.assert_array_equal(lazy.values, whole_.values)
    np.testing.assert_array_equal(np.isnan(whole_.values), np.isnan(pair().values))


def test_exported_programs_take_what_is_told(tmp_path: Path, programs: Any) -> None:
    out = tmp_path / "ours.safetensors"
    told = xdemsr.convert(programs["free"], out, inputs=["a", "b"], value_range=(10.0, 30.0))
    x = torch.rand(1, 2, 19, 23)
    with torch.inference_mode():
        answer = xdemsr.load_model(told).module(10 + 20 * x)
        expected = 10 + 20 * seeded(lambda: Stretch(2, scale=1))(x)
    torch.testing.assert_close(answer, expected, rtol=0, atol=2e-4)
    with pytest.raises(ModelError, match=r"torch\.export program is .* told were 1 \(a\)"):
        xdemsr.convert(programs["free"], out, outputs=["a"])
    # A specification says all, and its name stays.
    spec = replace(told, name="whole", weights=None)
    assert xdemsr.convert(programs["free"], out, spec=spec).name == "whole"


@torch.library.custom_op("checkpoints::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    return x.clone()


@unknown.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Untold(nn.Module):
    """Does what ONNX has no operation for."""

    def forward(self, x: Tensor) -> Tensor:
        return unknown(x)


def test_what_onnx_cannot_say_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    program = torch.export.export(Untold(), (torch.rand(1, 1, 16, 16),))
    with pytest.raises(ModelError, match=r"cannot be written as ONNX.*checkpoints\.unknown"):
        xdemsr.convert(program, tmp_path / "ours.safetensors")


def test_other_objects_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found Stretch\..*save_model"):
        xdemsr.convert(Stretch(), tmp_path / "ours.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_packages_that_programs_need_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Any, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}.*pip install 'xdemsr\[onnx\]'"):
        xdemsr.convert(programs["free"], tmp_path / "ours.safetensors")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "spandrel"])
def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_folder: Path, package: str
) -> None:
    path = onnx_folder / "grey.onnx"
    if package == "spandrel":
        path = tmp_path / "theirs.safetensors"
        spec = ModelSpec("m", "spandrel", 2, Local(3))
        save_file({"network.a": torch.ones(1)}, path, metadata={"xdemsr": spec.to_json()})
    monkeypatch.setitem(sys.modules, package, None)
    use = xdemsr.load_model if package == "spandrel" else xdemsr.convert
    out = () if package == "spandrel" else (tmp_path / "ours.safetensors",)
    with pytest.raises(InputError, match=r"pip install 'xdemsr\["):
        use(path, *out)


# spandrel


def esrgan() -> dict[str, Tensor]:
    """A small RRDBNet, as BasicSR and Real-ESRGAN write it."""
    pytest.importorskip("spandrel", exc_type=ImportError)
    module = importlib.import_module("spandrel.architectures.ESRGAN.__arch.RRDB")
    torch.manual_seed(0)
    return module.RRDBNet(num_filters=8, num_blocks=1, scale=4).state_dict()


@pytest.mark.spandrel
def test_spandrel_networks_answer_as_bare_ones(tmp_path: Path) -> None:
    tensors = esrgan()
    import spandrel

    theirs = spandrel.ModelLoader("cpu").load_from_state_dict(tensors).model.eval()
    path = save({"params_ema": tensors}, tmp_path / "esrgan.pth")
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors")
    assert (spec.architecture, spec.scale) == ("spandrel", 4)
    assert isinstance(spec.context, Local)
    raster = image(3, 1.0)
    fine = raster.demsr.upscale(4, tmp_path / "ours.safetensors")
    margin = min(spec.context.halo, 16)
    expected = inside(whole(theirs, raster), 4, margin)
    np.testing.assert_allclose(inside(fine.values, 4, margin), expected, atol=1e-4)
    lazy = raster.chunk(20).demsr.upscale(4, xdemsr.load_model(path), chunks=70)
    np.testing.assert_array_equal(lazy.values, fine.values)


@pytest.mark.spandrel
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_windows_of_transformers_are_kept(tmp_path: Path) -> None:
    """Tiles begin where the windows of its attention do."""
    pytest.importorskip("spandrel", exc_type=ImportError)
    module = importlib.import_module("spandrel.architectures.SwinIR.__arch.SwinIR")
    torch.manual_seed(0)
    theirs = module.SwinIR(
        upscale=2, in_chans=3, img_size=64, window_size=8, img_range=1.0, depths=[2],
        embed_dim=12, num_heads=[2], mlp_ratio=2, upsampler="pixelshuffledirect",
    )  # fmt: skip
    path = save({"params": theirs.state_dict()}, tmp_path / "swinir.pth")
    spec = xdemsr.convert(path, tmp_path / "ours.safetensors")
    assert isinstance(spec.context, Local)
    assert spec.context.multiple_of == 8
    windowed = xdemsr.convert(path, tmp_path / "w.safetensors", context=Windowed(48, 16))
    raster = image(3, 1.0)
    fine = raster.demsr.upscale(2, windowed)
    lazy = raster.chunk(20).demsr.upscale(2, windowed, chunks=33)
    np.testing.assert_array_equal(lazy.values, fine.values)


@pytest.mark.spandrel
def test_spandrel_networks_take_one_band(tmp_path: Path, dem: xr.DataArray) -> None:
    path = save(esrgan(), tmp_path / "esrgan.pth")
    spec = xdemsr.convert(
        path, tmp_path / "m.safetensors", inputs=["elevation"], value_range=(0.0, 2000.0)
    )
    fine = dem.demsr.upscale(4, spec)
    assert fine.shape == (172, 244)
    void = np.isnan(dem.values).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(np.isnan(fine.values), void)
