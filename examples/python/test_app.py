"""The backend as a browser meets it, against the real service and the simulator."""

import itertools
import os
import threading
import time
from urllib.parse import parse_qs, urlparse

import grpc
import pytest
import requests
from werkzeug.serving import make_server

from app import create_app
from errors import ACTIONS, Action, IdentityError, patiently
from identity import Identity
from threads.identity.v1.error_reason_pb2 import ErrorReason
from threads.identity.v1.resources_pb2 import AccountChange
from watcher import Accounts, Watcher

SIMULATOR, CONTROL = os.environ["TEST_SIMULATOR_URL"], os.environ["TEST_CONTROL_URL"]
HOST, PORT = os.environ["LISTEN"].split(":")
BACKEND = f"http://{HOST}:{PORT}"
numbers = itertools.count(1)


def client(caller_key=os.environ["THREADS_IDENTITY_CALLER_KEY"]):
    return Identity(os.environ["THREADS_IDENTITY_ADDRESS"], os.environ["THREADS_IDENTITY_CA_FILE"], caller_key)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """The backend as `main` starts it; yields what the watch has told of, and the copy."""
    identity, changes = client(), []
    accounts = Accounts(tmp_path_factory.mktemp("copy") / "accounts.json")
    watcher = Watcher(identity, accounts, on_change=changes.append)
    watcher.start()
    eventually(lambda: accounts.cursor)
    app = create_app(identity, accounts, os.environ["THREADS_GRAPH_URL"], b"of the tests")
    server = make_server(HOST, int(PORT), app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield changes, accounts
    server.shutdown()
    watcher.stop()
    identity.close()


def eventually(holds, seconds=20):
    until = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < until, "it does not come to pass"
        time.sleep(0.05)
    return found


def control(path):
    requests.post(CONTROL + path, timeout=60).raise_for_status()


def simulate(path, **body):
    answer = requests.post(f"{SIMULATOR}/_simulator/{path}", json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


class Person:
    """Somebody with a Threads account and a browser that is logged in here."""

    def __init__(self):
        number = next(numbers)
        self.user_id, self.key = f"user-{number}", f"person{number}"
        self.threads_id, self.username = str(17841405793190000 + number), f"{self.key}.sim"
        simulate("personas", key=self.key, id=self.threads_id, username=self.username)
        self.browser = requests.Session()
        self.browser.post(BACKEND + "/login", data={"user_id": self.user_id}).raise_for_status()

    def consent(self, decision="allow", **form):
        """Presses "link", decides at Threads; answers with where the browser is sent then."""
        left = self.browser.post(BACKEND + "/link", data=form, allow_redirects=False)
        assert left.status_code == 303, left.text
        return self.decide(decision, left.headers["location"])

    def decide(self, decision, url):
        click = {"persona": self.key, "decision": decision, "authorization_url": url}
        callback = self.browser.get(simulate("consent", **click)["callback_url"], allow_redirects=False)
        assert callback.status_code == 303, callback.text
        return callback.headers["location"]

    def link(self, **form):
        answer = self.browser.get(self.consent(**form))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path):
        return self.browser.get(BACKEND + path)

    def told(self, backend):
        kinds = [change.kind for change in list(backend[0]) if change.user_id == self.user_id]
        return [AccountChange.Kind.Name(kind) for kind in kinds]


def test_an_account_is_linked_and_used(backend):
    person = Person()
    profile = person.link()
    assert profile["threads_user_id"] == person.threads_id and profile["username"] == person.username
    assert profile["name"] is None, "absent is not empty"
    assert person.get("/me").json() == profile
    assert person.get("/threads/me").json() == {"id": person.threads_id, "username": person.username}
    eventually(lambda: person.told(backend) == ["KIND_LINKED"])
    (account,) = eventually(lambda: person.get("/accounts").json())
    assert account["account_id"] == profile["account_id"] and account["state"] == "STATE_ACTIVE"


def test_a_person_may_say_no(backend):
    person = Person()
    answer = person.browser.get(person.consent("deny"))
    assert (answer.status_code, answer.json()) == (409, {"action": "tell", "reason": "AUTHORIZATION_DENIED"})
    assert person.get("/accounts").json() == []


def test_who_brings_nothing_is_told_what_to_do(backend):
    person = Person()
    for path in ("/me", "/threads/me"):
        answer = person.get(path)
        assert (answer.status_code, answer.json()) == (404, {"action": "link"})
    for path in ("/linked", "/linked?ticket=", f"/linked?ticket={'a' * 5000}"):
        answer = person.get(path)
        assert (answer.status_code, answer.json()) == (410, {"action": "start_again"})
    answer = person.get("/linked?ticket=forged")
    assert (answer.status_code, answer.json()) == (410, {"action": "start_again", "reason": "STATE_INVALID"})


def test_nobody_finishes_what_somebody_else_began(backend):
    victim, attacker = Person(), Person()
    back = attacker.consent()
    answer = victim.browser.get(back)
    assert (answer.status_code, answer.json()) == (410, {"action": "start_again", "reason": "SESSION_MISMATCH"})
    # The attempt is over for everybody.
    assert attacker.browser.get(back).json()["reason"] == "AUTHORIZATION_CLOSED"
    # A browser without a session is no user at all.
    assert requests.get(back).status_code == 401


def test_who_calls_too_often_waits_as_long_as_it_is_told(backend):
    limited = client(os.environ["TEST_LIMITED_CALLER_KEY"])
    call = lambda: limited.authorization_url("user", b"0123456789abcdef")
    with pytest.raises(IdentityError) as caught:
        for _ in range(3):
            call()
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_LIMITED")
    assert error.action is Action.WAIT and 0 < error.retry_delay <= 2, error.retry_delay
    assert patiently(call, seconds=10).startswith(SIMULATOR)
    limited.close()


def test_what_is_unavailable_is_repeated_by_the_channel(backend):
    person = Person()
    profile = person.link()
    # The service itself asks three times, so the first call fails and the second does not.
    simulate("faults", endpoint="me", fault="html502", times=4)
    answer = person.get("/me?fresh")
    assert (answer.status_code, answer.json()) == (200, profile)


def test_what_threads_no_longer_takes_is_consented_to_again(backend):
    person = Person()
    account_id = person.link()["account_id"]
    simulate(f"personas/{person.key}/revoke")
    # Nobody has told the service yet. Threads refuses the token, and that is reported.
    answer = person.get("/threads/me")
    assert (answer.status_code, answer.json()["reason"]) == (503, "TOKEN_REFUSED")
    # Asked for a fresh profile, the service hears it from Threads itself.
    answer = person.get("/me?fresh")
    refused = {"action": "consent", "reason": "REAUTHORIZATION_REQUIRED"}
    assert (answer.status_code, answer.json()) == (403, refused)
    # Refused twice: the account is given up, and the watch tells so.
    eventually(lambda: person.told(backend) == ["KIND_LINKED", "KIND_REAUTHORIZATION_REQUIRED"])
    eventually(lambda: person.get("/accounts").json()[0]["state"] == "STATE_REAUTHORIZATION_REQUIRED")
    answer = person.get("/threads/me")
    assert (answer.status_code, answer.json()) == (403, refused)
    # The person consents again, for this very account.
    assert person.link(again="yes")["account_id"] == account_id
    assert person.get("/threads/me").json()["id"] == person.threads_id
    eventually(lambda: person.told(backend)[-1] == "KIND_REAUTHORIZED")


def test_a_consent_asks_for_all_that_the_account_has(backend):
    person, identity, binding = Person(), client(), b"0123456789abcdef"
    url = identity.authorization_url(person.user_id, binding, more=["threads_manage_insights"])
    (ticket,) = parse_qs(urlparse(person.decide("allow", url)).query)["ticket"]
    account = identity.complete(ticket, person.user_id, binding).account
    url = identity.authorization_url(person.user_id, binding, account.account_id, ["threads_content_publish"])
    (scope,) = parse_qs(urlparse(url).query)["scope"]
    asked = ["threads_basic", "threads_content_publish", "threads_manage_insights"]
    assert sorted(scope.replace(",", " ").split()) == asked
    identity.close()


def test_what_is_unlinked_leaves_the_copy(backend):
    person = Person()
    person.link()
    eventually(lambda: person.get("/accounts").json())
    assert person.browser.post(BACKEND + "/unlink").status_code == 204
    eventually(lambda: person.get("/accounts").json() == [])
    assert person.get("/me").json() == {"action": "link"}
    person.link()
    eventually(lambda: person.told(backend) == ["KIND_LINKED", "KIND_UNLINKED", "KIND_RELINKED"])
    eventually(lambda: person.get("/accounts").json())


def test_a_watch_goes_on_after_a_restart_without_gap_or_repetition(backend):
    before, gone, after = Person(), Person(), Person()
    before.link()
    gone.link()
    eventually(lambda: before.told(backend) == gone.told(backend) == ["KIND_LINKED"])
    # What happens while the service is away is told by the cursor alone.
    control(f"/restart?erase={gone.user_id}")
    # Calls are repeated by the channel until the service is back.
    after.link()
    eventually(lambda: after.told(backend))
    assert before.told(backend) == after.told(backend) == ["KIND_LINKED"]
    assert gone.told(backend) == ["KIND_LINKED", "KIND_ERASED"]
    assert gone.get("/accounts").json() == []


def test_who_cannot_go_on_from_its_cursor_begins_anew(backend):
    before, after = Person(), Person()
    before.link()
    eventually(lambda: before.get("/accounts").json())
    # What is missing in the copy is brought back by a new list, and by nothing else.
    backend[1].by_id.clear()
    control("/restore")
    eventually(lambda: before.get("/accounts").json())
    after.link()
    eventually(lambda: after.told(backend) == ["KIND_LINKED"])
    assert before.told(backend) == ["KIND_LINKED"]


def test_a_bad_field_is_named():
    identity = client()
    with pytest.raises(IdentityError) as caught:
        identity.authorization_url("", b"short")
    error = caught.value
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert set(error.fields) == {"link.user_id", "link.session_binding"} and error.action is Action.ALERT
    identity.close()


def test_an_unknown_caller_is_refused():
    stranger = client("tidkey_nobody")
    with pytest.raises(IdentityError) as caught:
        stranger.list_accounts()
    assert (caught.value.reason, caught.value.action) == ("CALLER_UNKNOWN", Action.ALERT)
    stranger.close()


def test_every_reason_has_an_action():
    assert set(ACTIONS) == set(ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}


def test_the_way_back_holds_a_ticket_and_no_code(backend):
    query = parse_qs(urlparse(Person().consent()).query)
    assert list(query) == ["ticket"]
