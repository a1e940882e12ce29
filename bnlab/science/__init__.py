"""The science: arrays in, arrays out. Nothing here knows of configs, files or tracking."""
