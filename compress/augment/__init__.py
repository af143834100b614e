"""Augmentation: new texts for distillation. The teacher labels each new text; no label is copied from the old one."""
