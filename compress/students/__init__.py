"""Students. Importing this package lets `AutoModelForSequenceClassification.from_pretrained` open their checkpoints."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from compress.students.cnn import CnnStudent, CnnStudentConfig

AutoConfig.register(CnnStudentConfig.model_type, CnnStudentConfig, exist_ok=True)
AutoModelForSequenceClassification.register(CnnStudentConfig, CnnStudent, exist_ok=True)

__all__ = ["CnnStudent", "CnnStudentConfig"]
