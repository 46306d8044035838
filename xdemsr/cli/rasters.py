"""Commands that make one raster of another, or compare two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import xdemsr
from xdemsr.cli.common import (
    SCALE,
    TARGET,
    batch_option,
    layout_options,
    main,
    model_option,
    named,
    opened,
    overwrite_option,
    parsed,
    run_options,
    scale_of,
    scale_option,
    sensor_options,
    variable_option,
    where_options,
    write_out,
)
from xdemsr.spec import STANDARD_ERROR


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@scale_option
@model_option
@variable_option
@overwrite_option
@click.option("--uncertainty", is_flag=True, help="Write each pixel's standard error too (.zarr).")
@layout_options
@where_options
@batch_option
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
    write_out(
        xdemsr.upscale(raster, scale_of(model, scale), model, **parsed(options)),
        target,
        overwrite,
    )


@main.command("apply")
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@click.option("--model", required=True, help="Name or .safetensors file.")
@variable_option
@overwrite_option
@layout_options
@where_options
@batch_option
def apply_(
    source: str,
    target: Path,
    model: str,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Run any model over SOURCE and write TARGET (.zarr, or .tif as COG)."""
    raster = opened(source, variable)
    write_out(xdemsr.apply(raster, model, **parsed(options)), target, overwrite)


@main.command()
@click.argument("source", type=str)
@scale_option
@model_option
@variable_option
@click.option("--uncertainty", is_flag=True, help="With each pixel's standard error.")
@layout_options
def plan(
    source: str, scale: int | None, model: str | None, variable: str | None, **options: Any
) -> None:
    """Say what 'upscale' would do: sizes, tiles, tasks, operations, memory."""
    raster = xdemsr.open(source, variable)
    click.echo(str(xdemsr.plan(raster, scale_of(model, scale), model, **parsed(options))))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@click.option("--guide", "guides", multiple=True, help="NAME=RASTER; may be given several times.")
@click.option("--model", default=None, help="Name or .safetensors file. [default: a shipped one]")
@variable_option
@overwrite_option
@run_options
@where_options
@batch_option
def refine(
    source: str,
    target: Path,
    guides: tuple[str, ...],
    model: str | None,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Refine the surface model SOURCE with guides beside it and write TARGET.

    Guides may be on any grid. One of three bands without names is taken for red, green and blue.
    """
    found = {name: opened(path) for name, path in map(named, guides)}
    raster = xdemsr.open(source, variable)
    write_out(xdemsr.refine(raster, model, guides=found, **parsed(options)), target, overwrite)


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@click.option("--model", required=True, help="Name or .safetensors file.")
@click.option("--anchor", default=None, help="A coarser DEM whose heights are kept.")
@variable_option
@overwrite_option
@run_options
@where_options
@batch_option
def elevation(
    source: str,
    target: Path,
    model: str,
    anchor: str | None,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write elevations made from the image SOURCE: relative ones, or anchored to a coarser DEM."""
    coarse = None if anchor is None else xdemsr.open(anchor)
    answer = xdemsr.elevation(opened(source, variable), model, anchor=coarse, **parsed(options))
    write_out(answer, target, overwrite)


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@click.option("--model", required=True, help="Name or .safetensors file.")
@variable_option
@overwrite_option
@run_options
@where_options
@batch_option
def imagery(
    source: str,
    target: Path,
    model: str,
    variable: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write imagery that the elevations SOURCE may have."""
    raster = xdemsr.open(source, variable)
    write_out(xdemsr.imagery(raster, model, **parsed(options)), target, overwrite)


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=TARGET)
@click.option("--scale", type=int, default=SCALE, show_default=True)
@sensor_options
@variable_option
@overwrite_option
def degrade(
    source: str, target: Path, scale: int, variable: str | None, overwrite: bool, **options: Any
) -> None:
    """Write how a coarse sensor would have seen SOURCE."""
    raster = xdemsr.open(source, variable)
    write_out(xdemsr.degrade(raster, scale, **options), target, overwrite)


@main.command()
@click.argument("source", type=str)
@click.argument("reference", type=str)
@click.option("--standard-error", default=None, help="A raster or store of it.")
@variable_option
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
@click.argument("target", type=TARGET)
@click.option("--azimuth", type=float, default=315.0, show_default=True)
@click.option("--altitude", type=float, default=45.0, show_default=True)
@click.option("--exaggeration", type=float, default=1.0, show_default=True)
@variable_option
@overwrite_option
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
    write_out(shade, target, overwrite)
