"""The command line: parses, calls public functions, prints. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import xdemsr
from xdemsr.catalog import find
from xdemsr.errors import XdemsrError
from xdemsr.io import write
from xdemsr.kernels import KERNELS
from xdemsr.spec import STANDARD_ERROR

_TARGET = click.Path(path_type=Path)
_SCALE = 16


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_variable = click.option("--variable", default=None, help="Of a store with several.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace TARGET.")
_scale = click.option("--scale", type=int, default=None, help="[default: the model's own, else 16]")
_model = click.option(
    "--model", default=None, help="Name or .safetensors file. [default: the shipped terrain model]"
)
_layout = _options(
    click.option(
        "--vertical-error",
        default="auto",
        show_default=True,
        help="Standard error of the input elevations, or 'auto'.",
    ),
    click.option("--ensemble", is_flag=True, help="Average eight flips and rotations."),
    click.option(
        "--chunks",
        default="auto",
        show_default=True,
        help="Size of the answer's chunks in its own pixels: 2048, or 2048,4096 (y, x).",
    ),
)
_where = _options(
    click.option("--device", default="auto", show_default=True),
    click.option(
        "--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16."
    ),
)
_sensor = _options(
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
_batch = click.option("--batch-size", default="auto", show_default=True, help="Tiles for a GPU.")


class _Group(click.Group):
    """Errors of the library are messages, not tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (XdemsrError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(xdemsr.__version__, prog_name="xdemsr")
def main() -> None:
    """Trained networks over terrain and imagery of any size."""


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=_TARGET)
@_scale
@_model
@_variable
@_overwrite
@click.option("--uncertainty", is_flag=True, help="Write each pixel's standard error too (.zarr).")
@_layout
@_where
@_batch
def upscale(
    source: str,
    target: Path,
    scale: int | None,
    model: str | None,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Divide the pixels of SOURCE and write TARGET (.zarr, or .tif as COG)."""
    raster = xdemsr.open(source, variable)
    _write(
        xdemsr.upscale(raster, _scale_of(model, scale), model, **_parsed(options)),
        target,
        overwrite,
    )


@main.command("apply")
@click.argument("source", type=str)
@click.argument("target", type=_TARGET)
@click.option("--model", required=True, help="Name or .safetensors file.")
@_variable
@_overwrite
@_layout
@_where
@_batch
def apply_(
    source: str,
    target: Path,
    model: str,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Run any model over SOURCE and write TARGET (.zarr, or .tif as COG)."""
    raster = xdemsr.open(source, variable)
    _write(xdemsr.apply(raster, model, **_parsed(options)), target, overwrite)


@main.command()
@click.argument("source", type=str)
@_scale
@_model
@_variable
@click.option("--uncertainty", is_flag=True, help="With each pixel's standard error.")
@_layout
def plan(
    source: str, scale: int | None, model: str | None, variable: str | None, **options: Any
) -> None:
    """Say what 'upscale' would do: sizes, tiles, tasks, operations, memory."""
    raster = xdemsr.open(source, variable)
    click.echo(str(xdemsr.plan(raster, _scale_of(model, scale), model, **_parsed(options))))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=_TARGET)
@click.option("--scale", type=int, default=_SCALE, show_default=True)
@_sensor
@_variable
@_overwrite
def degrade(
    source: str, target: Path, scale: int, variable: str | None, overwrite: bool, **options: Any
) -> None:
    """Write how a coarse sensor would have seen SOURCE."""
    raster = xdemsr.open(source, variable)
    _write(xdemsr.degrade(raster, scale, **options), target, overwrite)


@main.command()
@click.argument("source", type=str)
@click.argument("reference", type=str)
@click.option("--standard-error", default=None, help="A raster or store of it.")
@_variable
def evaluate(source: str, reference: str, standard_error: str | None, variable: str | None) -> None:
    """Compare SOURCE with REFERENCE, on the same grid."""
    # In the store that 'upscale --uncertainty' writes it is called after the elevations.
    named = f"{variable}_{STANDARD_ERROR}" if variable else None
    predicted = None if standard_error is None else xdemsr.open(standard_error, named)
    scores = xdemsr.evaluate(
        xdemsr.open(source, variable),
        xdemsr.open(reference, variable),
        standard_error=predicted,
    )
    click.echo(scores.round(4).to_string())


@main.command()
@click.argument("source", type=str)
@click.option("--scale", type=int, default=_SCALE, show_default=True)
@click.option("--model", "models", multiple=True, help="May be given several times.")
@click.option(
    "--protocol",
    default="continuous",
    show_default=True,
    help="continuous (the raster whole), or isolated (tiles, each restored alone).",
)
@click.option("--tile", type=int, default=25, show_default=True, help="Of isolated; source pixels.")
@_sensor
@_variable
@_where
def benchmark(
    source: str, scale: int, models: tuple[str, ...], variable: str | None, **options: Any
) -> None:
    """Degrade SOURCE, restore it with each model, and print the scores."""
    raster = xdemsr.open(source, variable)
    table = xdemsr.benchmark(raster, scale, list(models) or None, **options)
    click.echo(table.round(3).to_string())


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=_TARGET)
@click.option("--azimuth", type=float, default=315.0, show_default=True)
@click.option("--altitude", type=float, default=45.0, show_default=True)
@click.option("--exaggeration", type=float, default=1.0, show_default=True)
@_variable
@_overwrite
def hillshade(
    source: str,
    target: Path,
    azimuth: float,
    altitude: float,
    exaggeration: float,
    variable: str | None,
    overwrite: bool,
) -> None:
    """Write the hillshade of SOURCE."""
    raster = xdemsr.open(source, variable)
    shade = xdemsr.hillshade(raster, azimuth=azimuth, altitude=altitude, exaggeration=exaggeration)
    _write(shade, target, overwrite)


@main.command()
def models() -> None:
    """List the models that can be named."""
    click.echo(xdemsr.list_models().to_string())


@main.command()
@click.argument("recipe")
@click.argument("target", type=_TARGET)
@click.option("--train", default=None, help="Folder of bare-earth GeoTIFFs to learn from.")
@click.option("--validation", default=None, help="Folder of those that choose among the weights.")
@click.option("--extra", default=None, help="Folder of coarser rasters, for variety.")
@click.option("--start", default=None, help="Model file whose weights training starts from.")
@click.option("--steps", type=int, default=None, help="Instead of the recipe's.")
@click.option("--minutes", type=float, default=None, help="Stop after so long.")
@click.option("--licence", default=None, help="Of the weights, following the data's.")
@click.option("--folder", type=_TARGET, default=None, help="Of checkpoints and logs.")
def train(recipe: str, target: Path, folder: Path | None, **options: Any) -> None:
    """Train by RECIPE (a shipped name, or a .toml file) and write the model to TARGET.

    A run that was killed goes on where it was when it is started again.
    """
    asked = xdemsr.training.Recipe.find(recipe).replaced(**_changes(options))
    spec = xdemsr.train(asked, target, folder=folder)
    for name, value in spec.training["scores"].items():
        click.echo(f"{name:40} {value:.3f}")


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME."""
    for known in xdemsr.training.shipped_recipes() if name is None else ():
        click.echo(known)
    if name is not None:
        click.echo(xdemsr.training.Recipe.text(name), nl=False)


@main.command()
@click.argument("folder", type=_TARGET, default="xdemsr-demo")
def demo(folder: Path) -> None:
    """Upscale a real DEM x16 into FOLDER: Zarr, COG, picture, scores."""
    from xdemsr.demo import run_demo

    run_demo(folder, click.echo)


def _changes(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the options of 'train' change in a recipe."""
    parts = {
        "data": ("train", "validation", "extra"),
        "model": ("start", "licence"),
        "run": ("steps", "minutes"),
    }
    return {
        part: {key: options[key] for key in keys if options[key] is not None}
        for part, keys in parts.items()
    }


def _parsed(options: dict[str, Any]) -> dict[str, Any]:
    """Numbers where the library wants numbers; words stay words, for the library to judge."""
    return {name: _number(value) for name, value in options.items()}


def _scale_of(model: str | None, scale: int | None) -> int:
    """The scale that is asked for, else that of the model, where it has one."""
    if scale is not None:
        return scale
    return _SCALE if model is None or model in KERNELS else find(model).scale


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


def _write(raster: Any, target: Path, overwrite: bool) -> None:
    click.echo(f"wrote {write(raster, target, overwrite=overwrite)}")
