"""Knowledge distillation: the phases of a student's training, and their losses."""
