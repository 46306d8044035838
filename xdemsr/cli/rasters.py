"""Commands that make one raster of another, or compare two."""

from __future__ import annotations

from typing import Any

import click

import xdemsr
from xdemsr.cli.common import (
    SCALE,
    batch_option,
    layout_options,
    main,
    model_option,
    named,
    opened,
    parsed,
    raster_of,
    run_options,
    scale_of,
    scale_option,
    sensor_options,
    stac_options,
    variable_option,
    where_options,
    writes,
)
from xdemsr.spec import STANDARD_ERROR


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=str)
@scale_option
@model_option
@variable_option
@stac_options
@writes
@click.option("--uncertainty", is_flag=True, help="Write each pixel's standard error too (.zarr).")
@layout_options
@where_options
@batch_option
def upscale(
    source: str,
    scale: int | None,
    model: str | None,
    variable: str | None,
    collection: str | None,
    bbox: tuple[float, float, float, float] | None,
    **options: Any,
) -> Any:
    """Divide the pixels of SOURCE and write TARGET (.zarr, or .tif as COG)."""
    raster = raster_of(source, variable, collection, bbox)
    return xdemsr.upscale(raster, scale_of(model, scale), model, **parsed(options))


@main.command("apply")
@click.argument("source", type=str)
@click.argument("target", type=str)
@click.option("--model", required=True, help="Name or .safetensors file.")
@variable_option
@writes
@layout_options
@where_options
@batch_option
def apply_(
    source: str,
    model: str,
    variable: str | None,
    **options: Any,
) -> Any:
    """Run any model over SOURCE and write TARGET (.zarr, or .tif as COG)."""
    raster = opened(source, variable)
    return xdemsr.apply(raster, model, **parsed(options))


@main.command()
@click.argument("source", type=str)
@scale_option
@model_option
@variable_option
@stac_options
@click.option("--uncertainty", is_flag=True, help="With each pixel's standard error.")
@click.option(
    "--calibrate", is_flag=True, help="Try it for five seconds, to say how long it takes."
)
@layout_options
@where_options
def plan(
    source: str,
    scale: int | None,
    model: str | None,
    variable: str | None,
    collection: str | None,
    bbox: tuple[float, float, float, float] | None,
    **options: Any,
) -> None:
    """Say what 'upscale' would do: sizes, tiles, tasks, operations, memory."""
    raster = raster_of(source, variable, collection, bbox)
    click.echo(str(xdemsr.plan(raster, scale_of(model, scale), model, **parsed(options))))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=str)
@click.option("--guide", "guides", multiple=True, help="NAME=RASTER; may be given several times.")
@click.option("--model", default=None, help="Name or .safetensors file. [default: a shipped one]")
@variable_option
@writes
@run_options
@where_options
@batch_option
def refine(
    source: str,
    guides: tuple[str, ...],
    model: str | None,
    variable: str | None,
    **options: Any,
) -> Any:
    """Refine the surface model SOURCE with guides beside it and write TARGET.

    Guides may be on any grid. One of three bands without names is taken for red, green and blue.
    """
    found = {name: opened(path) for name, path in map(named, guides)}
    raster = xdemsr.open(source, variable)
    return xdemsr.refine(raster, model, guides=found, **parsed(options))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=str)
@click.option("--model", required=True, help="Name or .safetensors file.")
@click.option("--anchor", default=None, help="A coarser DEM whose heights are kept.")
@variable_option
@writes
@run_options
@where_options
@batch_option
def elevation(
    source: str,
    model: str,
    anchor: str | None,
    variable: str | None,
    **options: Any,
) -> Any:
    """Write elevations made from the image SOURCE: relative ones, or anchored to a coarser DEM."""
    coarse = None if anchor is None else xdemsr.open(anchor)
    return xdemsr.elevation(opened(source, variable), model, anchor=coarse, **parsed(options))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=str)
@click.option("--model", required=True, help="Name or .safetensors file.")
@variable_option
@writes
@run_options
@where_options
@batch_option
def imagery(
    source: str,
    model: str,
    variable: str | None,
    **options: Any,
) -> Any:
    """Write imagery that the elevations SOURCE may have."""
    raster = xdemsr.open(source, variable)
    return xdemsr.imagery(raster, model, **parsed(options))


@main.command()
@click.argument("source", type=str)
@click.argument("target", type=str)
@click.option("--scale", type=int, default=SCALE, show_default=True)
@sensor_options
@variable_option
@writes
def degrade(source: str, scale: int, variable: str | None, **options: Any) -> Any:
    """Write how a coarse sensor would have seen SOURCE."""
    raster = xdemsr.open(source, variable)
    return xdemsr.degrade(raster, scale, **options)


@main.command()
@click.argument("store", type=str)
@click.option("--verify", is_flag=True, help="Read all that is there, too.")
def missing(store: str, verify: bool) -> None:
    """Say what is left to be written of STORE."""
    left = xdemsr.missing(store, verify=verify)
    for array, where in left:
        click.echo(f"{array} " + ", ".join(f"{part.start}:{part.stop}" for part in where))
    click.echo(f"{len(left)} regions are missing")


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
@click.argument("target", type=str)
@click.option("--azimuth", type=float, default=315.0, show_default=True)
@click.option("--altitude", type=float, default=45.0, show_default=True)
@click.option("--exaggeration", type=float, default=1.0, show_default=True)
@variable_option
@writes
def hillshade(
    source: str,
    azimuth: float,
    altitude: float,
    exaggeration: float,
    variable: str | None,
) -> Any:
    """Write the hillshade of SOURCE."""
    raster = xdemsr.open(source, variable)
    return xdemsr.hillshade(raster, azimuth=azimuth, altitude=altitude, exaggeration=exaggeration)
