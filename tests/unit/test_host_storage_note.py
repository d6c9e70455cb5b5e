"""What becomes of AzureWebJobsStorage."""

import pytest

from perdure.host.settings.storage_note import storage_note


def test_the_emulator_is_replaced_without_a_warning():
    note = storage_note({"AzureWebJobsStorage": "UseDevelopmentStorage=true"})

    assert not note.is_replaced


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"AzureWebJobsStorage": "AccountName=orders;AccountKey=c2VjcmV0"}, "'orders'"),
        (
            {"AzureWebJobsStorage": "BlobEndpoint=https://o.blob.example/;SharedAccessSignature=s3cret"},
            "o.blob.example",
        ),
        ({"AzureWebJobsStorage__accountName": "orders"}, "'orders' by identity"),
        ({"AzureWebJobsStorage__blobServiceUri": "https://o.blob.example"}, "o.blob.example by identity"),
        ({}, "not set"),
        ({"AzureWebJobsStorage": "c2VjcmV0"}, "does not name"),
    ],
)
def test_any_other_value_is_named_but_nothing_secret_of_it(environ: dict[str, str], named: str):
    note = storage_note(environ)

    assert note.is_replaced
    assert named in note.text
    assert "c2VjcmV0" not in note.text
    assert "s3cret" not in note.text


def test_a_setting_that_is_not_there_says_where_state_goes():
    assert storage_note({}).text == "AzureWebJobsStorage is not set: the embedded store is used (--strict refuses)"


def test_an_endpoint_that_is_no_address_names_nobody_and_stops_nothing():
    note = storage_note({"AzureWebJobsStorage": "BlobEndpoint=http://["})

    assert note.is_replaced
    assert "does not name" in note.text
