"""One file per wire format; a file ends in the constant `PLUGIN`."""
