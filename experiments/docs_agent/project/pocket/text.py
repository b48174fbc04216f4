def wrap_words(text: str, width: int = 72) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def shorten(text: str, limit: int = 40, ending: str = "...") -> str:
    return text if len(text) <= limit else text[: limit - len(ending)] + ending


def indent_by(text: str, depth: int = 1, unit: str = "  ") -> str:
    return "\n".join(unit * depth + line for line in text.split("\n"))


def squeeze(text: str, blank: str = " ") -> str:
    return blank.join(text.split())


def title_case(text: str, small: tuple[str, ...] = ("of", "the")) -> str:
    return " ".join(word if word in small else word.capitalize() for word in text.split())


def mask_middle(text: str, shown: int = 2, sign: str = "*") -> str:
    if len(text) <= 2 * shown:
        return sign * len(text)
    return text[:shown] + sign * (len(text) - 2 * shown) + text[len(text) - shown :]


def count_of(text: str, part: str, fold_case: bool = False) -> int:
    return text.casefold().count(part.casefold()) if fold_case else text.count(part)


def strip_marks(text: str, marks: str = ".,;:!?") -> str:
    return "".join(sign for sign in text if sign not in marks)


def repeat_text(text: str, times: int, between: str = "") -> str:
    return between.join([text] * times)


def centre_in(text: str, width: int, fill: str = " ") -> str:
    return text.center(width, fill)
