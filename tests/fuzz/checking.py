"""What targets check in the same way: one line, and nothing that went wrong behind an answer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def check_message(message: str) -> None:
    """What was refused is told in words."""
    assert message.strip(), "a refusal without a word"
    assert "Traceback" not in message


class Trouble(logging.Handler):
    """What was logged of exceptions that nobody expected, and of a storage that failed in a request."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Other errors are news, such as that what was closed has lost its directory before it could be published.
        if record.exc_info or record.name == "fusefs.handling":
            self.records.append(record)

    def take(self) -> list[logging.LogRecord]:
        taken, self.records = self.records, []
        return taken

    def check(self) -> None:
        """Raise what was logged with an exception, or fail because of what was logged without."""
        for record in self.take():
            if record.exc_info and record.exc_info[1] is not None:
                raise AssertionError(record.getMessage()) from record.exc_info[1]
            raise AssertionError(record.getMessage())


@contextmanager
def logged(*names: str) -> Iterator[Trouble]:
    """Gives the errors that these loggers are told of, which nobody else hears."""
    trouble = Trouble()
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(trouble)
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
    try:
        yield trouble
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(trouble)
            logger.propagate = propagate
            logger.setLevel(level)
