"""Models that come and go: the catalogue of well-known ones, fetching, checking, adding, removing."""
