"""What an app's settings and annotations say about payloads."""

import logging
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from perdure.core.codec import LIMIT_BYTES, payloads
from perdure.core.conversion import annotated_type
from perdure.host.app.payload_classes import allow_payload_classes, limit_payloads


@pytest.fixture(autouse=True)
def _restore_the_codec() -> Iterator[None]:
    limit, misfit = payloads.limit_bytes, payloads.misfit
    yield
    payloads.limit_bytes, payloads.misfit = limit, misfit


def test_the_limit_of_payloads_is_a_setting():
    assert limit_payloads({"PERDURE_MAX_PAYLOAD_BYTES": "1000"}) == []
    assert payloads.limit_bytes == 1000

    assert limit_payloads({}) == []
    assert payloads.limit_bytes == LIMIT_BYTES == 64 * 1024 * 1024


@pytest.mark.parametrize("value", ["", "4 MB", "-1", "0", "1.5", "٥"])
def test_a_limit_that_is_no_number_of_bytes_is_a_warning(value: str):
    [warning] = limit_payloads({"PERDURE_MAX_PAYLOAD_BYTES": value})

    assert warning == (
        f"PERDURE_MAX_PAYLOAD_BYTES is '{value}', but must be a number of bytes; the limit stays 67,108,864"
    )
    assert payloads.limit_bytes == LIMIT_BYTES


def test_a_value_that_does_not_fit_an_annotation_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    allow_payload_classes(tmp_path, [])

    with caplog.at_level(logging.WARNING, "perdure.host"):
        assert payloads.decode_as('"x"', annotated_type(date, "charge")) == "x"

    [record] = caplog.records
    assert "a value does not fit an annotation, and is given as it is" in record.getMessage()
    assert record.__dict__["function"] == "charge"
