"""The transfer set: many texts without labels on which the student hears its teacher.

Texts come from a bank (the user's logs, a file, or the embedded one) and are made of the task's own: of spans of several of them, and
by replacing words.
"""
