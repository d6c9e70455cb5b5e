"""Pays an expense, and returns the receipt."""

import logging


def pay(expense: dict) -> str:
    logging.info("paying %s to %s", expense["amount"], expense["by"])
    return f"paid {expense['amount']} to {expense['by']}"
