"""The recipe: everything one task needs, in one validated TOML file."""

from compress.recipe.load import load_recipe, recipe_from
from compress.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "recipe_from"]
