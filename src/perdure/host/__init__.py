"""Runs an unmodified Functions app folder.

Importing this package puts perdure's SDK first on the path: from here on `azure.durable_functions` is ours, even where
the official package is installed beside it. The modules below could not import it safely otherwise.
"""

from perdure.host.sdk.sdk import put_first

put_first()
