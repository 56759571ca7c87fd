"""What the log says of the effects of a change."""

import logging

from engine.model import Effects
from fusefs.printable import start_shown

_LOGGED = 1000
"""How many evictions of one change are named."""

log = logging.getLogger(__name__)


def log_effects(effects: Effects) -> None:
    for gone in effects.evicted[:_LOGGED]:
        log.info("evicted %s", start_shown(gone.path))
    if len(effects.evicted) > _LOGGED:
        log.info("evicted %d more", len(effects.evicted) - _LOGGED)
    for gone in effects.expired:
        log.info("expired %s", start_shown(gone.path))
    for back in effects.restored:
        log.info("restored %s", start_shown(back.path))
