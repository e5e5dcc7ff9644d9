"""Clients of `run --listen` that mean no good, for Tests/BrokerTests/ListenerTests.swift.

    clients.py hold|slow|flood|unread|descriptors PORT PID

PORT is the listener's on 127.0.0.1, PID the agent's process, which must be a child of the test. Prints one line of what was seen.
"""

import http.client
import os
import resource
import socket
import sys
import threading
import time

KIND, PORT, PID = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ADDRESS = ("127.0.0.1", PORT)
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(timeout=10):
    return socket.create_connection(ADDRESS, timeout=timeout)


def health(timeout=30):
    """The status of /healthz on a connection of its own."""
    connection = http.client.HTTPConnection(*ADDRESS, timeout=timeout)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def descriptors():
    """The numbers of the agent's open descriptors."""
    return {int(name) for name in os.listdir(f"/proc/{PID}/fd")}


def processor_ticks():
    """Hundredths of a second that the agent has computed."""
    with open(f"/proc/{PID}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def quietly(action, *arguments):
    """False where the agent has ended the connection, which it may."""
    try:
        action(*arguments)
        return True
    except OSError:
        return False


def crowd():
    """900 clients that hold their connections; those that the agent ended are made again by nobody."""
    held = []
    for number in range(900):
        client = connect()
        # Half of them have begun a request.
        if number % 2:
            quietly(client.sendall, REQUEST[:20])
        held.append(client)
    return held


def attack(kind, stop):
    """Goes on until `stop` is set."""
    while not stop.is_set():
        if kind == "flood":
            client = connect()
            for _ in range(200):
                if not quietly(client.sendall, REQUEST):
                    break
            client.close()
        elif kind == "unread":
            client = connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(1)
            # A thousand answers would be several megabytes.
            quietly(client.sendall, REQUEST * 1000)
            stop.wait(0.1)
        elif kind == "slow":
            clients = [connect() for _ in range(100)]
            for byte in REQUEST[:30]:
                for client in clients:
                    quietly(client.sendall, bytes([byte]))
                if stop.wait(0.02):
                    return


def main():
    if KIND == "descriptors":
        soft, hard = resource.prlimit(PID, resource.RLIMIT_NOFILE)
        # No number is free below the limit: the kernel completes a handshake, and the agent cannot accept.
        used = descriptors()
        free = next(number for number in range(len(used) + 1) if number not in used)
        resource.prlimit(PID, resource.RLIMIT_NOFILE, (free, hard))
        try:
            waiting = connect()
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            waiting.settimeout(2)
            before = processor_ticks()
            try:
                print("answered although no descriptor was free" if waiting.recv(1) else "ended", end=", ")
            except TimeoutError:
                # Two seconds of trying as fast as it can would be 200.
                print("held up" if processor_ticks() - before < 100 else "trying without a pause", end=", ")
        finally:
            resource.prlimit(PID, resource.RLIMIT_NOFILE, (soft, hard))
        waiting.settimeout(60)
        print("answered" if waiting.recv(12) == b"HTTP/1.1 200" else "not answered")
        return
    held = crowd() if KIND == "hold" else []
    stop = threading.Event()
    threads = [threading.Thread(target=attack, args=(KIND, stop), daemon=True) for _ in range(0 if held else 4)]
    for thread in threads:
        thread.start()
    answered = 0
    most = 0
    attempts = 0
    while answered < 100 and attempts < 1000:
        attempts += 1
        most = max(most, len(descriptors()))
        # Among so many, its own connection may be the one that is displaced.
        try:
            answered += health() == 200
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
    print(f"answered {answered}, descriptors {'below 110' if most < 110 else most}")


main()
