"""What was found damaged or lost and stops nobody: for a log, or for whoever gave a command."""


class Troubles:
    """Sentences for people, each of them once."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._news: list[str] = []

    def note(self, text: str) -> None:
        if text not in self._known:
            self._known.add(text)
            self._news.append(text)

    def take_back(self, text: str) -> None:
        """It is over; said again should it come back."""
        self._known.discard(text)
        if text in self._news:
            self._news.remove(text)

    def news(self) -> list[str]:
        """What was noted since the last call."""
        news, self._news = self._news, []
        return news
