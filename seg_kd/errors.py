"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Bad input: what is wrong, where, and what to do, on one line.

    The command-line tools print the message without a traceback and exit
    with status 2. Raised by the library wherever a mistake in a config, a
    data folder or a checkpoint is the cause.
    """
