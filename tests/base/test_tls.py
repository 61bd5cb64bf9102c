import gc
import os
import socket
import struct

import pytest

from edgeannot.base.connections.tls import tls_context


def test_a_server_that_resets_before_the_handshake_leaves_no_socket_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
    descriptor = client.fileno()

    with pytest.raises(ConnectionResetError) as refused:
        tls_context(None, None, None).wrap_socket(client, server_hostname="localhost")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    del refused
    gc.collect()
