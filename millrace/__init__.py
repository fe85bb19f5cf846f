"""The command line: one command that runs every part on one machine, and the parts on their own."""
