"""Runs side by side, as tables and pictures: a module a step of the way."""
