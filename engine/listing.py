"""The objects below a directory in the order of their keys, a page of names at a time: any number, at any depth."""

from collections.abc import Iterator
from heapq import heappop, heappush

from engine.model import Kind, Node, ObjectInfo
from engine.tree import Tree

_PAGE = 256


def objects(tree: Tree, directory: int, prefix: bytes) -> Iterator[ObjectInfo]:
    """The objects below a directory whose keys begin with `prefix`."""
    *parts, beginning = prefix.split(b"/")

    def walk(directory: int, depth: int) -> Iterator[Node]:
        if depth < len(parts):
            return _of_name(tree, directory, parts[depth])
        return _in_order(tree, directory, beginning if depth == len(parts) else b"")

    # No recursion, and no key for each level: a tree may be thousands of directories deep.
    names: list[bytes] = []
    walks = [walk(directory, 0)]
    while walks:
        node = next(walks[-1], None)
        if node is None:
            walks.pop()
            del names[-1:]
        elif node.kind == Kind.DIRECTORY:
            names.append(node.name + b"/")
            walks.append(walk(node.ino, len(names)))
        else:
            yield info(node, b"".join((*names, node.name)))


def info(node: Node, key: bytes) -> ObjectInfo:
    return ObjectInfo(key, node.size, node.mtime_ns, node.put_ns)


def _of_name(tree: Tree, directory: int, name: bytes) -> Iterator[Node]:
    """The directory of that name, if there is one."""
    found = tree.child(directory, name)
    return iter([found] if found is not None and found.kind == Kind.DIRECTORY else [])


def _in_order(tree: Tree, directory: int, beginning: bytes) -> Iterator[Node]:
    """Objects and directories whose names begin so, in the order of the keys of what they are or hold."""
    # Names sort as their keys do once a directory's has its slash: "a-b" comes before "a/b", and "a" is read before it.
    waiting: list[tuple[bytes, Node]] = []
    for node in _beginning_with(tree, directory, beginning):
        while waiting and waiting[0][0] < node.name:
            yield heappop(waiting)[1]
        if node.kind == Kind.DIRECTORY:
            heappush(waiting, (node.name + b"/", node))
        elif node.kind == Kind.OBJECT:
            yield node
    while waiting:
        yield heappop(waiting)[1]


def _beginning_with(tree: Tree, directory: int, part: bytes) -> Iterator[Node]:
    exact = tree.child(directory, part) if part else None
    if exact is not None:
        yield exact
    after = part
    while page := tree.children(directory, after, _PAGE):
        for node in page:
            if not node.name.startswith(part):
                return
            yield node
        after = page[-1].name
