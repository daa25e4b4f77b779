"""A run and a protocol's clips go in; metrics and reports come out."""
