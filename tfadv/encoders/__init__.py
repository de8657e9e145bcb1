"""From token ids to embeddings, and from there to representations."""
