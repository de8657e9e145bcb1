"""A trained classifier in use: its predictions, and how right they are."""
