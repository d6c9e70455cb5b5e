"""A class whose objects travel, and a job that somebody else does."""

from pathlib import Path


class Order:
    """What is to be bought, and for how much."""

    def __init__(self, item: str, price: int) -> None:
        self.item = item
        self.price = price

    @staticmethod
    def to_json(order: "Order") -> dict[str, object]:
        return {"item": order.item, "price": order.price}

    @staticmethod
    def from_json(data: dict[str, object]) -> "Order":
        return Order(str(data["item"]), int(str(data["price"])))


def looked_at(job: str) -> int:
    """Look at a job once more; returns how often that was."""
    ledger = Path(f"{job}.looks")
    with ledger.open("a") as file:
        file.write("looked\n")
    return len(ledger.read_text().splitlines())


def job_state(job: str) -> str:
    return "done" if looked_at(job) == 3 else "running"


def price(order: Order) -> Order:
    return Order(order.item.upper(), 3)
