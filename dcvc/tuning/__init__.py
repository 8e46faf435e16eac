"""A model fine-tuned on one's own videos: `dcvc tune`."""
