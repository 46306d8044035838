"""What the commands share: the group, options, and how answers are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
import xarray as xr

import xdemsr
from xdemsr.bands import band_names
from xdemsr.catalog import find
from xdemsr.errors import InputError, XdemsrError
from xdemsr.io import write
from xdemsr.kernels import KERNELS

#: What three and four bands without names are taken for.
COLOURS = {3: ["red", "green", "blue"], 4: ["red", "green", "blue", "nir"]}

TARGET = click.Path(path_type=Path)
SCALE = 16


def several(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


variable_option = click.option("--variable", default=None, help="Of a source with several.")
stac_options = several(
    click.option("--collection", default=None, help="SOURCE is a STAC: of this collection there."),
    click.option(
        "--bbox",
        type=float,
        nargs=4,
        default=None,
        metavar="WEST SOUTH EAST NORTH",
        help="In degrees: what is taken from a STAC.",
    ),
)
scale_option = click.option(
    "--scale", type=int, default=None, help="[default: the model's own, else 16]"
)
model_option = click.option(
    "--model", default=None, help="Name or .safetensors file. [default: the shipped terrain model]"
)
run_options = several(
    click.option("--ensemble", is_flag=True, help="Average eight flips and rotations."),
    click.option(
        "--chunks",
        default="auto",
        show_default=True,
        help="Size of the answer's chunks in its own pixels: 2048, or 2048,4096 (y, x).",
    ),
)
layout_options = several(
    click.option(
        "--vertical-error",
        default="auto",
        show_default=True,
        help="Standard error of the input elevations, or 'auto'.",
    ),
    run_options,
)
where_options = several(
    click.option("--device", default="auto", show_default=True),
    click.option(
        "--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16."
    ),
)
sensor_options = several(
    click.option(
        "--sampling", default="mean", show_default=True, help="mean, gaussian, bilinear or nearest."
    ),
    click.option(
        "--fwhm", type=float, default=1.0, show_default=True, help="Of gaussian; coarse pixels."
    ),
    click.option("--mtf", type=float, default=None, help="Or its contrast at Nyquist, 0 to 1."),
    click.option("--noise", type=float, default=0.0, show_default=True),
    click.option("--stripes", type=float, default=0.0, show_default=True),
    click.option("--step", type=float, default=0.0, show_default=True),
    click.option("--seed", type=int, default=0, show_default=True),
)
batch_option = click.option(
    "--batch-size", default="auto", show_default=True, help="Tiles for a GPU."
)


class Group(click.Group):
    """Errors of the library are messages, not tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (XdemsrError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(xdemsr.__version__, prog_name="xdemsr")
def main() -> None:
    """Trained networks over terrain and imagery of any size."""


def named(text: str) -> tuple[str, str]:
    """The two parts of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
    return name, value


def opened(path: str, variable: str | None = None) -> xr.DataArray:
    """A raster whose bands have names: its own, or those of colours where it has none."""
    raster = xdemsr.open(path, variable)
    if "band" not in raster.dims:
        return raster
    names = band_names(raster, "band") or COLOURS.get(raster.sizes["band"])
    return raster if names is None else raster.assign_coords(band=names)


def raster_of(
    source: str,
    variable: str | None,
    collection: str | None,
    bbox: tuple[float, float, float, float] | None,
) -> Any:
    """A raster, or what a STAC has of a collection at a place."""
    if collection is not None:
        return xdemsr.open_stac(source, collection, bbox=bbox, bands=variable)
    if bbox is not None:
        raise InputError("--bbox is for a STAC; say --collection too.")
    return xdemsr.open(source, variable)


def parsed(options: dict[str, Any]) -> dict[str, Any]:
    """Numbers where the library wants numbers; words stay words, for the library to judge."""
    return {name: _number(value) for name, value in options.items()}


def scale_of(model: str | None, scale: int | None) -> int:
    """The scale that is asked for, else that of the model, where it has one."""
    if scale is not None:
        return scale
    return SCALE if model is None or model in KERNELS else find(model).scale


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "," in value:
        return tuple(_number(part) for part in value.split(","))
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def writes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose answer is written to TARGET, by a cluster where one is named."""

    @wraps(function)
    def command(
        *,
        target: str,
        overwrite: bool,
        resume: bool,
        overviews: bool,
        scheduler: str | None,
        dtype: str | None,
        scale_factor: float,
        **options: Any,
    ) -> None:
        how = {"overwrite": overwrite, "resume": resume, "overviews": overviews}
        with _cluster(scheduler):
            answer = function(**options)
            if dtype is not None:
                answer = xdemsr.pack(answer, dtype, scale_factor)
            click.echo(f"wrote {write(answer, target, **how)}")

    decorated: Callable[..., Any] = several(
        click.option("--overwrite", is_flag=True, help="Replace TARGET."),
        click.option("--resume", is_flag=True, help="Go on with an unfinished TARGET (.zarr)."),
        click.option("--overviews", is_flag=True, help="In a store too; a COG always has them."),
        click.option("--dtype", default=None, help="Store whole numbers: int16, uint16, ..."),
        click.option("--scale-factor", type=float, default=1.0, help="In steps of this."),
        click.option(
            "--scheduler", default=None, help="Of a Dask cluster: tcp://..., or its .json file."
        ),
    )(command)
    return decorated


@contextmanager
def _cluster(scheduler: str | None) -> Iterator[None]:
    """A client of a cluster, if one is named."""
    if scheduler is None:
        yield
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise InputError(
            "--scheduler needs the package distributed: pip install 'xdemsr[cluster]'."
        ) from error
    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    with Client(**where):
        yield
