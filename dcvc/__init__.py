"""dcvc: train neural video codecs of the DCVC family from a folder of videos."""

__version__ = "0.1.0"
