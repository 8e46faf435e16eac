"""VQGAN as an I-frame codec: model, files, rate models, real streams. Training is elsewhere."""
