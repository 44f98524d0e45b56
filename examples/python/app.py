"""A backend whose users link their Threads accounts.

    THREADS_IDENTITY_ADDRESS=… THREADS_IDENTITY_CA_FILE=… THREADS_IDENTITY_CALLER_KEY=… python app.py
"""

import os
import secrets
import sys
from pathlib import Path

import requests
from flask import Flask, jsonify, redirect, request, session

sys.path.insert(0, str(Path(__file__).parent / "generated"))

from errors import Action, IdentityError, patiently
from identity import Identity
from watcher import Accounts, Watcher

# How a browser is told what to do about an error.
STATUS = {
    Action.TELL: 409,
    Action.START_AGAIN: 410,
    Action.WAIT: 503,
    Action.CONSENT: 403,
    Action.WATCH: 500,
    Action.ALERT: 500,
}

# How long, in seconds, a person who waits for a page lets us wait.
PATIENCE = 5

# No ticket is longer, in characters.
TICKET_MAX = 4096


class LoggedOut(Exception):
    """Nobody is logged in at this browser."""


class NotLinked(Exception):
    """The user has no account to speak of."""


def create_app(identity: Identity, accounts: Accounts, graph_url: str, secret_key: bytes) -> Flask:
    app = Flask(__name__)
    # Lax: no other site's form is sent with our cookie, and the way back from Threads is.
    app.config.update(SECRET_KEY=secret_key, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)

    def user_id() -> str:
        if "user_id" not in session:
            raise LoggedOut
        return session["user_id"]

    def binding() -> bytes:
        return bytes.fromhex(session["binding"])

    def known_account() -> str | None:
        """The account that was linked here, or one that the copy knows of."""
        return session.get("account_id") or next((a["account_id"] for a in accounts.of(user_id())), None)

    def account_id() -> str:
        known = known_account()
        if known is None:
            raise NotLinked
        return known

    @app.errorhandler(LoggedOut)
    def log_in(_):
        return jsonify(action="log_in"), 401

    @app.errorhandler(NotLinked)
    def link_first(_):
        return jsonify(action="link"), 404

    @app.errorhandler(requests.RequestException)
    def threads_unavailable(_):
        return jsonify(action=Action.WAIT.value, reason="THREADS_UNAVAILABLE"), 503

    @app.errorhandler(IdentityError)
    def failed(error: IdentityError):
        if error.action is Action.ALERT:
            app.logger.error("threads-identity: %s", error)
        response = jsonify(action=error.action.value, reason=error.reason)
        response.status_code = STATUS[error.action]
        if error.action is Action.WAIT:
            response.headers["Retry-After"] = str(int(error.retry_delay or 0) + 1)
        return response

    @app.post("/login")
    def login():
        """In place of the login that you have."""
        if not request.form.get("user_id"):
            return "user_id is required", 400
        session.clear()
        session["user_id"] = request.form["user_id"]
        # What only this browser's session knows.
        session["binding"] = secrets.token_hex(16)
        return "", 204

    @app.post("/link")
    def link():
        # Which account is consented to again is ours to know, not the browser's.
        again = known_account() if "again" in request.form else None
        url = patiently(lambda: identity.authorization_url(user_id(), binding(), again), PATIENCE)
        return redirect(url, 303)

    @app.post("/unlink")
    def unlink():
        account, user = account_id(), user_id()
        patiently(lambda: identity.unlink(account, user), PATIENCE)
        session.pop("account_id", None)
        # Threads has no way to give a token back: tell the person to remove the app there, too.
        return "", 204

    @app.get("/linked")
    def linked():
        """Where the hosted callback sends the browser on to (`return_to`)."""
        # A browser that guesses where its person will go has not got its person there.
        if "Sec-Purpose" in request.headers:
            return "", 204
        ticket = request.args.get("ticket", "")
        if not 0 < len(ticket) <= TICKET_MAX:
            return jsonify(action=Action.START_AGAIN.value), STATUS[Action.START_AGAIN]
        # The user is that of this session, whoever the ticket may be of.
        done = patiently(lambda: identity.complete(ticket, user_id(), binding()), PATIENCE)
        session["account_id"] = done.account.account_id
        return redirect("/me", 303)

    @app.get("/me")
    def me():
        fresh = "fresh" in request.args
        got = patiently(lambda: identity.profile(account_id(), user_id(), fresh), PATIENCE)
        profile = got.profile
        return jsonify(
            account_id=got.account_id,
            threads_user_id=profile.id,
            username=profile.username if profile.HasField("username") else None,
            name=profile.name if profile.HasField("name") else None,
        )

    @app.get("/threads/me")
    def threads_me():
        """Calls Threads itself, with the person's token."""
        account, user = account_id(), user_id()
        token = patiently(
            lambda: identity.access_token(account, user, ["threads_basic"], "to show the handle"), PATIENCE
        )
        answer = requests.get(
            f"{graph_url}/v1.0/me",
            params={"fields": "id,username"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        if answer.status_code == 401 or (not answer.ok and answer.json().get("error", {}).get("code") == 190):
            # Threads refuses the token. The service asks Threads itself, and gives the
            # account up once it is sure; the copy hears of it then.
            identity.report_invalid(account, user, token)
            return jsonify(action=Action.WAIT.value, reason="TOKEN_REFUSED"), 503
        answer.raise_for_status()
        return jsonify(answer.json())

    @app.get("/accounts")
    def linked_accounts():
        """What the copy says, without a call."""
        return jsonify(accounts.of(user_id()))

    return app


def main():
    environment = os.environ
    identity = Identity(
        environment["THREADS_IDENTITY_ADDRESS"],
        environment["THREADS_IDENTITY_CA_FILE"],
        environment["THREADS_IDENTITY_CALLER_KEY"],
    )
    accounts = Accounts(Path(environment.get("ACCOUNTS_FILE", "accounts.json")))
    Watcher(identity, accounts).start()
    graph_url = environment.get("THREADS_GRAPH_URL", "https://graph.threads.com")
    # One key for all processes, or every restart logs everybody out.
    secret_key = environment.get("SESSION_SECRET", "").encode() or secrets.token_bytes(32)
    host, port = environment.get("LISTEN", "127.0.0.1:3000").rsplit(":", 1)
    # Flask's own server is for development: give `create_app` to the WSGI server that you use.
    create_app(identity, accounts, graph_url, secret_key).run(host, int(port), threaded=True)


if __name__ == "__main__":
    main()
