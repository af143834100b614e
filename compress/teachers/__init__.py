"""Teachers: the fine-tuning of the uncompressed classifier, and its outputs for the student's texts."""
