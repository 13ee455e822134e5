"""Published data sets as folders that the package reads, converted once."""
