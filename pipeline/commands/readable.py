"""Bytes that somebody else wrote, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Without what a terminal would obey: control characters are escaped.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def readable(payload: bytes, most: int) -> str:
    """JSON in lines where it is some, else a hexdump; cut after ``most`` bytes."""
    text = _json(payload)
    if text is not None:
        shown = "\n".join(printable(line) for line in text.decode(errors="replace")[:most].splitlines())
        size = len(text)
    else:
        shown, size = hexdump(payload[:most]), len(payload)
    return f"{shown}\n... {size - most} more bytes (--bytes)" if size > most else shown


def hexdump(payload: bytes) -> str:
    r"""Sixteen bytes a line: offset, hexadecimal, ASCII.

    >>> hexdump(b"\xff\x00garbage")
    '00000000  ff 00 67 61 72 62 61 67 65                        ..garbage'
    """
    lines = []
    for start in range(0, len(payload), 16):
        row = payload[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  {text}")
    return "\n".join(lines)


def _json(payload: bytes) -> bytes | None:
    import msgspec

    if payload[:1] not in (b"{", b"["):
        return None
    try:
        return msgspec.json.format(payload, indent=2)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
