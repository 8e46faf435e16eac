"""Which models there are: those of the package and those that were pulled, by name, and the folders that
training writes."""
