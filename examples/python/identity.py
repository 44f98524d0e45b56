"""The client of threads-identity: one channel, the calls that a backend makes."""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from threads.identity.v1 import access_token_service_pb2 as tokens
from threads.identity.v1 import access_token_service_pb2_grpc as tokens_grpc
from threads.identity.v1 import account_service_pb2 as accounts
from threads.identity.v1 import account_service_pb2_grpc as accounts_grpc
from threads.identity.v1 import authorization_service_pb2 as authorizations
from threads.identity.v1 import authorization_service_pb2_grpc as authorizations_grpc
from threads.identity.v1 import profile_service_pb2 as profiles
from threads.identity.v1 import profile_service_pb2_grpc as profiles_grpc

from errors import IdentityError

# Deadlines, and repeating what is UNAVAILABLE: the file that comes with the protos.
SERVICE_CONFIG = (Path(__file__).parent / "generated/service_config.json").read_text()


def typed(call):
    """Turns gRPC's errors into ours."""

    @functools.wraps(call)
    def with_typed_errors(*arguments, **named):
        try:
            return call(*arguments, **named)
        except grpc.RpcError as error:
            raise IdentityError(error) from None

    return with_typed_errors


class Identity:
    """One per process: it may be used from many threads at once."""

    def __init__(self, address: str, ca_file: str, caller_key: str):
        tls = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
        key = grpc.access_token_call_credentials(caller_key)  # authorization: Bearer …
        self.channel = grpc.secure_channel(
            address,
            grpc.composite_channel_credentials(tls, key),
            options=[
                ("grpc.service_config", SERVICE_CONFIG),
                # Finds out that the other end of a watch is gone without a word.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.max_reconnect_backoff_ms", 5_000),
            ],
        )
        self.authorizations = authorizations_grpc.AuthorizationServiceStub(self.channel)
        self.accounts = accounts_grpc.AccountServiceStub(self.channel)
        self.profiles = profiles_grpc.ProfileServiceStub(self.channel)
        self.tokens = tokens_grpc.AccessTokenServiceStub(self.channel)

    def close(self):
        self.channel.close()

    @typed
    def authorization_url(
        self, user_id: str, session_binding: bytes, account_id: str | None = None, more: Iterable[str] = ()
    ) -> str:
        """Where to send the browser; with an account, to consent for it again; with more
        permissions than the app asks for by itself, such as those that a PERMISSION_MISSING
        names, to consent to these, too."""
        scopes = set(more)
        if account_id is not None:
            # What a consent asks for takes the place of what the account had: ask for that, too.
            scopes |= set(self.account(account_id, user_id).scopes)
        Request = authorizations.CreateAuthorizationUrlRequest
        link = Request.Link(user_id=user_id, session_binding=session_binding, account_id=account_id)
        created = self.authorizations.CreateAuthorizationUrl(Request(link=link, scopes=sorted(scopes)))
        return created.authorization_url

    @typed
    def complete(self, ticket: str, user_id: str, session_binding: bytes):
        """Links what the browser came back with to whoever sits at it now."""
        return self.authorizations.CompleteAuthorization(
            authorizations.CompleteAuthorizationRequest(
                ticket=ticket, user_id=user_id, session_binding=session_binding
            )
        )

    @typed
    def profile(self, account_id: str, user_id: str, fresh: bool = False):
        """The profile; a fresh one is read from Threads again first."""
        max_age = Duration() if fresh else None
        request = profiles.GetProfileRequest(account_id=account_id, user_id=user_id, max_age=max_age)
        return self.profiles.GetProfile(request).profile

    @typed
    def access_token(self, account_id: str, user_id: str, scopes: list[str], purpose: str) -> str:
        """A token for Threads. Use it and drop it: it is not to be stored."""
        return self.tokens.FetchAccessToken(
            tokens.FetchAccessTokenRequest(
                account_id=account_id, user_id=user_id, required_scopes=scopes, purpose=purpose
            )
        ).access_token

    @typed
    def report_invalid(self, account_id: str, user_id: str, access_token: str):
        """Says that Threads refused a token; answers with how the account stands now."""
        return self.tokens.ReportInvalidToken(
            tokens.ReportInvalidTokenRequest(
                account_id=account_id,
                user_id=user_id,
                token_sha256=hashlib.sha256(access_token.encode()).digest(),
            )
        ).account

    @typed
    def account(self, account_id: str, user_id: str):
        """One account."""
        return self.accounts.GetAccount(
            accounts.GetAccountRequest(account_id=account_id, user_id=user_id)
        ).account

    @typed
    def unlink(self, account_id: str, user_id: str):
        """Ends a link; its token and profile are destroyed at once."""
        self.accounts.UnlinkAccount(accounts.UnlinkAccountRequest(account_id=account_id, user_id=user_id))

    @typed
    def list_accounts(self) -> list:
        """Every account of the app that is linked."""
        found, page_token = [], ""
        while True:
            page = self.accounts.ListAccounts(accounts.ListAccountsRequest(page_size=200, page_token=page_token))
            found.extend(page.accounts)
            page_token = page.next_page_token
            if not page_token:
                return found

    def watch(self, cursor: str | None):
        """The changes of the whole app, from a cursor on. Its errors are gRPC's own."""
        return self.accounts.WatchAccounts(accounts.WatchAccountsRequest(cursor=cursor))
