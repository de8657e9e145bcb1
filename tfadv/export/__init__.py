"""What a run is exported as."""
