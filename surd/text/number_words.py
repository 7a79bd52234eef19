"""Small numbers as words."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""The word of each number from 0 to 10."""


def spellings(answer: str) -> list[str]:
    """An answer, and a number also the other way: ``four`` and ``4``."""
    plain = answer.strip()
    words = {word: str(value) for value, word in enumerate(NUMBERS)}
    other = words.get(plain.lower()) or {n: w for w, n in words.items()}.get(plain)
    return [plain, other] if other else [plain]
