"""``mep-relay``: set up and serve a relay; users, tokens and service clients."""
