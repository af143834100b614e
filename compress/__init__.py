"""Compression: a fine-tuned BERT classifier and its labelled texts in, a small student out."""

from compress.runtime.cpus import spin_briefly
from compress.runtime.quiet import quiet_libraries
from compress.runtime.telemetry import turn_off_telemetry

__version__ = "1.0.0"

# Here, since every command imports this package before the libraries.
turn_off_telemetry()
quiet_libraries()
spin_briefly()
