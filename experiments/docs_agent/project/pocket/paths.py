def extension(path: str, otherwise: str = "") -> str:
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[1] if "." in name else otherwise


def with_extension(path: str, ending: str = "txt") -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rsplit('.', 1)[0]}.{ending}"


def join_path(parts: list[str], separator: str = "/") -> str:
    return separator.join(part.strip(separator) for part in parts)


def depth_of(path: str, separator: str = "/") -> int:
    return path.strip(separator).count(separator)


def is_hidden(path: str, sign: str = ".") -> bool:
    return path.rsplit("/", 1)[-1].startswith(sign)


def safe_name(title: str, joint: str = "-", longest: int = 30) -> str:
    kept = "".join(c if c.isalnum() else " " for c in title.lower())
    return joint.join(kept.split())[:longest]


def backup_name(path: str, number: int = 1) -> str:
    return f"{path}.{number}.bak"


def common_folder(paths: list[str], fallback: str = "/") -> str:
    split = [path.split("/")[:-1] for path in paths]
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) or fallback


def matches_ending(path: str, endings: tuple[str, ...] = ("md", "txt")) -> bool:
    return path.rsplit(".", 1)[-1] in endings


def numbered_name(stem: str, number: int, digits: int = 3) -> str:
    return f"{stem}-{number:0{digits}}"
