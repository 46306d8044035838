"""Weight files: what is opened, what is refused, what is written."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from networks import Blur
from safetensors.torch import save_file

import xdemsr
from xdemsr import Local, ModelSpec, Windowed
from xdemsr.errors import ModelError, WeightsError
from xdemsr.models.edsr import EDSR

SPEC = ModelSpec(
    name="edsr-test",
    architecture="edsr",
    scale=2,
    context=Local(7),
    options={"scale": 2, "blocks": 1, "features": 8},
    training={"data": ["somewhere"], "scores": {"clean": 0.9}},
    licence="CC-BY-4.0",
)


def edsr() -> EDSR:
    torch.manual_seed(0)
    return EDSR(2, blocks=1, features=8)


def test_saved_and_loaded_models_are_one(tmp_path: Path) -> None:
    module = edsr().eval()
    spec = xdemsr.save_model(module, tmp_path / "m.safetensors", SPEC)
    assert spec.weights is not None
    assert spec.flops > 0
    assert spec.training == SPEC.training
    loaded = xdemsr.load_model(tmp_path / "m.safetensors")
    assert loaded.spec == spec
    assert loaded.parameters == sum(p.numel() for p in module.parameters())
    x = torch.randn(1, 1, 9, 11)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(x), module(x))
    assert not loaded.module.training
    assert "edsr-test" in repr(loaded)


def test_a_users_class_is_found_by_import_path(
    make_model: Callable[..., Path], dem: xr.DataArray
) -> None:
    path = make_model("blur", "networks:Blur", 2, Local(2, tile=9))
    assert isinstance(xdemsr.load_model(path).module, Blur)
    assert dem.demsr.upscale(2, path).shape == (86, 122)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_plain_state_dicts_are_read_when_said_what_they_are(tmp_path: Path, suffix: str) -> None:
    module = edsr().eval()
    path = tmp_path / f"m{suffix}"
    torch.save(module.state_dict(), path)
    loaded = xdemsr.load_model(path, spec=SPEC)
    x = torch.randn(1, 1, 9, 11)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(x), module(x))
    saved = xdemsr.save_model(loaded, tmp_path / "converted.safetensors")
    assert saved.name == "edsr-test"


def test_bare_safetensors_need_a_specification(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(edsr().state_dict(), path)
    with pytest.raises(WeightsError, match="without a specification"):
        xdemsr.load_model(path)
    assert xdemsr.load_model(path, spec=SPEC).spec.name == "edsr-test"


class Boobytrap:
    """A pickle that would leave a file behind."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (exec, ("open('sprung', 'w').close()",))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Boobytrap()))


def torch_pickled(path: Path) -> None:
    torch.save({"weight": torch.ones(2), "extra": Boobytrap()}, path)


def whole_module(path: Path) -> None:
    torch.save(edsr(), path)


def nested(path: Path) -> None:
    torch.save({"settings": {"blocks": torch.ones(1)}}, path)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", pickle.dumps(Boobytrap()))


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(1000))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "make", [pickled, torch_pickled, whole_module, nested, archive, noise, empty]
)
@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.safetensors", "m.pkl", "m.bin"])
def test_what_could_run_code_is_refused(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(WeightsError):
        xdemsr.load_model(path, spec=SPEC)
    assert not Path("sprung").exists()


def test_headers_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}" * 10)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        xdemsr.load_model(path)
    path.write_bytes((2).to_bytes(8, "little") + b"[]" + b"0" * 10)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        xdemsr.load_model(path)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Blur().state_dict(), path)
    with pytest.raises(ModelError, match="do not fit 'edsr'"):
        xdemsr.load_model(path, spec=SPEC)


def test_false_contexts_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="declares a halo of 2 px"):
        xdemsr.save_model(
            edsr(),
            tmp_path / "m.safetensors",
            ModelSpec("m", "edsr", 2, Local(2), options=SPEC.options),
        )
    assert not (tmp_path / "m.safetensors").exists()


def test_false_contexts_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    spec = ModelSpec("m", "networks:Blur", 2, Local(1))
    tensors = Blur().state_dict()
    save_file(tensors, path, metadata={"xdemsr": spec.to_json()})
    with pytest.raises(ModelError, match="declares a halo of 1 px"):
        xdemsr.load_model(path)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda p: xdemsr.save_model(edsr(), p / "m.safetensors"), "needs its specification"),
        (lambda p: xdemsr.save_model(edsr(), p / "m.pt", SPEC), "written as .safetensors"),
        (lambda p: xdemsr.save_model(Blur(), p / "m.safetensors", SPEC), "do not fit"),
    ],
)
def test_models_that_could_not_be_read_back_are_not_saved(
    tmp_path: Path, save: Callable[[Path], object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_windowed_models_keep_their_window(tmp_path: Path) -> None:
    spec = ModelSpec("m", "effnetv2_dem", 16, Windowed(25, 6), options={"groups": [[8, 1, 1]]})
    from xdemsr.models import build

    saved = xdemsr.save_model(build(spec), tmp_path / "m.safetensors", spec)
    assert saved.context == Windowed(25, 6)
    assert xdemsr.load_model(tmp_path / "m.safetensors").spec.context == Windowed(25, 6)


def test_half_a_file_is_refused_before_it_is_needed(tmp_path: Path, dem: xr.DataArray) -> None:
    path = tmp_path / "m.safetensors"
    xdemsr.save_model(edsr(), path, SPEC)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not complete"):
        xdemsr.load_model(path)
    with pytest.raises(WeightsError, match="not complete"):
        dem.chunk(20).demsr.upscale(2, path)


def test_saving_teaches_a_network_nothing(tmp_path: Path) -> None:
    """A network that is still in training mode must not learn from what is used to count."""
    network = EDSR(**{**SPEC.options, "norm_after_shuffle": True}).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    spec = replace(SPEC, options={**SPEC.options, "norm_after_shuffle": True})
    saved = xdemsr.save_model(network, tmp_path / "m.safetensors", spec)
    assert network.training
    loaded = xdemsr.load_model(saved).module.state_dict()
    for name, value in before.items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
        torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no folder"):
        xdemsr.save_model(edsr(), tmp_path / "nowhere" / "m.safetensors", SPEC)


def test_a_model_without_weights_is_not_run(dem: xr.DataArray) -> None:
    spec = replace(SPEC, options={"scale": 2, "blocks": 1, "features": 8})
    for model in (spec, xdemsr.Model(spec, edsr())):
        with pytest.raises(ModelError, match="names no weights"):
            dem.demsr.upscale(2, model)


def test_other_options_are_another_model(tmp_path: Path, dem: xr.DataArray) -> None:
    saved = xdemsr.save_model(edsr(), tmp_path / "m.safetensors", SPEC)
    other = replace(saved, options={**saved.options, "residual_scale": 5.0})
    lazy = [dem.chunk(20).demsr.upscale(2, spec) for spec in (saved, other)]
    assert lazy[0].data.name != lazy[1].data.name
    assert not np.array_equal(*(answer.values for answer in lazy), equal_nan=True)


def test_a_network_that_would_not_come_back_is_not_saved(tmp_path: Path) -> None:
    other = EDSR(**{**SPEC.options, "residual_scale": 9.0})
    with pytest.raises(ModelError, match="give different answers"):
        xdemsr.save_model(other, tmp_path / "m.safetensors", SPEC)
    wrong = replace(SPEC, scale=4, context=Windowed(16, 4))
    with pytest.raises(ModelError, match="does not fit"):
        xdemsr.save_model(edsr(), tmp_path / "m.safetensors", wrong)


def test_the_librarys_own_architectures_must_be_true_too(tmp_path: Path) -> None:
    torch.save(edsr().state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match="declares a halo of 1 px"):
        xdemsr.load_model(tmp_path / "m.pt", spec=replace(SPEC, context=Local(1)))


def test_newer_headers_say_so() -> None:
    text = SPEC.to_json().replace('"format": 3', '"format": 99')
    with pytest.raises(ModelError, match="newer xdemsr"):
        ModelSpec.from_json(text)
