"""Where texts lie in image files: one module per carrier, and :func:`.find.texts_in` over them."""
