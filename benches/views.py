"""Compare operations on a view of 1 MiB, in both ways, with the same operation on a bytearray.

Prints the rows of the table in ``docs/views.md``: median ratios of runs in turns. Run it with
``.venv/bin/python benches/views.py``.
"""

import json
import re
import statistics
import time

from bytepool import Pool

N = 1 << 20
ROUNDS = 30

array = bytearray(b"x") * N
copy = bytes(array)
view = Pool().view(N)
view[:] = array
document = bytearray(json.dumps(["x" * 100] * 10_000).encode())
document_view = Pool().view(len(document))
document_view[:] = document

# operation on a bytearray, on the view itself (or None), idiom for the view
ROWS = [
    ("array == copy", "view == copy", "view.tobytes() == copy"),
    ("array.find(b'abc')", None, "view.tobytes().find(b'abc')"),
    ("b'abc' in array", "b'abc' in view", "re.search(b'abc', view)"),
    ("65 in array", "65 in view", "b'A' in view.tobytes()"),
    ("array.decode()", None, "str(view, 'utf-8')"),
    ("array + copy", None, "b''.join((view, copy))"),
    ("array.count(b'a')", None, "view.tobytes().count(b'a')"),
    ("array[1:]", None, "view[1:]"),
    ("json.loads(document)", None, "json.loads(str(document_view, 'utf-8'))"),
]


def seconds(code: object) -> float:
    names = {"re": re, "json": json, "array": array, "copy": copy, "view": view}
    names |= {"document": document, "document_view": document_view}
    begin = time.perf_counter()
    exec(code, names)  # type: ignore[arg-type]
    return time.perf_counter() - begin


def main() -> None:
    print("| bytearray | the view itself | idiom | time of the idiom |")
    print("|---|---|---|---|")
    for row in ROWS:
        codes = [statement and compile(statement, "<row>", "exec") for statement in row]
        rounds = [[seconds(code) if code else 0.0 for code in codes] for _ in range(ROUNDS)]
        itself, idiom = (
            statistics.median(times[column] / times[0] for times in rounds) for column in (1, 2)
        )
        operation, direct, instead = row
        first = f"`{direct}`: {itself:.1f} x" if direct else "not possible"
        print(f"| `{operation}` | {first} | `{instead}` | {idiom:.2g} x |")


if __name__ == "__main__":
    main()
