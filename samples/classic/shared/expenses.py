"""What the functions of this app agree on."""

DECISION = "Decision"
APPROVED = "approved"

# Smaller amounts need nobody's approval.
FREE_BELOW = 50


def problem_of(expense: object) -> str | None:
    """Why somebody's expense cannot be dealt with, or None."""
    if not isinstance(expense, dict) or not isinstance(expense.get("by"), str):
        return 'Say who it is by and how much it is:  {"by": "ann", "amount": 120}'
    if not isinstance(expense.get("amount"), int | float) or expense["amount"] <= 0:
        return "The amount has to be a number above 0."
    return None
