package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example.com/backend/gen/identityv1"
)

// Deadlines, and repeating what is UNAVAILABLE: the file that comes with the protos.
//
//go:embed gen/service_config.json
var serviceConfig string

// Identity is the client of threads-identity: one per process, for any number of
// goroutines.
type Identity struct {
	conn           *grpc.ClientConn
	authorizations pb.AuthorizationServiceClient
	accounts       pb.AccountServiceClient
	profiles       pb.ProfileServiceClient
	tokens         pb.AccessTokenServiceClient
}

// callerKey sends the key with every call, and over TLS alone.
type callerKey string

func (k callerKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

func (callerKey) RequireTransportSecurity() bool { return true }

// Dial prepares the client; it connects when it is first used.
func Dial(address, caFile, key string) (*Identity, error) {
	tls, err := credentials.NewClientTLSFromFile(caFile, "")
	if err != nil {
		return nil, err
	}
	reconnect := backoff.DefaultConfig
	reconnect.MaxDelay = 5 * time.Second
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(tls),
		grpc.WithPerRPCCredentials(callerKey(key)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}),
		// Finds out that the other end of a watch is gone without a word.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return nil, err
	}
	return &Identity{
		conn:           conn,
		authorizations: pb.NewAuthorizationServiceClient(conn),
		accounts:       pb.NewAccountServiceClient(conn),
		profiles:       pb.NewProfileServiceClient(conn),
		tokens:         pb.NewAccessTokenServiceClient(conn),
	}, nil
}

// Close ends every call.
func (i *Identity) Close() error { return i.conn.Close() }

// AuthorizationURL says where to send the browser; with an account, to consent
// for it again; with more permissions than the app asks for by itself, such as
// those that a PERMISSION_MISSING names, to consent to these, too.
func (i *Identity) AuthorizationURL(ctx context.Context, userID string, binding []byte, accountID string, more ...string) (string, error) {
	link := &pb.CreateAuthorizationUrlRequest_Link{UserId: userID, SessionBinding: binding}
	scopes := more
	if accountID != "" {
		link.AccountId = &accountID
		// What a consent asks for takes the place of what the account had: ask for that, too.
		account, err := i.Account(ctx, accountID, userID)
		if err != nil {
			return "", err
		}
		scopes = slices.Concat(account.Scopes, more)
		slices.Sort(scopes)
		scopes = slices.Compact(scopes)
	}
	request := &pb.CreateAuthorizationUrlRequest{Flow: &pb.CreateAuthorizationUrlRequest_Link_{Link: link}, Scopes: scopes}
	created, err := i.authorizations.CreateAuthorizationUrl(ctx, request)
	return created.GetAuthorizationUrl(), AsError(err)
}

// Complete links what the browser came back with to whoever sits at it now.
func (i *Identity) Complete(ctx context.Context, ticket, userID string, binding []byte) (*pb.CompleteAuthorizationResponse, error) {
	done, err := i.authorizations.CompleteAuthorization(ctx, &pb.CompleteAuthorizationRequest{
		Answer:         &pb.CompleteAuthorizationRequest_Ticket{Ticket: ticket},
		UserId:         &userID,
		SessionBinding: binding,
	})
	return done, AsError(err)
}

// Profile reads a profile; a fresh one is read from Threads again first.
func (i *Identity) Profile(ctx context.Context, accountID, userID string, fresh bool) (*pb.AccountProfile, error) {
	request := &pb.GetProfileRequest{
		Account: &pb.GetProfileRequest_AccountId{AccountId: accountID},
		UserId:  &userID,
	}
	if fresh {
		request.MaxAge = durationpb.New(0)
	}
	got, err := i.profiles.GetProfile(ctx, request)
	return got.GetProfile(), AsError(err)
}

// AccessToken fetches a token for Threads. Use it and drop it: it is not to be
// stored.
func (i *Identity) AccessToken(ctx context.Context, accountID, userID string, scopes []string, purpose string) (string, error) {
	fetched, err := i.tokens.FetchAccessToken(ctx, &pb.FetchAccessTokenRequest{
		AccountId:      accountID,
		UserId:         userID,
		RequiredScopes: scopes,
		Purpose:        purpose,
	})
	return fetched.GetAccessToken(), AsError(err)
}

// ReportInvalid says that Threads refused a token, and tells how the account
// stands now.
func (i *Identity) ReportInvalid(ctx context.Context, accountID, userID, token string) (*pb.Account, error) {
	hash := sha256.Sum256([]byte(token))
	reported, err := i.tokens.ReportInvalidToken(ctx, &pb.ReportInvalidTokenRequest{
		AccountId:   accountID,
		UserId:      userID,
		TokenSha256: hash[:],
	})
	return reported.GetAccount(), AsError(err)
}

// Account gets one account.
func (i *Identity) Account(ctx context.Context, accountID, userID string) (*pb.Account, error) {
	got, err := i.accounts.GetAccount(ctx, &pb.GetAccountRequest{
		Account: &pb.GetAccountRequest_AccountId{AccountId: accountID},
		UserId:  &userID,
	})
	return got.GetAccount(), AsError(err)
}

// Unlink ends a link; its token and profile are destroyed at once. It answers with
// the account, which is unlinked now.
func (i *Identity) Unlink(ctx context.Context, accountID, userID string) (*pb.Account, error) {
	unlinked, err := i.accounts.UnlinkAccount(ctx, &pb.UnlinkAccountRequest{AccountId: accountID, UserId: userID})
	return unlinked.GetAccount(), AsError(err)
}

// ListAccounts lists every account of the app that is linked.
func (i *Identity) ListAccounts(ctx context.Context) ([]*pb.Account, error) {
	var found []*pb.Account
	request := &pb.ListAccountsRequest{PageSize: 200}
	for {
		page, err := i.accounts.ListAccounts(ctx, request)
		if err != nil {
			return nil, AsError(err)
		}
		found = append(found, page.Accounts...)
		if page.NextPageToken == "" {
			return found, nil
		}
		request.PageToken = page.NextPageToken
	}
}

// Watch opens a watch of the whole app; without a cursor, from now on.
func (i *Identity) Watch(ctx context.Context, cursor string) (grpc.ServerStreamingClient[pb.WatchAccountsResponse], error) {
	request := &pb.WatchAccountsRequest{}
	if cursor != "" {
		request.Cursor = &cursor
	}
	return i.accounts.WatchAccounts(ctx, request)
}
