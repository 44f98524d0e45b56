"""The whole round from Python, without generated code: what the service says of
itself by reflection has to be enough.

Usage: round.py BINARY
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import urllib.request

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PACKAGE = "threads.identity.v1"
PATIENCE = 60


class WithKey(grpc.StreamStreamClientInterceptor):
    """Sends the caller key with reflection too."""

    def __init__(self, metadata):
        self.metadata = metadata

    def intercept_stream_stream(self, next_call, details, requests):
        return next_call(details._replace(metadata=self.metadata), requests)


class Refused(Exception):
    """An error of the service, with its details."""

    def __init__(self, error):
        super().__init__(error.details())
        self.code = error.code()
        self.info, self.fields, self.retry = None, [], None
        status = rpc_status.from_call(error)
        assert status is not None, f"{error.code()} has no grpc-status-details-bin"
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                self.info = error_details_pb2.ErrorInfo()
                detail.Unpack(self.info)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest()
                detail.Unpack(bad)
                self.fields = [violation.field for violation in bad.field_violations]
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                self.retry = error_details_pb2.RetryInfo()
                detail.Unpack(self.retry)
        assert self.info is not None and self.info.domain == PACKAGE, status


class Service:
    """The service, known by reflection alone."""

    def __init__(self, address, key):
        self.metadata = [("authorization", f"Bearer {key}")]
        self.channel = grpc.insecure_channel(address)
        known = grpc.intercept_channel(self.channel, WithKey(self.metadata))
        self.database = ProtoReflectionDescriptorDatabase(known)
        self.pool = DescriptorPool(self.database)

    def call(self, method, metadata=None, **fields):
        stub, request = self.prepare(self.channel.unary_unary, method, fields)
        try:
            return stub(request, metadata=self.metadata if metadata is None else metadata, timeout=30)
        except grpc.RpcError as error:
            raise Refused(error) from None

    def stream(self, method, **fields):
        stub, request = self.prepare(self.channel.unary_stream, method, fields)
        return stub(request, metadata=self.metadata, timeout=PATIENCE)

    def prepare(self, kind, method, fields):
        service, name = f"{PACKAGE}.{method}".split("/")
        rpc = self.pool.FindServiceByName(service).methods_by_name[name]
        stub = kind(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(rpc.output_type).FromString,
        )
        return stub, json_format.ParseDict(fields, GetMessageClass(rpc.input_type)())


def refused(code, reason, do, *arguments, **fields):
    try:
        answer = do(*arguments, **fields)
    except Refused as error:
        found = (error.code, error.info.reason)
        assert found == (code, reason), f"{found}, not {(code, reason)}"
        return error
    raise AssertionError(f"not refused with {reason}: {answer}")


class Simulator:
    """The person at the browser."""

    def __init__(self, url):
        self.url = url

    def click(self, authorization_url, persona="full", decision="allow"):
        click = {"authorization_url": authorization_url, "persona": persona, "decision": decision}
        return self.post("consent", click)["callback_url"]

    def post(self, path, body):
        request = urllib.request.Request(
            f"{self.url}/_simulator/{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}/_simulator/{path}", timeout=PATIENCE) as answer:
            return json.load(answer)

    def profile(self, token):
        fields = "id,username,name,threads_profile_picture_url,threads_biography,is_verified"
        request = urllib.request.Request(
            f"{self.url}/v1.0/me?fields={fields}", headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def dev(binary, data_dir, *arguments):
    """`dev`, killed in the end whatever happens; yields the process."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [binary, "dev", "--data-dir", data_dir, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    watchdog = threading.Timer(5 * PATIENCE, process.kill)
    watchdog.start()
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 0, "dev ended badly"
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def step(name):
    print(f"ok  {name}", flush=True)


def describe(service):
    names = service.database.get_services()
    for name in ("AuthorizationService", "AccountService", "ProfileService", "AccessTokenService"):
        assert f"{PACKAGE}.{name}" in names, names
    stranger = Service.__new__(Service)
    channel = service.channel
    stranger.database = ProtoReflectionDescriptorDatabase(grpc.intercept_channel(channel, WithKey([])))
    try:
        stranger.database.get_services()
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    else:
        raise AssertionError("reflection answers anybody")
    step("the service describes itself, to callers alone")


def link(service, simulator, user_id, persona):
    created = service.call("AuthorizationService/CreateAuthorizationUrl", link={"user_id": user_id})
    callback_url = simulator.click(created.authorization_url, persona)
    done = service.call("AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id=user_id)
    assert done.authorization_id == created.authorization_id
    return done, callback_url


def linking(service, simulator):
    done, callback_url = link(service, simulator, "user-1", "full")
    persona = next(p for p in simulator.get("personas")["personas"] if p["key"] == "full")
    assert done.account.user_id == "user-1" and done.account.threads_user_id == persona["id"]
    assert done.profile.username == persona["username"]
    again = service.call("AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="user-1")
    assert again == done, "repeating gives the one outcome"
    got = service.call("AuthorizationService/GetAuthorization", authorization_id=done.authorization_id)
    assert got.authorization.account_id == done.account.account_id
    step("an account is linked, once")

    bare, _ = link(service, simulator, "user-1", "bare")
    assert not bare.profile.HasField("name") and bare.profile.HasField("username")
    step("absent is not empty")
    return done.account


def reading(service, account):
    read = {"account_id": account.account_id, "user_id": "user-1"}
    profile = service.call("ProfileService/GetProfile", **read).profile
    assert profile.profile.id == account.threads_user_id
    fresh = service.call("ProfileService/GetProfile", max_age="0s", **read).profile
    assert fresh.fetch_time.ToNanoseconds() > profile.fetch_time.ToNanoseconds()
    batch = service.call("ProfileService/BatchGetProfiles", account_ids=[account.account_id], user_id="nobody")
    assert list(batch.missing_account_ids) == [account.account_id] and not batch.profiles
    step("profiles are read, anew if asked for, and for their user alone")

    seen, token = [], ""
    for _ in range(2):
        page = service.call("AccountService/ListAccounts", user_id="user-1", page_size=1, page_token=token)
        assert len(page.accounts) == 1
        seen.append(page.accounts[0].account_id)
        token = page.next_page_token
    assert token == "" and len(set(seen)) == 2 and account.account_id in seen, seen
    first = service.call("AccountService/ListAccounts", user_id="user-1", page_size=1)
    error = refused(
        grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID",
        service.call, "AccountService/ListAccounts", user_id="user-2", page_token=first.next_page_token,
    )
    assert error.fields == ["page_token"], error.fields
    everything = service.call("AccountService/ListAccounts")
    assert len(everything.accounts) == 2 and not everything.next_page_token
    step("lists are paged, and a page token is good for its list alone")


def refusing(service, simulator, account):
    call = service.call
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID",
                    call, "AuthorizationService/CreateAuthorizationUrl", link={})
    assert error.fields == ["link.user_id"], error.fields
    error = refused(grpc.StatusCode.NOT_FOUND, "ACCOUNT_NOT_FOUND",
                    call, "AccountService/GetAccount", account_id=account.account_id, user_id="user-2")
    assert error.info.metadata["account_id"] == account.account_id
    refused(grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN", call, "AccountService/ListAccounts", metadata=[])
    wrong = [("authorization", "Bearer wrong")]
    refused(grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN", call, "AccountService/ListAccounts", metadata=wrong)
    refused(grpc.StatusCode.INVALID_ARGUMENT, "STATE_INVALID",
            call, "AuthorizationService/CompleteAuthorization", callback_url="?code=AQ&state=forged", user_id="user-1")
    step("what is wrong is refused with its reason")

    created = call("AuthorizationService/CreateAuthorizationUrl", link={"user_id": "user-2"})
    callback_url = simulator.click(created.authorization_url, decision="deny")
    error = refused(grpc.StatusCode.FAILED_PRECONDITION, "AUTHORIZATION_DENIED",
                    call, "AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="user-2")
    assert error.info.metadata["authorization_id"] == created.authorization_id
    step("a person may say no")

    created = call("AuthorizationService/CreateAuthorizationUrl", link={"user_id": "victim"})
    callback_url = simulator.click(created.authorization_url)
    refused(grpc.StatusCode.PERMISSION_DENIED, "SESSION_MISMATCH",
            call, "AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="attacker")
    refused(grpc.StatusCode.FAILED_PRECONDITION, "AUTHORIZATION_CLOSED",
            call, "AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="victim")
    step("nobody finishes somebody else's flow, and a mismatch ends it")

    created = call("AuthorizationService/CreateAuthorizationUrl", link={"user_id": "user-2"})
    callback_url = simulator.click(created.authorization_url, "full")
    error = refused(grpc.StatusCode.ALREADY_EXISTS, "ACCOUNT_LINKED_TO_ANOTHER_USER",
                    call, "AuthorizationService/CompleteAuthorization", callback_url=callback_url, user_id="user-2")
    assert "user-1" not in str(error) + str(error.info)
    step("an account that is somebody else's is refused without naming them")


def signing_in(service, simulator):
    binding = "MDEyMzQ1Njc4OWFiY2RlZg=="
    created = service.call("AuthorizationService/CreateAuthorizationUrl", sign_in={"session_binding": binding})
    callback_url = simulator.click(created.authorization_url, "full")
    done = service.call(
        "AuthorizationService/CompleteAuthorization", callback_url=callback_url, session_binding=binding
    )
    assert done.account.user_id == "user-1" and not done.user_created
    step("a person signs in with Threads")


def fetching(service, simulator, account):
    whose = {"account_id": account.account_id, "user_id": "user-1"}
    fetched = service.call("AccessTokenService/FetchAccessToken", purpose="the round", **whose)
    assert simulator.profile(fetched.access_token)["id"] == account.threads_user_id
    assert fetched.threads_user_id == account.threads_user_id and "threads_basic" in fetched.scopes
    days = (fetched.expire_time.ToSeconds() - account.authorize_time.ToSeconds()) / 86400
    assert 59 < days <= 61, days
    error = refused(grpc.StatusCode.FAILED_PRECONDITION, "PERMISSION_MISSING",
                    service.call, "AccessTokenService/FetchAccessToken", required_scopes=["threads_delete"], **whose)
    assert error.info.metadata["scopes"] == "threads_delete"
    step("the token works at Threads")

    digest = base64.b64encode(hashlib.sha256(fetched.access_token.encode()).digest()).decode()
    reported = service.call("AccessTokenService/ReportInvalidToken", token_sha256=digest, **whose).account
    assert reported.state == account.state, "a token that works is not condemned by a report"
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID",
                    service.call, "AccessTokenService/ReportInvalidToken", token_sha256="", **whose)
    assert error.fields == ["token_sha256"], error.fields
    step("a report is checked, and what Threads says counts")

    unlinked = service.call("AccountService/UnlinkAccount", **whose).account
    assert service.call("AccountService/UnlinkAccount", **whose).account == unlinked
    refused(grpc.StatusCode.FAILED_PRECONDITION, "ACCOUNT_UNLINKED",
            service.call, "AccessTokenService/FetchAccessToken", **whose)
    refused(grpc.StatusCode.NOT_FOUND, "PROFILE_NOT_FOUND", service.call, "ProfileService/GetProfile", **whose)
    step("unlinking destroys token and profile")


def watching(service, simulator):
    position = service.call("AccountService/ListAccountChanges").cursor
    watch = service.stream("AccountService/WatchAccounts", user_id="watched")
    first = next(watch)
    assert first.cursor and not first.HasField("change"), "the position comes first, and at once"
    done, _ = link(service, simulator, "watched", "emoji")
    told = next(watch)
    assert told.change.account.account_id == done.account.account_id
    assert told.change.account.user_id == "watched"
    watch.cancel()
    service.call("AccountService/UnlinkAccount", account_id=done.account.account_id, user_id="watched")
    resumed = service.stream("AccountService/WatchAccounts", user_id="watched", cursor=told.cursor)
    changes = [message.change for message in (next(resumed), next(resumed)) if message.HasField("change")]
    assert [change.account_id for change in changes] == [done.account.account_id], "exactly what came after"
    resumed.cancel()
    listed = service.call("AccountService/ListAccountChanges", cursor=position, user_id="watched")
    assert len(listed.changes) == 2 and listed.changes[1] == changes[0]
    error = refused(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID",
                    service.call, "AccountService/ListAccountChanges", cursor="forged")
    assert error.fields == ["cursor"], error.fields
    step("changes are told as they happen, and resumed where they stopped")


def the_round(binary, data_dir):
    with dev(binary, data_dir, "--json") as process:
        places = json.loads(process.stdout.readline())
        service = Service(places["grpc"], places["caller_key"])
        simulator = Simulator(places["simulator"])
        describe(service)
        account = linking(service, simulator)
        reading(service, account)
        refusing(service, simulator, account)
        signing_in(service, simulator)
        watching(service, simulator)
        fetching(service, simulator, account)
        assert simulator.get("violations") == {"violations": []}, simulator.get("violations")
        step("Threads' rules were kept")
        service.channel.close()


def the_snippet(binary, data_dir):
    """What `dev` prints for Python has to work as it stands."""
    with dev(binary, data_dir) as process:
        guide = ""
        while "Ctrl-C" not in guide:
            line = process.stdout.readline()
            assert line, f"dev ended: {guide}"
            guide += line
        snippet = re.search(r"in Python \(pip [^)]*\):\n\n(.*)\n  Ctrl-C", guide, re.DOTALL).group(1)
        snippet = textwrap.dedent(snippet)
        for _ in range(2):
            ran = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=PATIENCE)
            assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{snippet}"
            assert "username:" in ran.stdout, ran.stdout
        step("the snippet that dev prints works, and works again")


def main():
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        # Postgres may have to run as somebody else, who passes through here.
        os.chmod(folder, 0o755)
        the_round(binary, os.path.join(folder, "round"))
        the_snippet(binary, os.path.join(folder, "snippet"))


if __name__ == "__main__":
    main()
