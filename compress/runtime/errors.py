"""The one exception a user may see."""


class UserError(Exception):
    """A mistake in the input or the environment, told in one line: the place, what is wrong, the cure."""
