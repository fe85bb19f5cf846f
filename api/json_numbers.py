"""Numbers in JSON that arrives in pieces: those that orjson takes, which reads what is small, and as what it takes them."""

import math
import re
from decimal import Decimal

from shared.errors import InvalidJson

#: A longer number is none that JSON's readers take.
_LONGEST = 1024
_CHARACTERS = b"+-.0123456789Ee"
#: Integers that stay integers; others become floats.
LEAST, MOST = -(1 << 63), (1 << 64) - 1
#: What stands in a string that a piece begins in, and the quote that ends it.
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
#: Strings and all else that comes before more than `_LONGEST` digits in a row.
_LONG_NUMBER = re.compile(
    rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^"0-9]++|[0-9]{1,%d}+(?![0-9]))*+[0-9]{%d}' % (_LONGEST, _LONGEST + 1), re.DOTALL
)


def refuse_long(piece: bytes, *, begins_inside: bool, ends_inside: bool) -> None:
    """Refuse a number that the parser would look at again with each piece, or that Python makes no integer of.

    Args:
        piece: Of JSON.
        begins_inside: Whether it begins within a string.
        ends_inside: Whether it ends within one.

    Raises:
        InvalidJson: It has such a number.
    """
    is_cut = not ends_inside and len(piece) > _LONGEST and not piece[-_LONGEST:].strip(_CHARACTERS)
    # So many digits cover one of the parts of this length whole, wherever they stand.
    may_have = any(piece[start : start + _LONGEST].isdigit() for start in range(0, len(piece) - _LONGEST, _LONGEST))
    if is_cut or (may_have and _has_long(piece, begins_inside=begins_inside)):
        raise InvalidJson(f"the body is not valid JSON: it has a number of more than {_LONGEST} characters")


def _has_long(piece: bytes, *, begins_inside: bool) -> bool:
    rest = _REST_OF_STRING.match(piece) if begins_inside else None
    return _LONG_NUMBER.match(piece, rest.end() if rest is not None else 0) is not None


def as_float(number: int | Decimal) -> float:
    """A number as a float.

    Raises:
        InvalidJson: It is larger than a float can be.
    """
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if math.isinf(value):
        raise InvalidJson("the body is not valid JSON: it has a number that is larger than a float can be")
    return value
