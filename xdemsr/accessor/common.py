"""What arrays and datasets have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from xdemsr.bands import VerticalError
    from xdemsr.catalog import ModelLike
    from xdemsr.chunking import Chunks
    from xdemsr.gathering import Places
    from xdemsr.patchset import Patches
    from xdemsr.planning import Plan


class Accessor:
    """What arrays and datasets have in common."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def upscale(
        self,
        scale: int,
        model: ModelLike | None = None,
        *,
        vertical_error: VerticalError = "auto",
        uncertainty: bool = False,
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray | xr.Dataset:
        """Divide the pixels by a whole number, with a trained model or an interpolation.

        Parameters
        ----------
        scale : int
            Output pixels per input pixel along each axis.
        model : str, Path, ModelSpec or Model, optional
            A shipped name (:func:`xdemsr.list_models`), the path of a ``.safetensors`` file, or
            ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"spline"``, ``"histospline"``. The
            shipped terrain model of that scale by default.
        vertical_error : float, DataArray or "auto", optional
            Standard error of the elevations in their own unit, for models that ask for it;
            ``"auto"`` is what rounding has left in whole numbers, and 0 elsewhere.
        uncertainty : bool, optional
            Answer the standard error of each pixel as well, for models that state it.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx), in its own pixels.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            The same extent and unit. Lazy where the input is. With ``uncertainty``, a Dataset of it
            and its ``..._standard_error``.

        See Also
        --------
        xdemsr.upscale : The same as a function; says what is raised, and when.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
        >>> dict(dem.demsr.upscale(16).sizes)
        {'y': 384, 'x': 512}
        """
        from xdemsr.inference import upscale

        return upscale(
            self._obj,
            scale,
            model,
            vertical_error=vertical_error,
            uncertainty=uncertainty,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def apply(
        self,
        model: ModelLike,
        *,
        vertical_error: VerticalError = "auto",
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Run any model over the array or the dataset, tile by tile.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model
            Its bands are found by name: variables of a dataset, or the array's band dimension.
        vertical_error : float, DataArray or "auto", optional
            Standard error of the elevations in their own unit, for models that ask for it;
            ``"auto"`` is what rounding has left in whole numbers, and 0 elsewhere.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx), in its own pixels.

        Returns
        -------
        DataArray, float32
            On the same grid, divided by the model's scale. Lazy where the input is.

        See Also
        --------
        xdemsr.apply : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
        >>> dict(dem.demsr.apply("terrain-x16").sizes)
        {'y': 384, 'x': 512}
        """
        from xdemsr.inference import apply

        return apply(
            self._obj,
            model,
            vertical_error=vertical_error,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def elevation(
        self,
        model: ModelLike,
        *,
        anchor: xr.DataArray | None = None,
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Elevations from imagery: relative, or absolute where a coarse DEM anchors them.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model
            Its bands are found by name: variables of a dataset, or the array's band dimension.
        anchor : DataArray, dims (y, x), optional
            A coarser DEM in the same CRS, whose means the answer has.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx), in its own pixels.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            Lazy where the input is. Relative heights have a mean of zero over each part that voids
            leave connected.

        See Also
        --------
        xdemsr.elevation : The same as a function; says how, what is raised, and an example.

        Examples
        --------
        >>> import xdemsr
        >>> image = xdemsr.synthetic.terrain((24, 32)).expand_dims(band=["red", "green", "blue"])
        >>> heights = image.demsr.elevation("my-model.safetensors")  # doctest: +SKIP
        """
        from xdemsr.imaging import elevation

        return elevation(
            self._obj,
            model,
            anchor=anchor,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def refine(
        self,
        model: ModelLike | None = None,
        *,
        guides: Mapping[str, xr.DataArray] | None = None,
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Refine a surface model with the images beside it: less noise, or bare earth.

        The surface model is the array, or the dataset's variable ``dsm``.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model, optional
            The shipped refinement model that takes most of what there is, by default.
        guides : mapping of str to DataArray, optional
            On any grid, resolution and CRS, by name, beside the dataset's own variables.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx).

        Returns
        -------
        DataArray, dims (..., y, x), float32
            On the surface model's grid, void where it is. Lazy where an input is.

        See Also
        --------
        xdemsr.refine : The same as a function; says how bands are found, and what is raised.

        Examples
        --------
        >>> import xdemsr
        >>> ds = xdemsr.synthetic.terrain((24, 32)).to_dataset(name="dsm")
        >>> ds.demsr.refine(xdemsr.load_model("nearest", scale=1)).shape
        (24, 32)
        """
        from xdemsr.refining import refine

        return refine(
            self._obj,
            model,
            guides=guides,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def plan(
        self,
        scale: int | None = None,
        model: ModelLike | None = None,
        *,
        vertical_error: VerticalError = "auto",
        uncertainty: bool = False,
        ensemble: bool = False,
        chunks: Chunks = "auto",
        device: str = "auto",
        precision: str = "auto",
        calibrate: bool = False,
    ) -> Plan:
        """What ``upscale`` or ``apply`` would do: sizes, tiles, tasks, operations, memory.

        Parameters
        ----------
        scale : int, optional
            May be left out where ``model`` has one of its own.
        model : str, Path, ModelSpec or Model, optional
            As for ``upscale`` or ``apply``.
        vertical_error, uncertainty, ensemble, chunks, device, precision
            As for ``upscale``.
        calibrate : bool, optional
            Try the network here for five seconds, to say how long the whole will take.

        Returns
        -------
        Plan
            A table where it is printed; its attributes are the numbers.

        See Also
        --------
        xdemsr.plan : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((240, 320)).chunk(100)
        >>> dem.demsr.plan(16).output_shape
        (3840, 5120)
        """
        from xdemsr.planning import plan

        return plan(
            self._obj,
            scale,
            model,
            vertical_error=vertical_error,
            uncertainty=uncertainty,
            ensemble=ensemble,
            chunks=chunks,
            device=device,
            precision=precision,
            calibrate=calibrate,
        )

    def patches(
        self,
        size: int | tuple[int, int],
        scale: int = 1,
        *,
        coarse: Places | None = None,
        bands: Sequence[Hashable] | None = None,
        stride: int | tuple[int, int] | None = None,
        count: int | None = None,
        min_valid: float = 1.0,
        stratify: bool | tuple[float, float] = False,
        seed: int = 0,
    ) -> Patches:
        """Training samples straight from the array or the dataset, on a grid or at random.

        Parameters
        ----------
        size : int or (int, int)
            Size of a patch (ny, nx) in source pixels. The target's is ``scale`` times that.
        scale : int, optional
            Target pixels per source pixel along each axis.
        coarse : DataArray or Dataset, optional
            What is learnt from, on this grid divided by ``scale``; by default block means.
        bands : sequence of str or int, optional
            Variables, or elements of the band dimension; all by default.
        stride : int or (int, int), optional
            Source pixels from one patch to the next; ``size`` by default.
        count : int, optional
            So many random patches instead of a grid of them.
        min_valid : float, optional
            Least share of a patch's pixels that must have data.
        stratify : bool or (float, float), optional
            As many flat as middle and steep patches; limits of their mean slopes in degrees.
        seed : int, optional
            Of ``count`` and ``stratify``.

        Returns
        -------
        Patches
            Where they lie; pixels are read when a patch is asked for.

        See Also
        --------
        xdemsr.patches : The same as a function; takes several places at once.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((96, 128))
        >>> dem.demsr.patches((8, 16), scale=4)
        <xdemsr.Patches: 6 of 8 x 16 source pixels, scale 4, from elevation>
        """
        from xdemsr.sampling import patches

        return patches(
            self._obj,
            size,
            scale,
            coarse=coarse,
            bands=bands,
            stride=stride,
            count=count,
            min_valid=min_valid,
            stratify=stratify,
            seed=seed,
        )
