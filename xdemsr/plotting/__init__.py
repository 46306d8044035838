"""Pictures of elevations and of how good they are, drawn with matplotlib.

Every function takes the axes to draw on, or makes some, and returns them: ``ax.figure.savefig``
writes the picture. Maps have the same length along both axes, in metres or kilometres from their
upper left corner, on geographic grids too, and a scale bar. Colours are told apart by
colour-blind readers.
"""

from xdemsr.plotting.bars import benchmark
from xdemsr.plotting.curves import training_curves
from xdemsr.plotting.differences import error_histogram, error_map
from xdemsr.plotting.maps import compare, shaded_relief
from xdemsr.plotting.profiles import profile
from xdemsr.plotting.spread import calibration, standard_error_map

__all__ = [
    "benchmark",
    "calibration",
    "compare",
    "error_histogram",
    "error_map",
    "profile",
    "shaded_relief",
    "standard_error_map",
    "training_curves",
]
