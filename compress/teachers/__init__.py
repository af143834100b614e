"""Teachers: the fine-tuning of the uncompressed classifier, and its outputs for the student's texts."""

import compress.heads  # noqa: F401 - opens the checkpoints of teachers with a head on the mean of their states
