"""An OpenID Connect issuer on the loopback: real keys, real signatures, PKCE checked.

Those that do wrong are named for what they do. :class:`Issuer` does it all as it should.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Answer = tuple[int, dict[str, Any]]

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
"""Making one takes a while; issuers that need no other share it."""


class Key:
    """A key pair of an issuer."""

    def __init__(self, kid: str, algorithm: str = "RS256", private: Any = None) -> None:
        self.kid, self.algorithm = kid, algorithm
        made = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else RSA_KEY
        self.private = private or made

    def public(self) -> dict[str, Any]:
        """As a JSON Web Key."""
        kind = ECAlgorithm if self.algorithm == "ES256" else RSAAlgorithm
        key = kind.to_jwk(self.private.public_key(), as_dict=True)
        return {**key, "kid": self.kid, "use": "sig", "alg": self.algorithm}


class Server:
    """Answers JSON over HTTP, in threads of this process."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        """Requests by path."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        """Status and body for a request, whose form or query is `query`."""
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Codes:
    """Authorization codes, each good for once, for whoever knows the verifier (RFC 7636)."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._begun: dict[str, dict[str, str]] = {}

    def authorize(self, query: dict[str, str], more: dict[str, str]) -> Answer:
        """Back to the client, with a code; nobody is asked anything."""
        if query["client_id"] != self._client or query["code_challenge_method"] != "S256":
            return 400, {"error": "invalid_request"}
        code = secrets.token_urlsafe(16)
        self._begun[code] = query
        back = urlencode({"code": code, "state": query["state"], **more})
        return 302, {"location": f"{query['redirect_uri']}?{back}"}

    def begun(self, form: dict[str, str]) -> dict[str, str] | None:
        """What a code was asked for with; None: it is not good."""
        query = self._begun.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if query is None or query["code_challenge"] != challenge:
            return None
        return query if query["redirect_uri"] == form.get("redirect_uri") else None


class Issuer(Server):
    """Does what OpenID Connect says. `claims` are those of whoever signs in."""

    CLIENT, SECRET, AUDIENCE = "relay-web", "s3cret:+ %", "mep-relay"

    def __init__(self, algorithm: str = "RS256") -> None:
        self.key = Key("1", algorithm)
        self.published = [self.key]
        self.claims: dict[str, Any] = {
            "sub": "subject-1",
            "preferred_username": "carol@example.org",
            "name": "Carol",
            "email": "carol@elsewhere.example",
            "email_verified": True,
        }
        self.id_token: dict[str, Any] = {}
        """Claims of ID tokens that are not as they should be."""
        self.told_later: dict[str, Any] = {}
        """Claims that only userinfo tells."""
        self._codes = Codes(self.CLIENT)
        super().__init__()

    def token(self, key: Key | None = None, **claims: Any) -> str:
        """An access token for the relay; a claim of None is left out."""
        return self.signed({**self.claims, "aud": self.AUDIENCE, "scope": "mep", **claims}, key)

    def signed(self, claims: dict[str, Any], key: Key | None = None) -> str:
        """Claims as a token of this issuer."""
        key, now = key or self.key, int(time.time())
        every = {"iss": self.url, "iat": now, "exp": now + 600, **claims}
        told = {name: value for name, value in every.items() if value is not None}
        return jwt.encode(told, key.private, key.algorithm, {"kid": key.kid})

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        """What is said to a request."""
        self.asked[path] += 1
        match path:
            case "/.well-known/openid-configuration":
                return 200, self.metadata()
            case "/jwks":
                return 200, {"keys": [key.public() for key in self.published]}
            case "/authorize":
                return self._codes.authorize(query, {"iss": self.url})
            case "/token":
                return self._exchange(query, headers)
            case "/userinfo":
                return 200, {"sub": self.claims["sub"], **self.told_later}
        return 404, {}

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
        }

    def _exchange(self, form: dict[str, str], headers: Any) -> Answer:
        _, _, basic = headers.get("Authorization", "").partition(" ")
        client = [unquote_plus(each) for each in base64.b64decode(basic).decode().split(":")]
        if client != [self.CLIENT, self.SECRET]:
            return 401, {"error": "invalid_client"}
        begun = self._codes.begun(form)
        if begun is None:
            return 400, {"error": "invalid_grant"}
        own = {"aud": self.CLIENT, "nonce": begun["nonce"], **self.id_token}
        return 200, {
            "access_token": "opaque",
            "token_type": "Bearer",
            "id_token": self.signed({**self.claims, **own}),
        }


class KeysDownIssuer(Issuer):
    """Its keys cannot be fetched while `down`."""

    down = True

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        if path == "/jwks" and self.down:
            self.asked[path] += 1
            return 503, {}
        return super().answer(path, query, headers)


class SlowIssuer(Issuer):
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        super().__init__()

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        self.go.wait(60)
        return super().answer(path, query, headers)

    def close(self) -> None:
        self.go.set()
        super().close()


class OtherNameIssuer(Issuer):
    """Says that it is somebody else."""

    def metadata(self) -> dict[str, Any]:
        return super().metadata() | {"issuer": "https://accounts.example.org"}


class RedirectingIssuer(Issuer):
    """Sends whoever asks for its keys elsewhere."""

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        if path == "/jwks":
            return 302, {"location": "http://127.0.0.1:1/keys"}
        return super().answer(path, query, headers)


class EndlessIssuer(Issuer):
    """Has more keys than anybody can read."""

    def answer(self, path: str, query: dict[str, str], headers: Any) -> Answer:
        if path == "/jwks":
            return 200, {"keys": ["x" * 1024] * 2048}
        return super().answer(path, query, headers)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, text: str) -> None:
            fields = {name: values[0] for name, values in parse_qs(text).items()}
            path = urlsplit(self.path).path
            status, body = server.answer(path, fields, self.headers)
            raw = json.dumps(body).encode()
            self.send_response(status)
            if "location" in body:
                self.send_header("Location", body["location"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            try:
                self.wfile.write(raw)
            except OSError:
                self.close_connection = True  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    return Handler
