"""What can go wrong with a volume."""

from fusefs.errors import MountError


class VolumeError(MountError):
    """A volume cannot be made, mounted or removed. The message is for whoever typed `docker`, and says why."""


class NoSuchVolumeError(VolumeError):
    """There is no volume of that name. The engine asks before it creates one, so this is no trouble."""
