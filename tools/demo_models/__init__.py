"""How the demo's small models were made, from nothing: ``python -m tools.demo_models --help``."""
