"""One archive from which Millrace is installed and runs on a machine without a network (`make bundle`)."""
