"""Uploads a value over HTTP for each size on stdin: ``python -m libraries.uploader PORT``."""

from __future__ import annotations

import http.client
import sys

from libraries.values import value

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for line in sys.stdin:
    connection.request("POST", "/", value(int(line)))
    response = connection.getresponse()
    response.read()
    assert response.status == 204
connection.close()
