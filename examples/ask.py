"""Ask a bundle from Python: `python ask.py artifacts/films "A wonderful little film." …`. Neither torch nor transformers is loaded."""

from __future__ import annotations

import sys

from pocketbert import Classifier

classifier = Classifier.load(sys.argv[1])
print(f"labels: {', '.join(classifier.labels)}")
for answer in classifier.predict(sys.argv[2:]):
    print(f"{answer.label:10} {answer.score:.3f}  {answer.shown}")
