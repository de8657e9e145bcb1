"""Who looks for delta, the perturbation of the embeddings."""
