"""The offline demo world: a painter, a vocabulary, an exact judge, and the catalogue of a site."""
