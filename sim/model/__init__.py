"""A trained BERT in numpy, its linear layers pluggable: fetched, tokenised, run and scored."""


class ModelError(Exception):
    """A model or data file that cannot be used; the message is one sentence for a person."""
