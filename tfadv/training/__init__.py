"""A training run: settings, the loop, and what happens around it."""
