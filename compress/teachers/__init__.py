"""Teachers: fine-tuning the uncompressed classifier and reading out what it knows."""
