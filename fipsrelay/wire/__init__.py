"""How do bytes move: streams on non-blocking sockets, HTTP/1.1 message boundaries."""
