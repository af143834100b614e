"""What a user would try before a BERT: cheap classifiers that a student has to beat."""
