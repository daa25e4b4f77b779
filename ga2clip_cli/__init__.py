"""Command line: reads options, calls one function of the library, prints."""
