"""A recipe in, a model file out: the workshop, which knows both wings."""

from xdemsr.learning.elevations import score as score
from xdemsr.learning.running import train as train
