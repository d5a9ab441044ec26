"""In a wheel's bill of materials, put ``/bytepool`` in the place of the folder of the build.

Otherwise each folder would give a wheel of its own: ``hide_folder.py FOLDER WHEEL``.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile


def main(folder: str, wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = [(info, archive.read(info)) for info in archive.infolist()]
    changed = {}
    for info, content in files:
        if "/sboms/" in info.filename:
            changed[info.filename] = content.replace(folder.encode(), b"/bytepool")
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, content in files:
            if info.filename.endswith("/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(recorded(line, changed) for line in lines).encode()
            archive.writestr(info, changed.get(info.filename, content))


def recorded(line: str, changed: dict[str, bytes]) -> str:
    """Return the line of RECORD, with the hash and the size of the changed file."""
    name = line.split(",")[0]
    if name not in changed:
        return line
    digest = base64.urlsafe_b64encode(hashlib.sha256(changed[name]).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(changed[name])}\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
