"""The console: a page for browsers that shows the service and tries it. Its files are served as they lie here."""
