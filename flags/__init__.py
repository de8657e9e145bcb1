"""Definitions of the binaries' flags: a module a concern."""
