"""How the demo's small models were made, from nothing: ``python -m surd.demo.training --help``."""
