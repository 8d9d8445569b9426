"""Does this worker's loop turn? Asks the worker itself, at the ``/healthz`` of its own container.

Usage: ``python healthcheck.py``; exits with 0 if it does, else prints why not and exits with 1. Nothing but the
standard library is imported: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 5.0


def verdict(port: int) -> tuple[bool, str]:
    """Whether the worker at ``port`` of this machine is alive, and its reason."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        return response.status == http.client.OK, response.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer at port {port}: {error!r}"
    finally:
        connection.close()


if __name__ == "__main__":
    alive, why = verdict(int(os.environ.get("HEDGEFLOW_MONITOR_PORT", "9464")))
    sys.stdout.write(why + "\n")
    sys.exit(0 if alive else 1)
