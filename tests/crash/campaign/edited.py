"""A full pipeline that one worker has for itself, as the contract has it: what goes, and what comes back."""

from dataclasses import dataclass

from tests.crash.campaign.layout import EDITED_LIMIT
from tests.crash.campaign.values import Value

Object = tuple[str, Value]
_TEMPORARY = "tmp"


def temporary_name(number: int) -> str:
    """One that nothing else has."""
    return f"{_TEMPORARY}{number}"


@dataclass(frozen=True, slots=True)
class Edited:
    """The objects, the oldest first, and what the temporary name displaced, while there is one."""

    objects: tuple[Object, ...] = ()
    aside: Object | None = None

    @property
    def temporary(self) -> str | None:
        """The temporary name that is there."""
        return next((name for name, _ in self.objects if name.startswith(_TEMPORARY)), None)

    @property
    def replaceable(self) -> list[str]:
        """The keys that a temporary name may replace: what it displaced is one of them."""
        return [name for name, _ in self._without_temporary()]

    def _without_temporary(self) -> tuple[Object, ...]:
        back = () if self.aside is None else (self.aside,)
        return back + tuple(item for item in self.objects if item[0] != self.temporary)

    def put(self, name: str, value: Value) -> "Edited":
        """After a Put, of a key while there is no temporary name, or of such a name."""
        objects = (*(item for item in self.objects if item[0] != name), (name, value))
        if len(objects) <= EDITED_LIMIT:
            return Edited(objects)
        return Edited(objects[1:], objects[0] if name.startswith(_TEMPORARY) else None)

    def give_up(self) -> "Edited":
        """After the temporary name was deleted: what it displaced is back."""
        return Edited(self._without_temporary())

    def replace(self, name: str) -> "Edited":
        """After the temporary name was renamed over a key, also the one that it had displaced: no other is lost."""
        value = next(value for key, value in self.objects if key == self.temporary)
        return Edited((*(item for item in self._without_temporary() if item[0] != name), (name, value)))
