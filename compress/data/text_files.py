"""Text files that users bring: decoded, or refused with the encoding that they seem to have."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError

_OTHER_KINDS = {
    b"PK\x03\x04": "is a ZIP archive or an Excel file; save the table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is an old Excel file; save the table as CSV in UTF-8",
    b"PAR1": "is a Parquet file; give it a name that ends in .parquet",
    b"\x1f\x8b": "is compressed by gzip; give it a name that ends in .gz",
    b"BZh": "is compressed by bzip2; uncompress it, or use gzip",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; run `git lfs pull` where it comes from",
    b"<!DOCTYPE html": "is a web page, not a table; download the file itself",
    b"<html": "is a web page, not a table; download the file itself",
    b"\xfd7zXZ": "is compressed by xz; uncompress it, or use gzip",
}
_BYTE_ORDER_MARKS = {  # UTF-32's mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LATIN = ("iso8859-1", "iso8859-15", "cp1252")  # Python's names of encodings that read any file, also a wrong one


def read_text(path: Path, options: TextOptions) -> str:
    """The text of a file without its byte-order marks; line ends stay as they are. `.gz` files are uncompressed.

    :param options: `encoding`; without it, the file must be UTF-8.
    :raises UserError: the file cannot be read, is no text, or has another encoding. The message names it where it is plain.
    """
    data = read_bytes(path)
    setting = f"{options.section}.encoding"
    if options.encoding is None:
        if wide := _wide_encoding(data):
            raise UserError(f'{path}: is in {wide.upper()}; set {setting} = "{wide}", or save it as UTF-8')
        text = _as_utf8(data, path, setting)
    else:
        text = _as_told(data, path, options.encoding, setting)
    return text.lstrip("\ufeff")


def likely_encoding(data: bytes) -> str | None:
    """The encoding of a text: UTF-16 or UTF-32, or Windows-1252 or Latin-1 where it is not UTF-8; None: UTF-8.

    Latin letters of other encodings look like those of Windows-1252. So a person must look at what is read.
    """
    if wide := _wide_encoding(data):
        return wide
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None if _is_mostly_utf8(data) else _latin_encoding(data)
    return None


def read_bytes(path: Path) -> bytes:
    """The content of a file, uncompressed if it is a `.gz` file.

    :raises UserError: the file cannot be read, or is plainly no text.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except gzip.BadGzipFile:
        raise UserError(f"{path}: is not compressed by gzip; give it a name that does not end in .gz") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    refuse_other_kinds(data, str(path))
    return data


def refuse_other_kinds(data: bytes, place: str) -> None:
    """See that a file does not begin as an archive, a web page or another file that is no text.

    :raises UserError: it does. The message says what it is.
    """
    for start, kind in _OTHER_KINDS.items():
        if data.startswith(start):
            raise UserError(f"{place}: {kind}")


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte-order mark. Without a mark, every other byte of such Latin text is zero."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    start = data[:1000]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if even + odd > len(start) / 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _as_utf8(data: bytes, path: Path, setting: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f"{path}: line {line}: is not UTF-8 (byte 0x{data[error.start]:02x})"
        if _is_mostly_utf8(data):
            raise UserError(f"{place}, as the rest of the file is; mend this line") from None
        codec = _latin_encoding(data)
        name = {"cp1252": "Windows-1252", "latin-1": "Latin-1"}[codec]
        begin = data.rfind(b"\n", 0, error.start) + 1
        shown = data[max(begin, error.start - 20) : error.start + 20].split(b"\n")[0].decode(codec, "replace").strip()
        raise UserError(
            f'{place}; as {name} it reads "{shown}": if that is right, set {setting} = "{codec}", else name there the encoding '
            "that it was saved in, or save it as UTF-8"
        ) from None


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 are a few mistakes in a text that is: some of its lines have letters in UTF-8.

    Single characters prove nothing: some pairs of bytes of other encodings, such as those of Japanese, are UTF-8 too.
    """
    lines = [line.decode("utf-8", "replace") for line in data.split(b"\n") if not line.isascii()]
    wrong = sum("\ufffd" in line for line in lines)
    return (len(lines) - wrong) * 10 > wrong


def _latin_encoding(data: bytes) -> str:
    return "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"


def _as_told(data: bytes, path: Path, encoding: str, setting: str) -> str:
    if codecs.lookup(encoding).name in _LATIN and not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            raise UserError(f'{path}: is in UTF-8, and {setting} = "{encoding}"; save all tables in one encoding')
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f'{path}: line {line}: is not in {setting} = "{encoding}" ({error.reason})') from None
