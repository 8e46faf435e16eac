"""Models that are ready to use: those in the package, those that were pulled, and how they are found."""
