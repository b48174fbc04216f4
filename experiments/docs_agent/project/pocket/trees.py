def outline(titles: list[tuple[int, str]], bullet: str = "-") -> list[str]:
    return ["  " * level + f"{bullet} {title}" for level, title in titles]


def height(parents: dict[str, str], empty: int = 0) -> int:
    def above(node: str) -> int:
        return 1 + above(parents[node]) if node in parents else 1

    return max((above(node) for node in parents), default=empty)


def children_of(parents: dict[str, str], node: str, ordered: bool = True) -> list[str]:
    found = [child for child, parent in parents.items() if parent == node]
    return sorted(found) if ordered else found


def roots(parents: dict[str, str], ordered: bool = True) -> list[str]:
    found = list(dict.fromkeys(parent for parent in parents.values() if parent not in parents))
    return sorted(found) if ordered else found


def path_to(parents: dict[str, str], node: str, separator: str = "/") -> str:
    names = [node]
    while names[0] in parents:
        names.insert(0, parents[names[0]])
    return separator.join(names)


def prune(parents: dict[str, str], node: str, itself: bool = True) -> dict[str, str]:
    return {c: p for c, p in parents.items() if p != node and not (itself and c == node)}


def section_number(counts: list[int], dot: str = ".") -> str:
    return dot.join(str(count) for count in counts)


def siblings(parents: dict[str, str], node: str, with_self: bool = False) -> list[str]:
    return sorted(n for n, p in parents.items() if p == parents.get(node) and (with_self or n != node))


def nested_value(tree: list[int], index: int = 0) -> list[int]:
    return [tree[i] for i in (2 * index + 1, 2 * index + 2) if i < len(tree)]


def brackets(depth: int, pair: str = "()") -> str:
    return pair[0] * depth + pair[1] * depth
