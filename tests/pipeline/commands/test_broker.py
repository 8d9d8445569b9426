"""The embedded broker ends with its command, however that is ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest


@pytest.mark.broker
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_broker_too(number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "broker", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        port = int(running.stdout.readline().split()[2].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
        running.send_signal(number)
        assert running.wait(timeout=20) == code
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
