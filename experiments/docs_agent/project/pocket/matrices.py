def zeros(rows: int, columns: int = 1) -> list[list[int]]:
    return [[0] * columns for _ in range(rows)]


def identity(size: int, one: int = 1) -> list[list[int]]:
    return [[one if i == j else 0 for j in range(size)] for i in range(size)]


def add_grids(one: list[list[int]], other: list[list[int]], weight: int = 1) -> list[list[int]]:
    return [[a + weight * b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=True)]


def row_sums(grid: list[list[int]], start: int = 0) -> list[int]:
    return [sum(row, start) for row in grid]


def diagonal(grid: list[list[int]], offset: int = 0) -> list[int]:
    return [row[i + offset] for i, row in enumerate(grid) if 0 <= i + offset < len(row)]


def quarter_turn(grid: list[list[int]], times: int = 1) -> list[list[int]]:
    for _ in range(times):
        grid = [list(row) for row in zip(*grid[::-1], strict=True)]
    return grid


def mirror_rows(grid: list[list[int]], upside_down: bool = False) -> list[list[int]]:
    return grid[::-1] if upside_down else [row[::-1] for row in grid]


def cells_above(grid: list[list[int]], limit: int = 0) -> list[tuple[int, int]]:
    return [(i, j) for i, row in enumerate(grid) for j, cell in enumerate(row) if cell > limit]


def framed(grid: list[list[int]], edge: int = 0) -> list[list[int]]:
    width = len(grid[0]) + 2
    return [[edge] * width, *([edge, *row, edge] for row in grid), [edge] * width]


def cut_out(grid: list[list[int]], rows: int, columns: int, top: int = 0) -> list[list[int]]:
    return [row[:columns] for row in grid[top : top + rows]]
