"""HEIC files: a real one of 444 bytes, and ones that ask their decoder for far more than that."""

import base64
import struct

# 64 x 48 pixels of (64, 128, 192), encoded by x265.
HEIC = base64.b64decode(
    b"AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXttZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    b"AAAAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABnwABAAAAAAAAAB0AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAA"
    b"AAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA+2lwcnAAAADbaXBjbwAAAHZodmNDAQNwAAAAAAAAAAAAHvAA/P34"
    b"+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5"
    b"uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA"
    b"AAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAADnBpeGkAAAAAAQgAAAAYaXBtYQAAAAAA"
    b"AAABAAEFgQIDBYQAAAAlbWRhdAAAABkoAa8TgPgQ4af/8GKK/6ddX/Z8e/OikM+A"
)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def find(kind: bytes) -> bytes:
    """Return a box of the real file."""
    at = HEIC.index(kind) - 4
    return HEIC[at : at + int.from_bytes(HEIC[at : at + 4], "big")]


def lying(width: int, height: int) -> bytes:
    """The real file, whose header names another size."""
    at = HEIC.index(b"ispe") + 8
    return HEIC[:at] + struct.pack(">II", width, height) + HEIC[at + 8 :]


def grid(
    columns: int,
    *,
    tile: tuple[int, int] = (64, 64),
    canvas: tuple[int, int] = (64, 64),
    depth: int = 1,
) -> bytes:
    """A grid of `columns` x `columns` tiles, each the bytes of the real file. tile: the size that
    their header names. depth: so many grids within grids of one tile.
    """
    outer = [(canvas, 1, [n + 1]) for n in range(1, depth)]
    tiles = list(range(depth + 1, depth + 1 + columns**2))
    return _images([*outer, (canvas, columns, tiles)], len(tiles), tile)


def _images(
    grids: list[tuple[tuple[int, int], int, list[int]]], coded: int, tile: tuple[int, int]
) -> bytes:
    """A file of grids (canvas, columns, the items that they are made of), then coded images."""
    data, total = find(b"mdat")[8:], len(grids) + coded
    sizes = [tile, *(canvas for canvas, _, _ in grids)]
    properties = find(b"hvcC") + b"".join(
        full_box(b"ispe", struct.pack(">II", *size)) for size in sizes
    )
    payloads = [
        struct.pack(">BBBBHH", 0, 0, columns - 1, columns - 1, *canvas)
        for canvas, columns, _ in grids
    ]
    entries, references, associations = b"", b"", struct.pack(">I", total)
    for n in range(1, total + 1):
        kind = b"grid" if n <= len(grids) else b"hvc1"
        entries += full_box(b"infe", struct.pack(">HH", n, 0) + kind + b"\0", version=2)
        if n <= len(grids):
            tiles = grids[n - 1][2]
            references += box(b"dimg", struct.pack(f">HH{len(tiles)}H", n, len(tiles), *tiles))
            associations += struct.pack(">HBB", n, 1, 2 + n)
        else:
            associations += struct.pack(">HBBB", n, 2, 0x81, 2)

    def meta(offset: int) -> bytes:
        places = struct.pack(">BBH", 0x44, 0, total)
        for n in range(1, total + 1):
            if n <= len(grids):
                before = sum(map(len, payloads[: n - 1]))
                places += struct.pack(">HHHHII", n, 1, 0, 1, before, len(payloads[n - 1]))
            else:
                places += struct.pack(">HHHHII", n, 0, 0, 1, offset, len(data))
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", 1))
            + full_box(b"iinf", struct.pack(">H", total) + entries)
            + full_box(b"iloc", places, version=1)
            + full_box(b"iref", references)
            + box(b"iprp", box(b"ipco", properties) + full_box(b"ipma", associations))
            + box(b"idat", b"".join(payloads)),
        )

    start = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", data)
