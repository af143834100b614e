"""Measure latency, throughput and accuracy against the uncompressed BERT."""
