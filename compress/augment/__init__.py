"""Augmentation: more texts for the student to see its teacher judge. The teacher labels every one; no label is copied."""
