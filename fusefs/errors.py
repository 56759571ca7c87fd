"""What can go wrong with a mount, beside what goes wrong with its store."""


class MountError(Exception):
    """A mount cannot be made, kept or taken down. The message says why, and what to do where that is known."""
