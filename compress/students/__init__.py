"""Students. Importing this package lets `AutoModelForSequenceClassification.from_pretrained` open their checkpoints."""

from transformers import AutoConfig, AutoModelForSequenceClassification

import compress.heads  # noqa: F401 - a student with copied layers has its teacher's head
from compress.students.bilstm import BiLstmConfig, BiLstmStudent
from compress.students.cnn import CnnStudent
from compress.students.cnn_config import CnnStudentConfig

for _config, _model in ((CnnStudentConfig, CnnStudent), (BiLstmConfig, BiLstmStudent)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForSequenceClassification.register(_config, _model, exist_ok=True)

__all__ = ["BiLstmConfig", "BiLstmStudent", "CnnStudent", "CnnStudentConfig"]
