"""The only exception that a user should see."""


class UserError(Exception):
    """A mistake in the input or in the environment. The message is one line: the place, what is wrong, the cure."""


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, with its class where the message alone says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0][:300] if lines else ""
    if isinstance(error, OSError | ValueError | RuntimeError | ImportError) and first:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
