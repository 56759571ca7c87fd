-- The format of a store: one SQLite file in WAL mode. This file is its reference: every table and column is
-- explained here, and what changes here needs a migration and a new user_version (see migrations.py).
--
-- application_id is 0x66757365 ("fuse"), user_version the version of this schema.
-- Numbers of inodes and contents come from one counter and are never used twice.
-- Times are nanoseconds since 1970-01-01 UTC.

-- What holds for the whole store. One row.
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,               -- 8 random hex digits; the keys of this store's contents begin with it, so that stores can share an engine
    engine TEXT NOT NULL,           -- the name of the content engine that holds the values; fixed when the store is made
    next_id INTEGER NOT NULL,       -- the first number not given out; processes take numbers in blocks, so there are gaps
    clock_ns INTEGER NOT NULL,      -- the time of the last change, moved on by 1 where the system's clock stood still or went back: unique and rising, so it orders the Puts
    object_limit INTEGER NOT NULL,  -- objects in a pipeline without a limit of its own; 0: no limit
    run_expiry INTEGER NOT NULL,    -- how many newer runs make a run's objects go; 0: never
    max_object_size INTEGER NOT NULL, -- bytes; 0: no limit
    expirations INTEGER NOT NULL DEFAULT 0, -- how many runs have expired so far
    slots INTEGER NOT NULL DEFAULT 0, -- how many slots of 256 KiB the data file has, free ones too
    max_pipeline_bytes INTEGER NOT NULL DEFAULT 0, -- of all values of a pipeline without a limit of its own; 0: no limit
    max_bytes INTEGER NOT NULL DEFAULT 0, -- of all values of pipelines and runs; 0: no limit
    bytes INTEGER NOT NULL DEFAULT 0, -- how many those are: the sum of scope.bytes
    checksums INTEGER NOT NULL DEFAULT 0 -- 1: every page ends with a checksum; 0: made before version 4, and not compacted since
) STRICT;

-- Every name that exists: directory entry and inode in one row, since there are no hard links.
-- The root is 1, /pipeline 2 and /run 3; they are made with the store and never change.
CREATE TABLE node (
    ino INTEGER PRIMARY KEY,    -- inode number; an object gets a new one with every Put
    parent INTEGER NOT NULL,    -- ino of the directory; 0 for the root and for the top of a subtree that is being swept (see doomed)
    name BLOB NOT NULL,         -- any bytes but / and NUL, at most 255
    scope INTEGER NOT NULL,     -- ino of the pipeline's or run's directory that this is in (its own for that directory); 0 for the fixed three
    kind INTEGER NOT NULL,      -- 0 directory, 1 object, 2 symlink
    mode INTEGER NOT NULL,      -- permission bits, without the file type
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    size INTEGER NOT NULL,      -- bytes of the value or of the symlink's target; 0 for directories
    atime_ns INTEGER NOT NULL,  -- set by utimens only: reading does not move it
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    put_ns INTEGER NOT NULL,    -- store.clock_ns of the Put: the order of eviction; 0 for what is no object
    content INTEGER NOT NULL,   -- number of the value in the content engine; 0: the value is empty, or this is no object
    target BLOB,                -- where a symlink points; NULL for the rest
    xattrs BLOB,                -- user.* attributes as a MessagePack map of name to value; NULL: none
    evictable INTEGER NOT NULL  -- 1 for objects in a pipeline: only these are in the index of eviction
) STRICT;
CREATE UNIQUE INDEX dentry ON node (parent, name);
CREATE INDEX eviction_order ON node (scope, put_ns) WHERE evictable = 1;

-- Pipelines and runs: what node does not say of their directories.
CREATE TABLE scope (
    ino INTEGER PRIMARY KEY,     -- its directory in node
    kind INTEGER NOT NULL,       -- 1 pipeline, 2 run
    name BLOB NOT NULL,
    objects INTEGER NOT NULL,    -- how many node rows of kind 1 have this scope; kept so that a Put need not count
    object_limit INTEGER,        -- pipelines: its own limit, 0 for none; NULL: the store's
    pipeline BLOB,               -- runs: the pipeline it was started for; an empty value: none. NULL for pipelines
    started_ns INTEGER NOT NULL, -- store.clock_ns when it was made: the order of runs
    protected INTEGER NOT NULL,  -- runs: 1 between `run start` and `run finish`; such a run does not expire
    evictions INTEGER NOT NULL DEFAULT 0, -- pipelines: how many objects have been evicted so far
    bytes INTEGER NOT NULL DEFAULT 0, -- the sum of the sizes of its objects
    max_bytes INTEGER            -- pipelines: its own limit for that, 0 for none; NULL: the store's
) STRICT;
CREATE INDEX run_order ON scope (pipeline, started_ns) WHERE kind = 2;

-- Objects that made way for a newer one, kept aside while the newer one stands: when that turns out to have been
-- a temporary name (it is renamed over another object, or removed), they come back. Columns as in node.
CREATE TABLE evicted (
    ino INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    scope INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    size INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    put_ns INTEGER NOT NULL,
    content INTEGER NOT NULL,
    target BLOB,
    xattrs BLOB,
    evictable INTEGER NOT NULL,
    displaced_by INTEGER NOT NULL, -- ino of the object whose Put or rename took its place
    evicted_ns INTEGER NOT NULL,   -- store.clock_ns of the eviction; rows are dropped some minutes later
    freed_by INTEGER NOT NULL DEFAULT 0 -- ino of another object that frees the place as well when it goes; 0: none
) STRICT;
CREATE INDEX evicted_displaced_by ON evicted (displaced_by);
CREATE INDEX evicted_freed_by ON evicted (freed_by) WHERE freed_by <> 0;
CREATE INDEX evicted_name ON evicted (parent, name);
CREATE INDEX evicted_order ON evicted (scope, put_ns);
CREATE INDEX evicted_age ON evicted (evicted_ns);

-- Names in pipelines that objects were renamed away from: when such a name is put again, the renamed object is taken
-- for a backup, and the place that the new one needed becomes free when the backup goes. Rows are dropped some minutes later.
CREATE TABLE moved (
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    ino INTEGER NOT NULL,        -- the object, under its new name
    moved_ns INTEGER NOT NULL,   -- store.clock_ns of the rename
    PRIMARY KEY (parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX moved_age ON moved (moved_ns);

-- The last objects that each pipeline lost to its limit, and the last runs that expired: for people to read.
CREATE TABLE taken (
    scope INTEGER NOT NULL,      -- ino of the pipeline; that of /run for runs
    slot INTEGER NOT NULL,       -- which eviction or expiration of the scope it was, modulo the number that is kept
    ino INTEGER NOT NULL,        -- what it was; an object that comes back is found by it
    name BLOB NOT NULL,          -- the object's key, or the run's id
    taken_ns INTEGER NOT NULL,   -- store.clock_ns of the eviction or expiry
    PRIMARY KEY (scope, slot)
) STRICT, WITHOUT ROWID;

-- Puts whose close() was answered and whose publication was not yet seen to: written by FLUSH, gone with RELEASE.
-- What a session that died has left here is published by the next process that opens the store.
CREATE TABLE intent (
    ino INTEGER NOT NULL,        -- the node to be made
    handle INTEGER NOT NULL,     -- tells several Puts of one name apart
    session INTEGER NOT NULL,
    prepared INTEGER NOT NULL,   -- counts up with every FLUSH of the session: the order in which the Puts were closed
    how INTEGER NOT NULL,        -- 1 replace what is there, 2 only if the name is free, 3 append to what is there, 4 fail where the name is taken
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    size INTEGER NOT NULL,
    atime_ns INTEGER,            -- NULL: the time of the Put
    mtime_ns INTEGER,            -- NULL: the time of the Put
    content INTEGER NOT NULL,
    xattrs BLOB,
    PRIMARY KEY (ino, handle)
) STRICT, WITHOUT ROWID;

-- Contents that are being written and that no node or intent refers to yet. Those of a session that died are deleted.
CREATE TABLE draft (
    content INTEGER PRIMARY KEY,
    session INTEGER NOT NULL
) STRICT;

-- What was taken away or changed: the list of values to delete, and the news for the other processes with this store
-- mounted, which have to forget what their kernels cached. A row goes when every live session has seen it and, where it
-- has a value, when the value is deleted.
CREATE TABLE change (
    seq INTEGER PRIMARY KEY, -- a tick of store.clock_ns, so never reused: sessions remember how far they have read
    session INTEGER NOT NULL,              -- whose change; 0: a process without a session
    ino INTEGER NOT NULL,                  -- what it was about; 0: only a value to delete
    parent INTEGER NOT NULL,               -- where it was to be found until then; 0: its attributes changed, and it is where it was
    name BLOB NOT NULL,
    content INTEGER NOT NULL               -- the value that nothing refers to any more; 0: none
) STRICT;

-- Values in `change` that a session still has open.
CREATE TABLE pin (
    content INTEGER NOT NULL,
    session INTEGER NOT NULL,
    PRIMARY KEY (content, session)
) STRICT, WITHOUT ROWID;

-- Processes that write or mount. Alive while byte `id` of the lock file beside the store is locked.
CREATE TABLE session (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- the byte of the lock file that the process has locked; never used again
    seen INTEGER NOT NULL,   -- change.seq up to which this one has told its kernel and pinned what it has open; 2^63 - 1 where it has neither
    pid INTEGER NOT NULL,    -- for people; nothing relies on it
    resolved INTEGER NOT NULL DEFAULT 0 -- up to which number the entries of its journal are seen to: published, withdrawn or in intent
) STRICT;

-- Directories of expired runs and deleted pipelines: no longer in the tree (parent is 0), swept in small steps.
CREATE TABLE doomed (
    ino INTEGER PRIMARY KEY
) STRICT;

-- The embedded content engine. A value of up to 64 KiB is one row here; a larger one is cut into chunks. In any other
-- engine a value has the key store.id, a slash, and its number in 16 hex digits.
CREATE TABLE content (
    number INTEGER PRIMARY KEY, -- what node.content and the others refer to
    size INTEGER NOT NULL,      -- bytes
    data BLOB,                  -- the value; NULL: it is in chunks
    hash BLOB,                  -- XXH3 of `data`, 64 bits, the highest byte first; NULL with chunks, and where it was stored before version 4
    extents INTEGER             -- how many rows of extent it has; NULL without chunks, and where it was stored before version 4
) STRICT;

-- Values that are no object of the store: the keys of whoever uses the content engine for itself.
CREATE TABLE named_content (
    key TEXT PRIMARY KEY,       -- any but those of the store's own values
    content INTEGER NOT NULL    -- its number
) STRICT, WITHOUT ROWID;

-- Which chunks make up a value. A copy of a value shares its chunks; a chunk goes with its last extent.
-- A missing extent, and what a chunk is short of, read as zeros.
CREATE TABLE extent (
    content INTEGER NOT NULL,  -- the value's number
    position INTEGER NOT NULL, -- offset in the value, in chunks of 256 KiB
    chunk INTEGER NOT NULL,    -- chunk.id; below 0, -1 - chunk is the number of a slot of the data file
    hashes BLOB,               -- of each block of 64 KiB of the chunk, as in content, one behind the other; NULL: stored before version 4
    PRIMARY KEY (content, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX extent_chunk ON extent (chunk);

-- The pieces of large values.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,  -- means nothing outside extent
    data BLOB NOT NULL       -- at most 256 KiB; never changed while two extents share it
) STRICT;

-- Slots of the data file that nothing refers to. A slot is 256 KiB at `number` times that in the file beside the store.
CREATE TABLE free_slot (
    number INTEGER PRIMARY KEY, -- where it is, counted in slots
    ripe INTEGER NOT NULL       -- 1: to be used again; 0: a power cut may bring the value back that had it
) STRICT;
CREATE INDEX free_slot_ripe ON free_slot (ripe, number);
