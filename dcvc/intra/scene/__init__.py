"""I-frames of a known place: pictures of it lie in the model."""
