"""Commands about models: listed, compared, trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import xdemsr
from xdemsr.cli.common import (
    SCALE,
    TARGET,
    main,
    sensor_options,
    variable_option,
    where_options,
)


@main.command()
@click.argument("source", type=str)
@click.option("--scale", type=int, default=SCALE, show_default=True)
@click.option("--model", "models", multiple=True, help="May be given several times.")
@click.option(
    "--protocol",
    default="continuous",
    show_default=True,
    help="continuous (the raster whole), or isolated (tiles, each restored alone).",
)
@click.option("--tile", type=int, default=25, show_default=True, help="Of isolated; source pixels.")
@sensor_options
@variable_option
@where_options
def benchmark(
    source: str, scale: int, models: tuple[str, ...], variable: str | None, **options: Any
) -> None:
    """Degrade SOURCE, restore it with each model, and print the scores."""
    raster = xdemsr.open(source, variable)
    table = xdemsr.benchmark(raster, scale, list(models) or None, **options)
    click.echo(table.round(3).to_string())


@main.command()
def models() -> None:
    """List the models that can be named."""
    click.echo(xdemsr.list_models().to_string())


@main.command()
@click.argument("recipe")
@click.argument("target", type=TARGET)
@click.option("--train", default=None, help="Folder to learn from.")
@click.option("--validation", default=None, help="Folder that chooses among the weights.")
@click.option("--extra", default=None, help="Folder of coarser rasters, for variety.")
@click.option("--start", default=None, help="Model file whose weights training starts from.")
@click.option("--steps", type=int, default=None, help="Instead of the recipe's.")
@click.option("--minutes", type=float, default=None, help="Stop after so long.")
@click.option("--licence", default=None, help="Of the weights, following the data's.")
@click.option("--folder", type=TARGET, default=None, help="Of checkpoints and logs.")
def train(recipe: str, target: Path, folder: Path | None, **options: Any) -> None:
    """Train by RECIPE (a shipped name, or a .toml file) and write the model to TARGET.

    A run that was killed goes on where it was when it is started again.
    """
    asked = xdemsr.training.Recipe.find(recipe).replaced(**_changes(options))
    spec = xdemsr.train(asked, target, folder=folder)
    for name, value in spec.training["scores"].items():
        click.echo(f"{name:40} {value:.4g}")


@main.command()
@click.argument("source", type=TARGET)
@click.argument("target", type=TARGET)
@click.option("--name", default=None, help="[default: the file's]")
@click.option("--input", "inputs", multiple=True, help="A band the network takes; in order.")
@click.option("--output", "outputs", multiple=True, help="A band it answers; in order.")
@click.option("--window", type=int, default=None, help="Size it was trained on, if it needs that.")
@click.option("--value-range", type=(float, float), default=None, help="What 0 and 1 stand for.")
@click.option("--licence", default="", help="Of the weights.")
def convert(
    source: Path, target: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], **options: Any
) -> None:
    """Make a model file of another project's checkpoint SOURCE."""
    spec = xdemsr.convert(source, target, inputs=inputs or None, outputs=outputs or None, **options)
    click.echo(f"wrote {target}: {spec.name}, x{spec.scale}, {spec.context}")


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME."""
    for known in xdemsr.training.shipped_recipes() if name is None else ():
        click.echo(known)
    if name is not None:
        click.echo(xdemsr.training.Recipe.text(name), nl=False)


@main.command()
@click.argument("folder", type=TARGET, default="xdemsr-demo")
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
