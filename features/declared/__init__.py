"""The declarations of the features, a file a source of data; ``features/catalog.py`` puts them together."""
