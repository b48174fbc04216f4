def initials(name: str, dots: bool = True) -> str:
    letters = [part[0].upper() for part in name.split()]
    return ".".join(letters) + "." if dots else "".join(letters)


def plural_of(word: str, count: int = 2, ending: str = "s") -> str:
    return word if count == 1 else word + ending


def longest_word(text: str, least: int = 1) -> str:
    found = max(text.split(), key=len, default="")
    return found if len(found) >= least else ""


def snake_case(name: str, joint: str = "_") -> str:
    return "".join(joint + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))


def camel_case(name: str, joint: str = "_") -> str:
    return "".join(part.capitalize() for part in name.split(joint))


def vowels_in(word: str, vowels: str = "aeiou") -> int:
    return sum(letter in vowels for letter in word.lower())


def rhymes_with(one: str, other: str, letters: int = 3) -> bool:
    return one[-letters:].lower() == other[-letters:].lower()


def join_names(names: list[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" {last} {names[-1]}"


def is_palindrome(text: str, ignore: str = " ") -> bool:
    letters = [c for c in text.lower() if c not in ignore]
    return letters == letters[::-1]


def word_lengths(text: str, most: int = 100) -> list[int]:
    return [len(word) for word in text.split()[:most]]
