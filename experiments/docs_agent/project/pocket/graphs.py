def neighbours(edges: list[tuple[str, str]], node: str, both_ways: bool = True) -> list[str]:
    found = {b for a, b in edges if a == node}
    if both_ways:
        found |= {a for a, b in edges if b == node}
    return sorted(found)


def degree(edges: list[tuple[str, str]], node: str, loops: int = 2) -> int:
    return sum(loops if a == b == node else node in (a, b) for a, b in edges)


def reachable(edges: list[tuple[str, str]], start: str, most: int = 100) -> list[str]:
    seen = {start}
    edge_of = {start}
    for _ in range(most):
        edge_of = {b for a, b in edges if a in edge_of} - seen
        if not edge_of:
            break
        seen |= edge_of
    return sorted(seen)


def has_edge(edges: list[tuple[str, str]], one: str, other: str, directed: bool = False) -> bool:
    return (one, other) in edges or (not directed and (other, one) in edges)


def edges_of_path(nodes: list[str], closed: bool = False) -> list[tuple[str, str]]:
    ends = [*nodes[1:], nodes[0]] if closed else nodes[1:]
    return list(zip(nodes, ends, strict=False))


def without_node(edges: list[tuple[str, str]], node: str, copies: bool = True) -> list[tuple[str, str]]:
    kept = [edge for edge in edges if node not in edge]
    return kept if copies else list(dict.fromkeys(kept))


def all_nodes(edges: list[tuple[str, str]], backwards: bool = False) -> list[str]:
    return sorted({node for edge in edges for node in edge}, reverse=backwards)


def leaves(edges: list[tuple[str, str]], ends: int = 1) -> list[str]:
    nodes = [node for edge in edges for node in edge]
    return sorted({node for node in nodes if nodes.count(node) == ends})


def flipped(edges: list[tuple[str, str]], keep: bool = False) -> list[tuple[str, str]]:
    turned = [(b, a) for a, b in edges]
    return edges + turned if keep else turned


def hop_count(parents: dict[str, str], node: str, most: int = 50) -> int:
    hops = 0
    while node in parents and hops < most:
        node = parents[node]
        hops += 1
    return hops
