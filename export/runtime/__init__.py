"""A bundle and videos go in; ranked class names come out, without torch."""
