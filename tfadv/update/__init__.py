"""From the losses of one batch to one update of the weights."""
