"""`millrace models pull` and `verify`: a model's files in a folder of one's own, at one revision, with their hashes."""
