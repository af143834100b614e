"""Serving: answers HTTP requests with the models of a bundle. Imports neither torch nor transformers."""
