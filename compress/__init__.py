"""Compression: a fine-tuned BERT classifier and its labelled texts in, a small student out."""

from compress.runtime.telemetry import turn_off_telemetry

__version__ = "0.1.0"

turn_off_telemetry()  # here, since every command imports this package before the libraries
