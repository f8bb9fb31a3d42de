"""Seeds made of names and numbers, so that everything drawn is a pure function of what it is drawn for."""
import hashlib


def seed_of(*parts: object) -> int:
    """A seed of 63 bits from anything that can be printed; equal parts give equal seeds on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
