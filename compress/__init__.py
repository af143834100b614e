"""Compression: a fine-tuned BERT classifier and its labelled texts in, a small student out."""

__version__ = "0.1.0"
