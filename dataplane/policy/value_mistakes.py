"""What is wrong with a single value of a document: the end of a sentence that begins with its field and the value.

``protocol 256`` *is out of range: 0..255*.
"""

from typing import NoReturn

from pydantic_core import PydanticCustomError

#: The type of such an error among those of pydantic.
UNFIT = "unfit"


def unfit(message: str) -> NoReturn:
    """Raises PydanticCustomError."""
    # Braces are the template's own: without a context they stay as they are.
    raise PydanticCustomError(UNFIT, message)


def not_text(value: object, example: str) -> NoReturn:
    """Raises PydanticCustomError for what should be text."""
    unfit("is empty" if value is None else f"is not text: write it in quotes, as {example}")
