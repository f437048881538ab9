// Package falrpc connects Go programs to falrpc, the gRPC gateway to fal.ai, and reads its answers and errors.
// Messages and the client are in [github.com/falrpc/falrpc/generated/go/falrpc/v1]. Give every call a deadline.
package falrpc

import (
	"context"
	_ "embed"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

//go:embed service_config.json
var serviceConfig string

// Dial makes a connection to the gateway at target, a name as [grpc.NewClient] takes it, to be shared by all
// goroutines and closed at the end. Nothing is sent before the first call. Options come after the defaults and
// so replace them. The defaults are:
//
//   - TLS with the system's certificate authorities; plaintext when target is localhost or a loopback address.
//     [grpc.WithTransportCredentials] gives other authorities, client certificates, or plaintext in a mesh.
//   - Calls are spread over all addresses of target: dns:///name:port of a headless service.
//   - Status, StreamStatus, Result and Cancel are tried up to three times while they end UNAVAILABLE. No call
//     that may cost money is repeated; see [SafeToRepeat].
//   - Messages of up to 64 MiB, both ways: gRPC's own default of 4 MiB loses outputs that are paid for.
//   - A ping after 30 s of silence, also between calls; without an answer for 10 s the connection is given up.
func Dial(target string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	security := credentials.NewTLS(nil)
	if isLoopback(target) {
		security = insecure.NewCredentials()
	}
	if !strings.HasPrefix(target, "xds:") { // else a TXT record of the name could have paid calls repeated
		options = append([]grpc.DialOption{grpc.WithDisableServiceConfig()}, options...)
	}
	return grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)),
	}, options...)...)
}

// WithToken sends a bearer token, unless it is empty, with every call, also over plaintext where that was chosen.
func WithToken(token string) grpc.DialOption { return grpc.WithPerRPCCredentials(bearer(token)) }

type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if token == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// isLoopback says whether target can't be but this machine. Names of other schemes are left to their resolvers.
func isLoopback(target string) bool {
	target = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(target, "dns:"), "passthrough:"), "///")
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = strings.Trim(target, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || (err == nil && ip.IsLoopback())
}
