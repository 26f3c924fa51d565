"""Is the map true? One file a family of measures, and the tests that a sentence needs."""

CHECKS = (
    "concentration",
    "localisation",
    "insertion_deletion",
    "road",
    "max_sensitivity",
    "sanity",
)
