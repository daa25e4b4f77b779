"""One file per part that a method can be composed of."""
