"""How well a trained classifier holds up under attack."""
