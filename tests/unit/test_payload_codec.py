"""Values of an app's types as payloads: what is written, what comes back, and what is refused with its place."""

import base64
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest

from perdure.core.codec import PayloadCodec
from perdure.core.conversion import annotated_type, asked_type
from perdure.errors import PayloadTooLargeError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


@dataclass
class Line:
    sku: str
    quantity: int = 1


@dataclass
class Order:
    id: uuid.UUID
    when: datetime
    lines: list[Line]
    colour: Colour = Colour.RED
    notes: dict[str, Any] = field(default_factory=dict)


class Envelope:
    """A class with the SDK's protocol."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @staticmethod
    def to_json(each: "Envelope") -> Any:
        return each.value

    @classmethod
    def from_json(cls, data: Any) -> "Envelope":
        if data == "bad":
            raise ValueError("not today")
        return cls(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Envelope) and self.value == other.value

    __hash__ = None


class Model:
    """What a pydantic model can do."""

    def __init__(self, number: int) -> None:
        self.number = number

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"number": self.number}

    @classmethod
    def model_validate(cls, value: Any) -> "Model":
        if not isinstance(value, dict) or not isinstance(value.get("number"), int):
            raise ValueError("number: a number is missing")
        return cls(value["number"])


WHEN = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ORDER = Order(ID, WHEN, [Line("a", 2), Line("b")], Colour.BLUE, {"x": 1})


@pytest.fixture
def codec() -> PayloadCodec:
    return PayloadCodec()


# ---------------------------------------------------------------------- what is written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Colour.RED, '"red"'),
        (Level.LOW, "1"),
        (WHEN, '"2026-01-02T03:04:05.678900Z"'),
        (WHEN.replace(tzinfo=None, microsecond=0), '"2026-01-02T03:04:05"'),
        (WHEN.astimezone(timezone(timedelta(hours=2))), '"2026-01-02T05:04:05.678900+02:00"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (time(3, 4), '"03:04:00"'),
        (timedelta(days=1, seconds=2.5), '"P1DT2.5S"'),
        (ID, '"12345678-1234-5678-1234-567812345678"'),
        (Decimal("1.10"), '"1.10"'),
        (Line("a"), '{"sku": "a", "quantity": 1}'),
        ({"lines": (Line("a"),)}, '{"lines": [{"sku": "a", "quantity": 1}]}'),
        (Model(5), '{"number": 5}'),
    ],
)
def test_known_kinds_are_written_as_plain_json(codec: PayloadCodec, value: Any, text: str):
    assert codec.encode(value) == text


def test_objects_with_to_json_keep_the_sdks_envelope_wherever_they_are(codec: PayloadCodec):
    @dataclass
    class Both(Envelope):
        value: int

    name = f'"__class__": "Envelope", "__module__": "{__name__}"'

    assert codec.encode({"a": [Envelope(1)]}) == f'{{"a": [{{{name}, "__data__": 1}}]}}'
    assert codec.encode(Line("x", Envelope(None))) == f'{{"sku": "x", "quantity": {{{name}, "__data__": null}}}}'
    assert '"__class__": "Both"' in codec.encode(Both(1))


def test_plain_values_are_written_as_the_standard_library_does(codec: PayloadCodec):
    value = {"text": 'é\n"', "numbers": [1, -2.5, 10**30], 1: None, "nested": {"t": (True, False)}}

    assert codec.encode('é\u2028"') == '"\\u00e9\\u2028\\""'
    assert codec.encode(value) == (
        '{"text": "\\u00e9\\n\\"", "numbers": [1, -2.5, 1000000000000000000000000000000], "1": null, '
        '"nested": {"t": [true, false]}}'
    )


# ---------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Colour.BLUE, Colour),
        (WHEN, datetime),
        (date(2026, 1, 2), date),
        (time(3, 4), time),
        (timedelta(days=1, seconds=2.5), timedelta),
        (ID, uuid.UUID),
        (Decimal("1.10"), Decimal),
        (ORDER, Order),
        ([ORDER], list[Order]),
        ({"a": ORDER}, dict[str, Order]),
        ({1: Line("a")}, dict[int, Line]),
        (ORDER, Order | None),
        (None, Order | None),
        ((1, "a"), tuple[int, str]),
        (Envelope(1), Envelope),
        ([Envelope(1), None], list[Envelope | None]),
        (3, float),
    ],
)
def test_an_asked_type_is_given(codec: PayloadCodec, value: Any, kind: Any):
    assert codec.decode_as(codec.encode(value), asked_type(kind)) == value


def test_an_envelope_of_another_process_opens_where_its_class_is_asked_for(codec: PayloadCodec):
    text = PayloadCodec().encode([Envelope(1)])

    assert isinstance(codec.decode(text)[0], dict)
    assert codec.decode_as(text, asked_type(list[Envelope])) == [Envelope(1)]


def test_plain_data_becomes_the_asked_class_through_its_from_json(codec: PayloadCodec):
    assert codec.decode_as('{"a": 1}', asked_type(Envelope)) == Envelope({"a": 1})
    assert codec.decode_as("[1, 2]", asked_type(list[Envelope])) == [Envelope(1), Envelope(2)]


def test_an_envelope_of_another_class_is_not_forced_into_the_asked_one(codec: PayloadCodec):
    text = '{"__class__": "Other", "__module__": "elsewhere", "__data__": 1}'

    with pytest.raises(TypeError, match="Expected `Envelope`, got `dict`"):
        codec.decode_as(text, asked_type(Envelope))


@pytest.mark.parametrize("kind", [Model, list[Model], Model | None, dict[str, Model]])
def test_a_pydantic_model_is_given_without_an_import(codec: PayloadCodec, kind: Any):
    value = {list[Model]: [Model(5)], dict[str, Model]: {"a": Model(5)}}.get(kind, Model(5))

    found = codec.decode_as(codec.encode(value), asked_type(kind))

    inner = next(iter(found.values())) if isinstance(found, dict) else found[0] if isinstance(found, list) else found
    assert (type(inner), inner.number) == (Model, 5)


def test_a_dataclass_may_hold_models_and_envelopes(codec: PayloadCodec):
    @dataclass
    class Mixed:
        model: Model
        envelope: Envelope | None = None

    found = codec.decode_as(codec.encode(Mixed(Model(1), Envelope(2))), asked_type(Mixed))

    assert (found.model.number, found.envelope) == (1, Envelope(2))


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ('"5"', int, "the value is no int: Expected `int`, got `str` - at `$`"),
        ("null", Order, "the value is no Order: Expected `object`, got `null` - at `$`"),
        ('[{"sku": 5}]', list[Line], "Expected `str`, got `int` - at `$[0].sku`"),
        ('{"a": {}}', dict[str, Line], "missing required field `sku` - at `$[...]`"),
        ('"green"', Colour, "Invalid enum value 'green' - at `$`"),
        ('[{"number": "x"}]', list[Model], "number: a number is missing - at `$[0]`"),
        ('{"value": "bad"}', dict[str, Envelope], "not today - at `$[...]`"),
        ("5", Line | Order, "values cannot be turned into"),
        ("5", "int", "values cannot be turned into int"),
    ],
)
def test_what_does_not_fit_the_asked_type_is_refused_with_its_place(
    codec: PayloadCodec, text: str, kind: Any, message: str
):
    with pytest.raises(TypeError) as caught:
        codec.decode_as(text, asked_type(kind))

    assert message in str(caught.value)


def test_no_value_stays_none_whatever_is_asked_for(codec: PayloadCodec):
    assert codec.decode_as(None, asked_type(Order)) is None
    assert asked_type(None) is None


# ---------------------------------------------------------------------- annotations


@pytest.mark.parametrize(
    "annotation",
    [int, str, float, bytes, list, list[int], dict[str, Any], set, tuple[int, str], Any, None, Envelope, "x"],
)
def test_an_annotation_of_what_json_holds_changes_nothing(annotation: Any):
    assert annotated_type(annotation, "f") is None


@pytest.mark.parametrize(
    "annotation", [Line, list[Line], Line | None, Colour, datetime, Decimal, Model, dict[str, date]]
)
def test_an_annotation_of_another_kind_is_a_type_that_is_expected(annotation: Any):
    expected = annotated_type(annotation, "f")

    assert expected is not None
    assert (expected.kind, expected.function) == (annotation, "f")


def test_what_does_not_fit_an_annotation_is_given_as_it_is_with_one_warning_for_the_function(codec: PayloadCodec):
    told: list[tuple[str, str]] = []
    codec.misfit = lambda function, reason: told.append((function, reason))

    assert codec.decode_as('{"x": 1}', annotated_type(Line, "f")) == {"x": 1}
    assert codec.decode_as("5", annotated_type(Line, "f")) == 5
    assert codec.decode_as("5", annotated_type(Line, "g")) == 5
    assert codec.decode_as('{"sku": "a"}', annotated_type(Line, "f")) == Line("a")

    assert [function for function, _ in told] == ["f", "g"]
    assert told[1][1] == "Line: the value is no Line: Expected `object`, got `int` - at `$`"


def test_an_annotation_that_no_value_could_fit_breaks_nothing(codec: PayloadCodec):
    @dataclass
    class Unusable:
        other: "NotThere"  # type: ignore[name-defined]  # noqa: F821

    @dataclass
    class Raising:
        number: int

        def __post_init__(self) -> None:
            raise LookupError("no")

    assert codec.decode_as('{"other": 1}', annotated_type(Unusable, "f")) == {"other": 1}
    assert codec.decode_as('{"number": 1}', annotated_type(Raising, "g")) == {"number": 1}
    assert codec.decode_as("5", annotated_type(Line | Order, "h")) == 5


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        (object(), "$", "class <class 'object'> does not expose a `to_json` function"),
        ({"items": [1, 2, 3, {"when": object()}]}, "$.items[3].when", "<class 'object'>"),
        ({"a b": {5: object()}}, "$['a b']['5']", "<class 'object'>"),
        ([(1, {2})], "$[0][1]", "class <class 'set'> does not expose a `to_json` function"),
        (Line("a", frozenset()), "$.quantity", "pass a list"),
        ({"data": b"x"}, "$.data", "base64"),
        (Envelope([object()]), "$.__data__[0]", "<class 'object'>"),
        ({"k" * 100: object()}, "$." + "k" * 40, "<class 'object'>"),
        ({"a": {(1, 2): 3}}, "$.a", "keys must be str, int, float, bool or None, not tuple"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(codec: PayloadCodec, value: Any, path: str, why: str):
    with pytest.raises(TypeError) as caught:
        codec.encode(value)

    message = str(caught.value)
    assert why in message
    assert f"so the value at {path} cannot be written as JSON (DF301): " in message


def test_a_number_that_json_does_not_have_is_refused_with_its_place(codec: PayloadCodec):
    with pytest.raises(ValueError, match=r"nan is not a number that JSON has, so the value at \$\[1\]\.x cannot"):
        codec.encode([1.5, {"x": float("nan")}])


def test_a_value_that_contains_itself_is_refused_with_its_place(codec: PayloadCodec):
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)

    with pytest.raises(ValueError, match=r"the value contains itself, so the value at \$\.a\[1\] cannot"):
        codec.encode(value)


def test_the_same_part_twice_is_no_circle(codec: PayloadCodec):
    part = [object()]

    with pytest.raises(TypeError, match=r"\$\[1\]\[0\]"):
        codec.encode([[1], part, part])


def test_what_a_to_json_raises_comes_through(codec: PayloadCodec):
    class Failing:
        def to_json(self) -> Any:
            raise ArithmeticError("mine")

    class Refusing:
        def to_json(self) -> Any:
            raise ValueError("also mine")

    with pytest.raises(ArithmeticError, match=r"^mine$"):
        codec.encode([Failing()])
    with pytest.raises(ValueError, match=r"^also mine$"):
        codec.encode([Refusing()])


# ---------------------------------------------------------------------- limits


def test_five_megabytes_are_a_payload_like_any_other(codec: PayloadCodec):
    text = "x" * 5_000_000

    assert codec.decode(codec.encode(text)) == text


def test_a_payload_up_to_the_limit_is_written_and_a_larger_one_refused(codec: PayloadCodec):
    codec.limit_bytes = 100

    assert len(codec.encode("x" * 98)) == 100
    with pytest.raises(
        PayloadTooLargeError, match=r"Payload too large: 101 bytes \(limit 100 bytes\) \(DF302\)\. Large"
    ):
        codec.encode("x" * 99)


def test_a_payload_that_is_too_large_is_refused_with_its_largest_part(codec: PayloadCodec):
    codec.limit_bytes = 1000
    rows = base64.b64encode(bytes(300_000)).decode()

    with pytest.raises(ValueError, match="DF302") as caught:
        codec.encode({"id": 1, "report": [{"small": 1}, {"rows": rows, "other": "x" * 100}]})

    assert "Payload too large: 0.4 MB (limit 1,000 bytes)" in str(caught.value)
    assert "Most of it is at $.report[1].rows (0.4 MB)" in str(caught.value)
    assert (caught.value.size_bytes > 400_000, caught.value.limit_bytes) == (True, 1000)


def test_a_payload_of_many_equal_parts_has_no_largest(codec: PayloadCodec):
    codec.limit_bytes = 1000

    with pytest.raises(PayloadTooLargeError) as caught:
        codec.encode([1] * 1000)

    assert caught.value.path == "$"
