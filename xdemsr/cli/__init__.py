"""The command line: parses, calls public functions, prints. No logic of its own."""

from xdemsr.cli import models as _models  # noqa: F401  (adds its commands)
from xdemsr.cli import rasters as _rasters  # noqa: F401
from xdemsr.cli.common import main as main
