"""One file per model family; a file ends in the constant `PLUGIN`."""
