def greeting(name: str, hour: int = 9) -> str:
    return f"Good {'morning' if hour < 12 else 'evening'}, {name}"


def quoted(text: str, sign: str = "> ") -> str:
    return "\n".join(sign + line for line in text.split("\n"))


def fill_in(template: str, values: dict[str, str], mark: str = "$") -> str:
    for name, value in values.items():
        template = template.replace(mark + name, value)
    return template


def subject_line(text: str, prefix: str = "Re: ") -> str:
    return text if text.startswith(prefix) else prefix + text


def mentions(text: str, sign: str = "@") -> list[str]:
    return [word[len(sign) :] for word in text.split() if word.startswith(sign)]


def reading_minutes(text: str, speed: int = 200) -> int:
    return -(-len(text.split()) // speed)


def preview(text: str, words: int = 5) -> str:
    return " ".join(text.split()[:words])


def is_shouting(text: str, share: float = 0.5) -> bool:
    letters = [c for c in text if c.isalpha()]
    return sum(c.isupper() for c in letters) > share * len(letters)


def signature(name: str, role: str = "", line: str = "--") -> list[str]:
    return [line, name, role] if role else [line, name]


def recipients(addresses: str, separator: str = ";") -> list[str]:
    return [part.strip() for part in addresses.split(separator) if part.strip()]
