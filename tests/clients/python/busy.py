"""Keeps one function busy under the Python SDK: busy.py SERVER_URL SERVICE SECONDS."""

import sys
import time

import pyroscope


def busy_python(rounds):
    total = 0
    for n in range(rounds):
        total = (total * 31 + n) % 1_000_003
    return total


def main():
    server, service, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    pyroscope.configure(
        application_name=service,
        server_address=server,
        tags={"region": "test"},
    )
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        busy_python(200_000)
    pyroscope.shutdown()


if __name__ == "__main__":
    main()
