"""What to learn from an adversary beside its class: a module an objective."""
