"""Headers that the settings add to every answer."""

from __future__ import annotations

import pytest
from starlette.responses import Response

from perdure.errors import AppError
from perdure.host.http.added_headers import AddedHeaders


@pytest.mark.parametrize("value", ["hunter2\r\nX-Other: y", "hunter2\n", "hunter2\x00", "hunter2\u20ac"])
def test_a_value_that_cannot_be_sent_is_refused_and_not_shown(value: str):
    """Somebody may have put a secret there, and what is shown at the start is copied into reports."""
    with pytest.raises(AppError, match=r"DF135[\s\S]*the value of X-Secret") as caught:
        AddedHeaders(Response(), {"X-Secret": value})

    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.args}"


@pytest.mark.parametrize("name", ["", "X Y", "X:Y", "X\n", "X\u00e9"])
def test_a_name_that_cannot_be_sent_is_refused_and_shown_without_its_value(name: str):
    with pytest.raises(AppError, match=r"DF135[\s\S]*the name ") as caught:
        AddedHeaders(Response(), {name: "hunter2"})

    assert repr(name) in str(caught.value)
    assert "hunter2" not in str(caught.value)
