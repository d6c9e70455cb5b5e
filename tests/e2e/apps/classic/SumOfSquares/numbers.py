def numbers_below(end: int) -> list[int]:
    return list(range(end))
