"""Keeps one function busy under OpenTelemetry's profiler: busy.py SERVER_URL SERVICE SECONDS.

It speaks version 1.9 of OTLP profiles.
"""

import os
import sys
import time


def busy_python(rounds):
    total = 0
    for n in range(rounds):
        total = (total * 31 + n) % 1_000_003
    return total


def main():
    server, service, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    os.environ.update(
        OTEL_PROFILING_ENABLED="true",
        OTEL_PROFILING_EXPORTER="otlp",
        OTEL_PROFILING_EXPORT_INTERVAL="4",
        OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT=f"{server}/v1development/profiles",
        OTEL_SERVICE_NAME=service,
        OTEL_RESOURCE_ATTRIBUTES="region=test",
    )
    # It reads the environment when it is imported.
    from opentelemetry.sdk.extension.profiling import Profiler

    profiler = Profiler()
    profiler.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        busy_python(200_000)
    profiler.stop()


if __name__ == "__main__":
    main()
