"""The objects below a directory in the order of their keys, a page of names at a time: any number of them."""

from collections.abc import Iterator
from heapq import heappop, heappush

from engine.model import Kind, Node, ObjectInfo
from engine.tree import Tree

_PAGE = 256


def objects(tree: Tree, directory: int, prefix: bytes, path: bytes = b"") -> Iterator[ObjectInfo]:
    """The objects whose keys begin with `path`, which is the directory's key and a slash, and with `prefix`."""
    part, slash, _ = prefix[len(path) :].partition(b"/")
    if slash:
        found = tree.child(directory, part)
        entries = iter([found] if found is not None and found.kind == Kind.DIRECTORY else [])
    else:
        entries = _beginning_with(tree, directory, part)
    # Names sort as their keys do once a directory's has its slash: "a-b" comes before "a/b", and "a" is read before it.
    waiting: list[tuple[bytes, int]] = []
    for node in entries:
        while waiting and waiting[0][0] < node.name:
            yield from _below(tree, heappop(waiting), prefix, path)
        if node.kind == Kind.DIRECTORY:
            heappush(waiting, (node.name + b"/", node.ino))
        elif node.kind == Kind.OBJECT:
            yield info(node, path + node.name)
    while waiting:
        yield from _below(tree, heappop(waiting), prefix, path)


def info(node: Node, key: bytes) -> ObjectInfo:
    return ObjectInfo(key, node.size, node.mtime_ns, node.put_ns)


def _below(tree: Tree, directory: tuple[bytes, int], prefix: bytes, path: bytes) -> Iterator[ObjectInfo]:
    name, ino = directory
    return objects(tree, ino, prefix, path + name)


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
