"""One mount from start to end: opens the store, mounts, serves, does the upkeep, and ends without losing anything.

A mount that cannot go on is left dead (ENOTCONN), never unmounted: below it lies an ordinary empty directory that
jobs would fill with success. It is unmounted only where that was asked for: by umount, and by SIGTERM or SIGINT unless
these are to leave it dead; or where whoever started it gives it up, and there was none before.
"""

import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager

import pyfuse3
import trio

from engine import Store, open_store
from engine.config import ObjectStoreSettings
from engine.errors import StoreError
from engine.recovering import Recovered
from fusefs.background import Background
from fusefs.ending import Ending
from fusefs.errors import MountError
from fusefs.heartbeat import Heartbeat
from fusefs.kernel import read_further_ahead
from fusefs.mountinfo import mount_at
from fusefs.mountpoint import mounted_over
from fusefs.operations import Operations
from fusefs.options import MountOptions
from fusefs.presence import present
from fusefs.printable import printable
from fusefs.pulse import Pulse
from fusefs.scope import Scope
from fusefs.serving import Serving
from fusefs.state import MountState
from fusefs.watchdog import open_control, watched

FILESYSTEM_TYPE = "fusefs"

_NEWS_S = 0.05
"""How often another process's changes are looked for: one read of shared memory when there are none."""
_IDLE_NEWS_S = 0.25
"""The same while nobody uses the mount."""
_NEWS_AT_ONCE = 500
_SWEEP_S = 0.25
_IDLE_SWEEP_S = 1.0
_RECOVER_S = 0.5
_IDLE_RECOVER_S = 1.0
_PATIENCE_S = 10.0
"""How long the event loop waits for a thread that writes."""
_REQUESTS_AT_ONCE = 1000
"""Each that waits has a task and a buffer of its own; one more waits until another is answered."""
_USUAL_UMASK = 0o022

log = logging.getLogger(__name__)


def run(settings: ObjectStoreSettings, mountpoint: str, *, options: MountOptions, ready: Callable[[], None]) -> None:
    """Mount the store on `mountpoint` and serve until it is unmounted, or until SIGTERM or SIGINT.

    `ready` is called once when the mount answers. Raises StoreError and MountError.
    """
    scope = Scope(options.scope)
    with present(mountpoint), closing(Heartbeat()) as heartbeat, open_store(settings) as store:
        _log_troubles(store)
        # Before it is mounted: where that cannot be written, there is no mount to be left dead.
        store.sessions.ensure()
        pulse = Pulse(options.request_timeout, heartbeat.beat)
        state = MountState(store, scope, pulse, options.max_open_writers)
        for effects in store.opening_effects:
            state.report(effects)
        _prepare_scope(state, options)
        serving = Serving(state, pulse)
        ending = Ending(mountpoint, leave_dead=options.leave_dead)

        def greeted() -> None:
            ready()
            # Not yet: what the kernel makes of our greeting comes after this.
            state.nursery.start_soon(_set_up_connection, ending.connection)

        operations = Operations(state, serving, greeted, options.umask)
        with (
            ending.signals_kept(),
            mounted_over(
                mountpoint,
                lambda path: _mount(operations, settings, path, options),
                # Already now: what ends the daemon may end the watchdog with it, as the end of a container does.
                protect=options.leave_dead,
            ) as below,
        ):
            log.info("store %s, mounted on %s", settings.path, mountpoint)
            ending.connection = state.writers.connection = connection = _connection(mountpoint)
            with _left_dead_after_errors(), watched(connection, below, heartbeat, options.request_timeout):
                trio.run(_serve, state, serving, ending)
                if heartbeat.given_up:
                    raise MountError(f"the event loop did not turn for {options.request_timeout:g} seconds")
                ending.finish(below)
            log.info("stopped serving %s", mountpoint)


def _prepare_scope(state: MountState, options: MountOptions) -> None:
    """See that what is shown is there. Raises StoreError."""
    if options.read_only:
        state.scope.require(state.store)
        return
    umask = _USUAL_UMASK if options.umask is None else options.umask
    for effects in state.scope.make_missing(state.store, 0o777 & ~umask):
        state.report(effects)


@contextmanager
def _left_dead_after_errors() -> Iterator[None]:
    logging.getLogger("pyfuse3").addFilter(_matters)
    try:
        yield
    except BaseException:
        log.exception("the mount cannot go on and is left dead")
        raise
    finally:
        pyfuse3.close(unmount=False)


def _matters(record: logging.LogRecord) -> bool:
    """Whether a line of pyfuse3's says more than that nobody waits for an answer any more (ENOENT, fuse(4)).

    That is so when a caller was killed, and for the last RELEASE of all when the unmounting ends the connection first.
    """
    return not (str(record.msg).endswith("fuse_reply_* failed with %s") and record.args == (os.strerror(errno.ENOENT),))


def _mount(operations: Operations, settings: ObjectStoreSettings, mountpoint: str, options: MountOptions) -> None:
    # libfuse splits options at commas and unescapes backslashes.
    source = os.fsencode(settings.path).decode("ascii", "backslashreplace").replace("\\", "\\\\").replace(",", "\\,")
    arguments = {"default_permissions", f"fsname={source}", f"subtype={FILESYSTEM_TYPE}"}
    if options.allow_other:
        arguments.add("allow_other")
    if options.read_only:
        arguments.add("ro")
    try:
        pyfuse3.init(operations, mountpoint, arguments)
    except RuntimeError as error:
        raise MountError(f"cannot mount on {mountpoint}: {error}") from error


def _connection(mountpoint: str) -> int | None:
    """That of our new mount; None when it is unmounted already. Sends it no request: nobody answers yet."""
    mount = mount_at(os.fsencode(mountpoint))
    return mount.connection if mount is not None and mount.ours else None


async def _serve(state: MountState, serving: Serving, ending: Ending) -> None:
    state.store.database.adopt()
    state.store.database.writes.patience_s = min(_PATIENCE_S, state.pulse.seconds / 2)
    state.store.sessions.ensure()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.pulse.run)
        async with trio.open_nursery() as behind:
            state.nursery = behind
            state.background = Background(behind, state.pulse)
            nursery.start_soon(ending.at_signal, state)
            nursery.start_soon(state.kernel.run)
            nursery.start_soon(_repeat, "news from other processes", _hear_news, state)
            nursery.start_soon(_repeat, "upkeep", _sweep, state)
            nursery.start_soon(_repeat, "recovery of what was acknowledged", _recover, state)
            await serving.serve(_REQUESTS_AT_ONCE)
            # The last request may have left a transaction open; threads that are waited for now wait for its lock.
            state.settle()
            trio.lowlevel.spawn_system_task(ending.anyway, state.pulse.seconds / 2)
        nursery.cancel_scope.cancel()


async def _set_up_connection(connection: int | None) -> None:
    if connection is not None:
        read_further_ahead(connection)
        _send_more_at_once(connection)


def _send_more_at_once(connection: int) -> None:
    """Have the kernel send more than 12 requests that nobody waits for: RELEASE is one, and so is reading ahead, which
    may wait for a disk and would keep Puts from being published.
    """
    for name in ("max_background", "congestion_threshold"):
        try:
            control = open_control(connection, name)
            try:
                os.write(control, b"%d" % _REQUESTS_AT_ONCE)
            finally:
                os.close(control)
        except OSError as error:
            log.debug("%s is left as it is: %s", name, error)


async def _repeat(what: str, step: Callable[[MountState], Awaitable[None]], state: MountState) -> None:
    """Do a piece of background work again and again. What goes wrong in it must not end the mount, and is told once."""
    told = ""
    while True:
        try:
            await step(state)
            told = ""
        except Exception as error:
            if repr(error) != told:
                told = repr(error)
                if isinstance(error, StoreError):
                    log.warning("%s is late: %s", what, error)
                else:
                    log.exception("%s failed", what)
            await trio.sleep(_SWEEP_S)


async def _hear_news(state: MountState) -> None:
    """Make the kernel forget what other processes changed, and notice when the store is taken away under us."""
    await trio.sleep(_IDLE_NEWS_S if state.idle else _NEWS_S)
    if not state.idle:  # else it is done as soon as somebody uses the mount
        state.look_at_files()
    if state.store.database.changed_elsewhere():
        state.note_use()
        await _tell_kernel(state)


async def _tell_kernel(state: MountState) -> None:
    state.max_object_size = state.store.max_object_size
    state.store.tree.note_change()
    state.coming.note_returned()
    while news := state.store.upkeep.news(_NEWS_AT_ONCE):
        for item in news:
            state.hear(item)
        state.store.upkeep.acknowledge(news)
        await trio.sleep(0)


async def _sweep(state: MountState) -> None:
    """Delete what nobody refers to any more, and write the log back, both a piece at a time."""
    with trio.move_on_after(_IDLE_SWEEP_S if state.idle else _SWEEP_S):
        await state.sweep_now.wait()
    state.sweep_now = trio.Event()
    state.writers.drop_idle()
    state.drop_gone()
    upkeep = state.store.upkeep
    upkeep.unpin_all()
    if upkeep.anything_to_do:
        # No request is between taking a name away and pinning its value for those who have just looked it up.
        while await trio.to_thread.run_sync(upkeep.work, upkeep.last_change(), limiter=state.background.upkeep):
            pass


async def _recover(state: MountState) -> None:
    """Publish what could not be committed here, and what other processes acknowledged before they died."""
    await trio.sleep(_IDLE_RECOVER_S if state.idle else _RECOVER_S)
    try:
        _tell(state, state.store.publisher.publish_again())
    finally:  # neither waits for the other
        _tell(state, state.store.publisher.published_again())
        _tell(state, state.store.publisher.recover())
        _log_troubles(state.store)


def _tell(state: MountState, recovered: Recovered) -> None:
    if recovered.nodes:
        state.recent.clear()  # what they have replaced is told by nobody
    for node in recovered.nodes:
        state.kernel.drop_name_soon(node.parent, node.name)
    for effects in recovered.effects:
        state.report(effects)


def _log_troubles(store: Store) -> None:
    """Tell what is damaged or lost without being in anybody's way."""
    for trouble in store.database.troubles.news():
        log.error("%s", printable(trouble))
