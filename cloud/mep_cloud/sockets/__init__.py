"""The three WebSockets. Each authenticates by its handshake's Authorization header, exchanges
hellos, and turns messages into delivery's events.
"""
