"""Serving: the bundle over HTTP. Neither torch nor transformers is imported here."""
