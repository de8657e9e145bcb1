"""What to learn from an adversary beside its class; one module each."""
