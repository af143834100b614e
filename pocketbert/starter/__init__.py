"""`pocketbert init`: looks at a table of labelled texts and writes a recipe for it."""
