"""From a recipe to a filled workspace."""
