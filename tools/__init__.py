"""What the project needs to make itself: references, the demo's models. Not part of the wheel."""
