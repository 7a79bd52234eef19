"""``python -m surd``."""

from surd.cli.app import main

if __name__ == "__main__":
    main()
