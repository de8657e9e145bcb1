"""From a name to an opened checkpoint."""
