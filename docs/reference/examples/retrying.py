"""What fails, and what is done about it."""

import azure.durable_functions as df

app = df.DFApp()


class Bank:
    """Stands for a service elsewhere.

    Attributes:
        troubles: what the next payments meet, in this order.
        refuses: amounts that it does not pay.
        booked: what was paid and not paid back.
    """

    def __init__(self) -> None:
        self.troubles: list[Exception] = []
        self.refuses: list[int] = []
        self.booked: list[int] = []

    def pay(self, amount: int) -> str:
        if self.troubles:
            raise self.troubles.pop(0)
        if amount in self.refuses:
            raise CardRefused(f"{amount} is more than the card is good for")
        self.booked.append(amount)
        return f"paid {amount}"


class CardRefused(Exception):
    """The bank says no, and will say so again."""


bank = Bank()


@app.activity_trigger(input_name="amount")
def charge(amount: int) -> str:
    try:
        return bank.pay(amount)
    except OSError as error:
        raise RuntimeError("the payment did not go through") from error


@app.activity_trigger(input_name="amount")
def refund(amount: int) -> str:
    bank.booked.remove(amount)
    return f"refunded {amount}"


# example: TaskFailedError
@app.orchestration_trigger(context_name="context")
def pay_or_explain(context: df.DurableOrchestrationContext):
    try:
        return (yield context.call_activity("charge", context.get_input()))
    except Exception as error:
        # error.error_type is "RuntimeError", error.message "the payment did not go through",
        # error.stack_trace where in `charge` that was, error.cause what it came from.
        return f"{error.error_type}: {error.message}, because of {error.cause.error_type}: {error.cause.message}"


# example: TaskFailedError.is_caused_by
@app.orchestration_trigger(context_name="context")
def pay_or_wait(context: df.DurableOrchestrationContext):
    """`charge` raises RuntimeError from a ConnectionError, which is an OSError."""
    try:
        return (yield context.call_activity("charge", context.get_input()))
    except Exception as error:
        if error.is_caused_by(OSError):
            return "the bank cannot be reached: try again later"
        raise


# example: DurableOrchestrationContext.call_activity_with_retry, RetryOptions
@app.orchestration_trigger(context_name="context")
def pay_patiently(context: df.DurableOrchestrationContext):
    """Waits 5, 10, 20, 40 and then always 60 seconds, and gives up after ten attempts or one hour."""
    options = df.RetryOptions(
        first_retry_interval_in_milliseconds=5_000,
        max_number_of_attempts=10,
        backoff_coefficient=2,
        max_retry_interval_in_milliseconds=60_000,
        retry_timeout_in_milliseconds=3_600_000,
    )
    return (yield context.call_activity_with_retry("charge", options, context.get_input()))


# example: RetryOptions.retry_on, RetryOptions.give_up_on
@app.orchestration_trigger(context_name="context")
def pay_unless_refused(context: df.DurableOrchestrationContext):
    """A card that was refused stays refused: only when the bank cannot be reached is there another attempt."""
    options = df.RetryOptions(5_000, 10, retry_on=OSError, give_up_on=CardRefused)
    return (yield context.call_activity_with_retry("charge", options, context.get_input()))


# example: RetryOptions.retry_on
@app.orchestration_trigger(context_name="context")
def pay_unless_told_otherwise(context: df.DurableOrchestrationContext):
    """A function decides; it is orchestrator code, so it must decide the same each time it is asked."""
    options = df.RetryOptions(5_000, 10, retry_on=lambda failure: "closed" not in failure.message)
    return (yield context.call_activity_with_retry("charge", options, context.get_input()))


# example: TaskFailedError
@app.orchestration_trigger(context_name="context")
def pay_both(context: df.DurableOrchestrationContext):
    """All or nothing: if the second payment fails, the first is given back, and the orchestration fails."""
    first, second = context.get_input()
    yield context.call_activity("charge", first)
    try:
        yield context.call_activity("charge", second)
    except Exception:
        yield context.call_activity("refund", first)
        raise
    return "both paid"
