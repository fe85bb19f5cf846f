"""`millrace ingest`: a corpus from files to vectors, by way of a running deployment."""
