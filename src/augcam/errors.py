"""The one exception that means "the request was wrong": every door tells it from a fault of ours."""


class UserError(ValueError):
    """A wrong request: what is wrong, the value, and what would be right, in one to three lines.

    The command line prints the message alone and exits with status 2.
    """
