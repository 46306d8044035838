from .dataset import PatchDataset as PatchDataset
from .mixture import Mixture as Mixture
from .recipe import Recipe as Recipe
from .recipe import shipped_recipes as shipped_recipes
