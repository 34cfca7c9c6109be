"""The leak audit: which pictures of a dataset are the same, nearly the same, or of one patient, and on which sides."""
