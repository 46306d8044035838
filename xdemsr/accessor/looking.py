"""Methods to look at arrays, and to hand them on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from xdemsr.accessor.common import Accessor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xdemsr.catalog import ModelLike
    from xdemsr.seams import Seams


class LookingAccessor(Accessor):
    """Relief, seams, point clouds and views of an array."""

    def hillshade(
        self, *, azimuth: float = 315.0, altitude: float = 45.0, exaggeration: float = 1.0
    ) -> xr.DataArray:
        """Brightness of the terrain under a distant light.

        Parameters
        ----------
        azimuth : float, optional
            Where the light comes from, in degrees clockwise from north.
        altitude : float, optional
            Height of the light above the horizon, in degrees.
        exaggeration : float, optional
            Factor on the elevations.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            0 (dark) to 1 (facing the light). Lazy where the input is.

        See Also
        --------
        xdemsr.hillshade : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> xdemsr.synthetic.terrain((24, 32)).demsr.hillshade().name
        'hillshade'
        """
        from xdemsr.relief import hillshade

        return hillshade(self._obj, azimuth=azimuth, altitude=altitude, exaggeration=exaggeration)

    def slope(self) -> xr.DataArray:
        """Steepest slope in degrees.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            Lazy where the input is.

        See Also
        --------
        xdemsr.slope : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> xdemsr.synthetic.terrain((24, 32)).demsr.slope().attrs["units"]
        'degree'
        """
        from xdemsr.relief import slope

        return slope(self._obj)

    def check_seams(
        self,
        model: ModelLike | None = None,
        *,
        scale: int | None = None,
        period: int | tuple[int, int] | None = None,
        phase: tuple[int, int] | None = None,
        stride: int | None = None,
        false_alarm: float = 0.01,
    ) -> Seams:
        """Look for the borders of tiles in an answer.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model, optional
            Whose tiles are meant. By default the one that the attribute ``xdemsr_model`` names.
        scale : int, optional
            Of that model, where its name does not say it: interpolations serve any.
        period : int or (int, int), optional
            Pixels (py, px) from border to border, instead of a model.
        phase : (int, int), optional
            With ``period``, the first row and column with a border before them. By default all are
            tried.
        stride : int, optional
            With ``period``, the scale of an upscaled raster.
        false_alarm : float, optional
            Chance that a raster without seams is said to have some.

        Returns
        -------
        Seams
            With ``ok``; and what was found along each axis.

        See Also
        --------
        xdemsr.check_seams : The same as a function; says how, and what is raised.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((200, 300))
        >>> dem.demsr.upscale(2).demsr.check_seams().ok
        True
        """
        from xdemsr.seams import check_seams

        return check_seams(
            self._obj,
            model,
            scale=scale,
            period=period,
            phase=phase,
            stride=stride,
            false_alarm=false_alarm,
        )

    def to_point_cloud(
        self,
        path: str | Path,
        *,
        rgb: xr.DataArray | None = None,
        stride: int = 1,
        faces: bool = False,
        overwrite: bool = False,
    ) -> Path:
        """Write the raster's pixels as points: LAS, LAZ or PLY.

        Parameters
        ----------
        path : str or Path
            Ends in ``.laz``, ``.las`` or ``.ply``.
        rgb : DataArray, dims (band, y, x), optional
            Colours, on the same grid.
        stride : int, optional
            Of so many rows and columns, one.
        faces : bool, optional
            For ``.ply``: triangles between the points.
        overwrite : bool, optional
            Replace a file that is there.

        Returns
        -------
        Path
            Of the file.

        See Also
        --------
        xdemsr.to_point_cloud : The same as a function; says what is written, and what is raised.

        Examples
        --------
        >>> import tempfile
        >>> import xdemsr
        >>> path = tempfile.mkdtemp() + "/terrain.ply"
        >>> xdemsr.synthetic.terrain((24, 32)).demsr.to_point_cloud(path).name
        'terrain.ply'
        """
        from xdemsr.pointcloud import to_point_cloud

        return to_point_cloud(
            self._obj, path, rgb=rgb, stride=stride, faces=faces, overwrite=overwrite
        )

    def view_3d(
        self,
        path: str | Path | None = None,
        *,
        rgb: xr.DataArray | None = None,
        exaggeration: float = 1.0,
        azimuth: float = 200.0,
        altitude: float = 35.0,
        size: int = 1000,
    ) -> Axes | Path:
        """Draw the elevations in three dimensions, or make a page on which they can be turned.

        Parameters
        ----------
        path : str or Path, optional
            Of a picture (``.png``), or of a page (``.html``) that needs nothing else.
        rgb : DataArray, dims (band, y, x), optional
            An image to lay over them, on the same grid.
        exaggeration : float, optional
            Factor on heights.
        azimuth, altitude : float, optional
            Where the viewer stands, in degrees: clockwise from north, and above the horizon.
        size : int, optional
            Pixels along the longer side, at most; larger rasters are thinned.

        Returns
        -------
        matplotlib.axes.Axes or Path
            The picture; with ``path``, that of what was written.

        See Also
        --------
        xdemsr.view_3d : The same as a function; says more of each.

        Examples
        --------
        >>> import xdemsr
        >>> ax = xdemsr.synthetic.fractal((48, 64)).demsr.view_3d(size=200)
        >>> len(ax.images)
        1
        """
        from xdemsr.views import view_3d

        return view_3d(
            self._obj,
            path,
            rgb=rgb,
            exaggeration=exaggeration,
            azimuth=azimuth,
            altitude=altitude,
            size=size,
        )
