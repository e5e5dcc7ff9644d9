"""A TCP proxy that can be made to behave like a bad network.

It forwards every connection to one address, or to any port of several that takes it. `reset` ends all of them at once,
as a firewall does that lost its table;
`tear` lets some more octets through first, so that the end falls inside a frame; while it is `dark`, nothing is
forwarded and nothing closed: what is sent disappears, and a new connection opens (the kernel does that) and stays silent.
When the light comes back, connections from before are reset, as they would be by a peer that has given them up. While it is
`deaf`, what clients send disappears, and what the server sends arrives.
"""

import random
import selectors
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)


class Proxy:
    def __init__(self, host, *ports):
        self.host, self.ports = host, list(ports)
        # The port that the newest connection went to.
        self.current = ports[0]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs = set()
        self.dark = threading.Event()
        self.deaf = threading.Event()
        self.light = threading.Event()
        self.light.set()
        # Octets that still pass before every connection is reset; None is without end.
        self.allowance = None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def connect(self):
        # As a client with several hosts does: a node that is ill is not the first one for ever.
        for port in random.sample(self.ports, len(self.ports)):
            try:
                server = socket.create_connection((self.host, port), timeout=5)
            except OSError:
                continue
            self.current = port
            return server
        return None

    def serve(self, client):
        self.light.wait()
        server = self.connect()
        if server is None:
            return self.end(client)
        server.settimeout(None)
        pair = (client, server)
        with self.lock:
            self.pairs.add(pair)
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        try:
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    if self.dark.is_set() or self.deaf.is_set() and key.fileobj is client:
                        continue  # Taken and dropped.
                    if self.allowance is not None:
                        with self.lock:
                            data, self.allowance = data[:self.allowance], self.allowance - len(data)
                    key.data.sendall(data)
                    if self.allowance is not None and self.allowance <= 0:
                        self.allowance = None
                        return self.reset()
        except (OSError, ValueError):
            return
        finally:
            selector.close()
            with self.lock:
                self.pairs.discard(pair)
            for end in pair:
                self.end(end)

    @staticmethod
    def end(connection):
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()

    def reset(self):
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            for connection in pair:
                try:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def tear(self, octets):
        self.allowance = octets

    def darken(self):
        self.light.clear()
        self.dark.set()

    def lighten(self):
        self.reset()
        self.dark.clear()
        self.light.set()
