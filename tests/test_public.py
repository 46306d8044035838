"""The public face: names, signatures, words."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import xarray as xr

import xdemsr
from xdemsr.accessor import DataArrayAccessor, DatasetAccessor

METHODS = [
    (accessor, name)
    for accessor in (DataArrayAccessor, DatasetAccessor)
    for name, member in inspect.getmembers(accessor, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("accessor", "name"), METHODS)
def test_methods_have_the_signature_of_their_function(accessor: type, name: str) -> None:
    function = inspect.signature(getattr(xdemsr, name))
    method = inspect.signature(getattr(accessor, name))
    _, *rest = function.parameters.values()
    _, *own = method.parameters.values()
    assert own == rest
    assert method.return_annotation == function.return_annotation


@pytest.mark.parametrize(("accessor", "name"), METHODS)
def test_methods_are_a_docstring_and_one_call(accessor: type, name: str) -> None:
    source = inspect.getsource(getattr(accessor, name))
    (function,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(function, ast.FunctionDef)
    document, imported, returned = function.body
    assert isinstance(document, ast.Expr)
    assert isinstance(imported, ast.ImportFrom)
    assert isinstance(returned, ast.Return)


@pytest.mark.parametrize(("accessor", "name"), METHODS)
def test_methods_are_described_in_full(accessor: type, name: str) -> None:
    method = getattr(accessor, name)
    for section in ("Returns", "See Also", "Examples"):
        assert f"        {section}\n        ---" in method.__doc__
    for parameter in list(inspect.signature(method).parameters)[1:]:
        assert parameter in method.__doc__


@pytest.mark.parametrize("name", xdemsr.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    member = getattr(xdemsr, name)
    assert member.__doc__
    if inspect.isfunction(member) and name not in ("open", "write_cog", "write_zarr"):
        assert "Examples\n" in member.__doc__
        assert "Returns\n" in member.__doc__


def test_no_module_hides_a_public_name() -> None:
    for path in Path(xdemsr.__file__).parent.glob("*.py"):
        if path.stem in xdemsr.__all__:
            assert inspect.ismodule(getattr(xdemsr, path.stem)), path


def test_functions_take_the_object_first() -> None:
    for name in ("upscale", "apply", "plan", "degrade", "evaluate", "benchmark", "hillshade"):
        assert next(iter(inspect.signature(getattr(xdemsr, name)).parameters)) == "obj"


def test_importing_is_light() -> None:
    code = """
import sys
import xarray, rioxarray, dask.array
before = set(sys.modules)
import xdemsr
heavy = {"torch", "matplotlib", "skimage", "lightning", "distributed", "safetensors"}
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not heavy & new, heavy & new
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tensor_wing_stands_alone() -> None:
    """A machine that only trains may have no xarray, dask, rioxarray or odc-geo."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("xarray", "rioxarray", "dask", "odc", "rasterio"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, Absent())
import torch
import xdemsr
from xdemsr.models.terrain import Terrain
from xdemsr.training.patches import PatchSampler
from xdemsr.training.places import Raster
from xdemsr.training.validation import Validation
assert not hasattr(xdemsr, "nothing")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_both_accessors_are_registered() -> None:
    assert isinstance(xr.DataArray().demsr, DataArrayAccessor)
    assert isinstance(xr.Dataset().demsr, DatasetAccessor)


def test_no_assert_outside_tests() -> None:
    for path in Path(xdemsr.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path
