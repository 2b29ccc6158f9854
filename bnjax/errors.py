"""The one error that a command shows as a line instead of a traceback."""


class UserError(ValueError):
    """The user's mistake: its message names the field, the value and the cure."""
