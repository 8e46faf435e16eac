"""VQGAN as an I-frame codec: model, loading of published files, rate models with real streams, training."""
