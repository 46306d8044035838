"""A page on which terrain can be turned: one file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from importlib.resources import files
from string import Template

import numpy as np

from xdemsr.oblique import Image, Scene

#: Heights are stored in 16 bits; 0 is void.
_STEPS = 2**16 - 2


def viewer_page(
    scene: Scene,
    *,
    title: str,
    caption: str,
    exaggeration: float,
    eye: tuple[float, float],
    light: tuple[float, float],
    shade: float,
) -> str:
    """The page's text.

    Parameters
    ----------
    scene : Scene
        Colours without light and shade.
    title, caption : str
    exaggeration : float
        Factor on heights, to begin with.
    eye, light : (float, float)
        Where the viewer and the light stand, in degrees: clockwise from north, above the horizon.
    shade : float
        Brightness of what faces away from the light, relative to level ground.
    """
    ny, nx = scene.heights.shape
    longer = max(scene.extent)
    low, high = float(np.nanmin(scene.heights)), float(np.nanmax(scene.heights))
    step = (high - low) / _STEPS or 1.0
    stored = np.nan_to_num((scene.heights - low) / step + 1, nan=0.0)
    toward, up = (math.radians(angle) for angle in light)
    values = {
        "rows": ny,
        "columns": nx,
        # In units of the longer side, heights from the middle of their range.
        "dx": scene.width / longer,
        "dy": scene.height / longer,
        "low": (low - high) / 2 / longer,
        "step": step / longer,
        "azimuth": eye[0],
        "altitude": eye[1],
        "factor": exaggeration,
        "sun": [math.cos(up) * math.sin(toward), math.cos(up) * math.cos(toward), math.sin(up)],
        "shade": shade,
        "heights": _text(np.rint(stored).astype("<u2").tobytes()),
        "colours": _text(_png(scene.colours)),
    }
    page = Template((files("xdemsr") / "pages" / "view.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(title), caption=html.escape(caption), scene=json.dumps(values)
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _png(colours: Image) -> bytes:
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8), format="png")
    return file.getvalue()
