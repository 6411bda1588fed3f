"""Published ablations by name, one file a paper."""
