"""What holds in every store at every moment: by what it would be called, a statement that finds where it does not."""

from engine.sqlite import sums

CONTENTS_REFERRED_TO = (
    "SELECT content FROM node UNION SELECT content FROM evicted UNION SELECT content FROM intent"
    " UNION SELECT content FROM draft UNION SELECT content FROM change"
)

_REFERRED_TO = f"{CONTENTS_REFERRED_TO} UNION SELECT content FROM named_content"

NEVER: dict[str, str] = {
    "a pipeline or run that counts its objects wrong": (
        "SELECT scope.name, objects, count(node.ino) FROM scope"
        " LEFT JOIN node ON node.scope = scope.ino AND node.kind = 1"
        " GROUP BY scope.ino HAVING objects <> count(node.ino)"
    ),
    "a pipeline or run that counts its bytes wrong": (
        f"SELECT scope.name, bytes, {sums.at_most('node.size')} AS counted FROM scope"
        " LEFT JOIN node ON node.scope = scope.ino AND node.kind = 1"
        " GROUP BY scope.ino HAVING bytes <> counted"
    ),
    "a store that counts its bytes wrong": (  # modulo 2**64, as it counts them
        f"SELECT bytes FROM store WHERE bytes <> (SELECT {sums.wrapped('bytes')} FROM scope)"
    ),
    "a pipeline over its limit": (
        "SELECT scope.name, objects FROM scope, store WHERE scope.kind = 1 AND objects >"
        " coalesce(nullif(coalesce(scope.object_limit, store.object_limit), 0), 9e18)"
    ),
    "a name in a directory that is not there": (
        "SELECT ino, name FROM node WHERE parent <> 0 AND parent NOT IN (SELECT ino FROM node WHERE kind = 0)"
    ),
    "a name without a parent that is neither the root nor doomed": (
        "SELECT ino, name FROM node WHERE parent = 0 AND ino <> 1 AND ino NOT IN (SELECT ino FROM doomed)"
    ),
    "a doomed directory that is not there": "SELECT ino FROM doomed WHERE ino NOT IN (SELECT ino FROM node)",
    "a pipeline or run without its directory": (
        "SELECT scope.ino, scope.name FROM scope LEFT JOIN node ON node.ino = scope.ino"
        " WHERE node.ino IS NULL OR node.scope <> scope.ino OR node.name <> scope.name OR node.parent <> scope.kind + 1"
    ),
    "a directory beside the fixed ones that is no pipeline or run": (
        "SELECT ino, name FROM node WHERE parent IN (2, 3) AND ino NOT IN (SELECT ino FROM scope)"
    ),
    "a name in another pipeline or run than its directory": (
        "WITH RECURSIVE reached(ino, scope) AS (SELECT ino, ino FROM scope UNION ALL"
        " SELECT node.ino, reached.scope FROM node JOIN reached ON node.parent = reached.ino)"
        " SELECT node.ino, node.name, node.scope, reached.scope FROM node JOIN reached USING (ino)"
        " WHERE node.scope <> reached.scope"
    ),
    "an object that should be evictable and is not, or the other way round": (
        "SELECT node.ino, node.name FROM node JOIN scope ON scope.ino = node.scope"
        " WHERE evictable <> (node.kind = 1 AND scope.kind = 1)"
    ),
    "two objects put at the same moment": (
        "SELECT put_ns FROM node WHERE kind = 1 GROUP BY put_ns HAVING count(*) > 1"
    ),
    "a directory or symlink with a value": (
        "SELECT ino, name FROM node WHERE kind <> 1 AND (content <> 0 OR put_ns <> 0)"
    ),
    "a number given out that was taken already": (
        "SELECT ino FROM node, store WHERE ino >= next_id OR content >= next_id"
    ),
    "an evicted object that is also in the tree": "SELECT ino, name FROM evicted WHERE ino IN (SELECT ino FROM node)",
    "a value that two names have": (
        "SELECT content FROM (SELECT content FROM node UNION ALL SELECT content FROM evicted"
        " UNION ALL SELECT content FROM intent UNION ALL SELECT content FROM draft) WHERE content <> 0"
        " GROUP BY content HAVING count(*) > 1"
    ),
    "a value to be deleted that something still refers to": (
        "SELECT content FROM change WHERE content <> 0 AND content IN (SELECT content FROM node UNION SELECT content"
        " FROM evicted UNION SELECT content FROM intent UNION SELECT content FROM draft)"
    ),
    "something of a session that is not listed": (
        "SELECT session FROM (SELECT session FROM intent UNION SELECT session FROM draft UNION SELECT session FROM pin)"
        " WHERE session NOT IN (SELECT id FROM session)"
    ),
    "a chunk that no value has": "SELECT id FROM chunk WHERE id NOT IN (SELECT chunk FROM extent)",
    "an extent without its chunk": (
        "SELECT content, position FROM extent WHERE chunk >= 0 AND chunk NOT IN (SELECT id FROM chunk)"
    ),
    "a slot that is used and free": "SELECT number FROM free_slot WHERE -1 - number IN (SELECT chunk FROM extent)",
    "a slot that is neither used nor free": (
        "SELECT slots FROM store WHERE slots <> (SELECT count(*) FROM free_slot)"
        " + (SELECT count(DISTINCT chunk) FROM extent WHERE chunk < 0)"
    ),
    "a slot behind the end of the data file": (
        "SELECT content FROM extent, store WHERE -1 - chunk >= slots UNION SELECT number FROM free_slot, store"
        " WHERE number >= slots"
    ),
    "a chunk that is too long": "SELECT id FROM chunk WHERE length(data) > 262144",
    "a row of a value with another size than it says": (
        "SELECT number FROM content WHERE data IS NOT NULL AND length(data) <> size"
    ),
    "an extent behind the end of its value": (
        "SELECT number FROM extent JOIN content ON content.number = extent.content WHERE position * 262144 >= size"
    ),
    "a value that nothing refers to": f"SELECT number FROM content WHERE number NOT IN ({_REFERRED_TO})",
    "chunks that nothing refers to": f"SELECT DISTINCT content FROM extent WHERE content NOT IN ({_REFERRED_TO})",
    "a key without its value": "SELECT key FROM named_content WHERE content NOT IN (SELECT number FROM content)",
}
