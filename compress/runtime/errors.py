"""The only exception that a user should see."""


class UserError(Exception):
    """A mistake in the input or in the environment. The message is one line: the place, what is wrong, the cure."""
