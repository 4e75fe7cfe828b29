"""The two kinds of failure that a person can mend; the command line turns them into exit codes."""


class InputError(ValueError):
    """The user's input (data, option, model file) is wrong: one line that names the place and the mend."""


class OutsideError(OSError):
    """The outside world (disk, broker) failed: one line that names what, where and the mend."""
