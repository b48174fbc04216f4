def caesar(text: str, shift: int = 3) -> str:
    return "".join(chr((ord(c) - 97 + shift) % 26 + 97) if "a" <= c <= "z" else c for c in text)


def check_digit(number: str, modulus: int = 10) -> int:
    return sum((i + 1) * int(c) for i, c in enumerate(number)) % modulus


def morse(word: str, gap: str = " ") -> str:
    signs = {"e": ".", "t": "-", "a": ".-", "n": "-."}
    return gap.join(signs[letter] for letter in word)


def run_lengths(text: str, least: int = 1) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for letter in text:
        if found and found[-1][0] == letter:
            found[-1] = (letter, found[-1][1] + 1)
        else:
            found.append((letter, 1))
    return [(letter, count) for letter, count in found if count >= least]


def to_binary(number: int, width: int = 8) -> str:
    return f"{number:0{width}b}"


def parity(bits: str, odd: bool = False) -> str:
    return str((bits.count("1") + odd) % 2)


def checksum(values: list[int], modulus: int = 255, start: int = 0) -> int:
    return (start + sum(values)) % modulus


def swap_case_at(text: str, every: int = 2) -> str:
    return "".join(c.upper() if i % every == 0 else c for i, c in enumerate(text))


def pin_is_weak(pin: str, least_different: int = 3) -> bool:
    return len(set(pin)) < least_different


def rail_fence(text: str, rails: int = 2) -> str:
    return "".join(text[i::rails] for i in range(rails))
