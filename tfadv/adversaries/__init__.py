"""The search for delta, the perturbation of the embeddings."""
