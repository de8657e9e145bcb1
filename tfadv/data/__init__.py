"""From named datasets and files to batches of token ids."""
