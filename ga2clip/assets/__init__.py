"""Files that ship with the package: the built-in backbone."""
