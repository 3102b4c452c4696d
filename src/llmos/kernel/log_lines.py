"""Output as lines: as it comes, or from the last to the first; long lines in pieces, and those that hold a text alone."""

from collections.abc import Callable, Iterator

MAX_LINE_BYTES = 64 * 1024
"""A longer line is given in pieces of at most this size."""
BLOCK_BYTES = 256 * 1024
"""How much is read at a time."""


class Splitter:
    """Cuts output into lines as it comes; where `wanted` is not empty, only those that hold it are given."""

    def __init__(self, wanted: bytes = b"") -> None:
        self._wanted = wanted
        self.forget()

    def forget(self) -> None:
        """What comes next does not go on with what came before."""
        self._rest = b""
        self._before = b""  # the end of the piece before, where the line is the same

    def feed(self, chunk: bytes) -> list[str]:
        """The lines, or pieces of them, that a chunk completes."""
        found: list[str] = []
        whole = self._rest + chunk
        if self._wanted and self._wanted not in self._before + whole:
            _, newline, self._rest = whole.rpartition(b"\n")
            if newline:
                self._before = b""
        else:
            *lines, self._rest = whole.split(b"\n")
            for line in lines:
                found += self._holding(pieces(line))
                self._before = b""
        if len(self._rest) > MAX_LINE_BYTES:
            *more, self._rest = pieces(self._rest)
            found += self._holding(more)
        return found

    def finish(self) -> list[str]:
        """What has not been completed by a newline."""
        found = self._holding([self._rest]) if self._rest else []
        self.forget()
        return found

    def _holding(self, line: list[bytes]) -> list[str]:
        if not self._wanted:
            return list(map(as_text, line))
        found = []
        for piece in line:
            joined = self._before + piece
            if self._wanted in joined:
                found.append(as_text(piece))
            self._before = joined[max(0, len(joined) - len(self._wanted) + 1) :]
        return found


def lines_backwards(
    read: Callable[[int, int], bytes], begin: int, end: int, wanted: bytes = b""
) -> Iterator[tuple[int, bytes]]:
    """Lines from the last to the first, each with the offset of its first byte; `read` takes an offset and a size."""
    overlap = max(0, len(wanted) - 1)
    rest, at = b"", end
    after = b""  # the first bytes of what follows on the same line and has been given already

    def holding(start: int, line: bytes) -> Iterator[tuple[int, bytes]]:
        nonlocal after
        start += len(line)
        for piece in reversed(pieces(line)):
            start -= len(piece)
            joined = piece + after
            if wanted in joined:
                yield start, piece
            after = joined[:overlap]

    while at > begin:
        size = min(BLOCK_BYTES, at - begin)
        at -= size
        block = read(at, size) + rest
        if at + size == end:
            block = block.removesuffix(b"\n")
        if wanted not in block + after:  # most blocks need no closer look
            rest, newline, _ = block.partition(b"\n")
            after = b"" if newline else after
        else:
            rest, *complete = block.split(b"\n")
            start = at + len(block)
            for line in reversed(complete):
                start -= len(line)
                yield from holding(start, line)
                after = b""
                start -= 1
        while len(rest) > BLOCK_BYTES:
            cut = _between_characters(rest, len(rest) - MAX_LINE_BYTES + 3)
            yield from holding(at + cut, rest[cut:])
            rest = rest[:cut]
    if end > begin:
        yield from holding(begin, rest)


def pieces(line: bytes) -> list[bytes]:
    """A line as it is given: whole, or in pieces where it is longer than a line may be."""
    found = []
    while len(line) > MAX_LINE_BYTES:
        cut = _between_characters(line, MAX_LINE_BYTES)
        found.append(line[:cut])
        line = line[cut:]
    return [*found, line]


def as_text(line: bytes) -> str:
    """A line as text: what is no UTF-8 is replaced, the CR of a CRLF is dropped."""
    return line.decode(errors="replace").removesuffix("\r")


def _between_characters(line: bytes, at: int) -> int:
    """The offset, or up to three bytes less, so that no character of UTF-8 is cut apart."""
    for earlier in range(4):
        if line[at - earlier] & 0xC0 != 0x80:
            return at - earlier
    return at
