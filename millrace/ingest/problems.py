"""What can go wrong in an ingest, as sentences for the person who started it."""


class InputProblem(Exception):
    """The files or the options are not what they should be."""


class ServiceProblem(Exception):
    """The deployment cannot be reached, or refuses."""
