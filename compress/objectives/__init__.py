"""Distillation losses and example weights, as pure functions on tensors."""
