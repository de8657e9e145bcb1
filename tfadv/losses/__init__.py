"""Losses over many candidates, a block at a time, and the memory of some."""
