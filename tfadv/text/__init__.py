"""From text to token ids, in the TensorFlow graph."""
