"""Prints one checksum over all files of a folder. Several threads read the files."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def checksum(path: Path) -> bytes:
    digest = hashlib.blake2b()
    buffer = bytearray(8_000_000)
    with memoryview(buffer) as view, path.open("rb", buffering=0) as file:
        while count := file.readinto(view):
            digest.update(view[:count])
    return digest.digest()


def main(folder: str, times: int) -> None:
    paths = sorted(path for path in Path(folder).rglob("*.py") if path.is_file())
    with ThreadPoolExecutor(4) as threads:
        for _ in range(times):
            total = hashlib.blake2b()
            for digest in threads.map(checksum, paths):
                total.update(digest)
    print(total.hexdigest()[:16], len(paths))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
