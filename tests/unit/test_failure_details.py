"""Failures as data: what kind they were, what caused them, and how they read."""

import pytest

from perdure.core.codec import decode_failure, encode_failure
from perdure.core.failures import FailureDetails, TaskFailedError, activity_failed


class ShopError(OSError):
    pass


class NoStockError(ShopError):
    pass


def failed_with(error: BaseException) -> TaskFailedError:
    """What an orchestrator sees, after the failure has been stored and read."""
    return activity_failed("a", decode_failure(encode_failure(FailureDetails.of(error))))


def chained() -> BaseException:
    try:
        try:
            raise FileNotFoundError("gone")
        except FileNotFoundError as inner:
            raise NoStockError("none") from inner
    except NoStockError as error:
        return error


@pytest.mark.parametrize("kind", [NoStockError, ShopError, OSError, FileNotFoundError, Exception, BaseException])
def test_a_failure_is_caused_by_each_class_of_its_chain_and_their_bases(kind: type[BaseException]):
    assert failed_with(chained()).is_caused_by(kind)
    assert failed_with(chained()).details.is_caused_by(kind)


@pytest.mark.parametrize("kind", [ValueError, PermissionError, KeyboardInterrupt])
def test_a_failure_is_not_caused_by_others(kind: type[BaseException]):
    assert not failed_with(chained()).is_caused_by(kind)


def test_the_bases_are_those_between_the_class_and_exception():
    assert FailureDetails.of(NoStockError("x")).bases == (f"{__name__}.ShopError", "OSError")
    assert FailureDetails.of(ValueError("x")).bases == ()
    assert FailureDetails.of(SystemExit(1)).bases == ()


def test_a_failure_shows_its_cause():
    error = failed_with(chained())

    assert error.cause is not None
    assert (error.cause.error_type, error.cause.message) == ("FileNotFoundError", "gone")
    assert failed_with(ValueError("x")).cause is None


def test_a_failure_that_was_stored_without_bases_is_read():
    stored = b'{"error_type":"FileNotFoundError","message":"gone"}'

    failure = decode_failure(stored)

    assert failure == FailureDetails("FileNotFoundError", "gone")
    assert failure.is_caused_by(FileNotFoundError)
    assert not failure.is_caused_by(OSError)


def test_the_text_is_the_official_one():
    text = str(failed_with(ValueError("boom")))

    assert text.startswith("Activity function 'a' failed:  ValueError: boom \n {")


@pytest.mark.parametrize("error", [OSError(2, "no such file", "caf\udce9.txt"), ValueError("half \ud83e of a pair")])
def test_a_text_that_is_no_unicode_is_stored_with_its_odd_parts_spelt_out(error: Exception):
    failure = failed_with(error)

    assert "\\ud" in failure.message
    assert failure.details.error_type == type(error).__name__
