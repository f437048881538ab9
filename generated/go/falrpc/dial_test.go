package falrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/falrpc/falrpc/generated/go/falrpc"
	falrpcv1 "github.com/falrpc/falrpc/generated/go/falrpc/v1"
)

// TestToken proves that the token goes with each call over plaintext, too, and an empty one does not.
func TestToken(t *testing.T) {
	arrived := make(chan []string, 1)
	g := &gateway{every: func(ctx context.Context) error {
		arrived <- authorization(ctx)
		return nil
	}}
	target := g.serve(t)
	for _, one := range []struct {
		token string
		want  []string
	}{{"a.b-c", []string{"Bearer a.b-c"}}, {"", nil}} {
		c := client(t, target, falrpc.WithToken(one.token))
		for range 2 {
			if _, err := c.Run(within(t), &falrpcv1.RunRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := <-arrived; !reflect.DeepEqual(got, one.want) {
				t.Errorf("with token %q arrived %q, want %q", one.token, got, one.want)
			}
		}
	}
}

// TestTokenThatNoHeaderCarries proves that such a token fails the call before it is sent, and is not shown.
func TestTokenThatNoHeaderCarries(t *testing.T) {
	g := &gateway{}
	_, err := client(t, g.serve(t), falrpc.WithToken("secret\n")).Run(within(t), &falrpcv1.RunRequest{})
	if err == nil || strings.Contains(err.Error(), "secret") || g.calls.Load() != 0 {
		t.Errorf("%v after %d calls", err, g.calls.Load())
	}
}

// TestSecurity proves that TLS is spoken to all but loopback targets, unless an option says otherwise.
func TestSecurity(t *testing.T) {
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	encrypted := grpc.WithTransportCredentials(credentials.NewTLS(nil))
	for _, one := range []struct {
		target string
		isTLS  bool
		option grpc.DialOption
	}{
		{"localhost:50051", false, nil},
		{"LocalHost:50051", false, nil},
		{"localhost", false, nil},
		{"127.0.0.1:50051", false, nil},
		{"127.9.8.7:50051", false, nil},
		{"127.0.0.1", false, nil},
		{"[::1]:50051", false, nil},
		{"[::1]", false, nil},
		{"dns:127.0.0.1:50051", false, nil},
		{"dns:///127.0.0.1:50051", false, nil},
		{"passthrough:///localhost:50051", false, nil},
		{"192.0.2.1:50051", true, nil},
		{"dns:///192.0.2.1:50051", true, nil},
		{"[2001:db8::1]:50051", true, nil},
		{"0.0.0.0:50051", true, nil},
		{"passthrough:///gateway:50051", true, nil},
		{"passthrough:///localhost.example:50051", true, nil},
		{"passthrough:///127.0.0.1.example:50051", true, nil},
		{"passthrough:///gateway:50051", false, plaintext},
		{"127.0.0.1:50051", true, encrypted},
	} {
		first := make(chan byte, 8)
		options := []grpc.DialOption{grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				byteOne := make([]byte, 1)
				if _, err := io.ReadFull(far, byteOne); err == nil {
					first <- byteOne[0]
				}
			}()
			return near, nil
		})}
		if one.option != nil {
			options = append(options, one.option)
		}
		conn, err := falrpc.Dial(one.target, options...)
		if err != nil {
			t.Fatalf("%s: %v", one.target, err)
		}
		conn.Connect()
		select {
		case got := <-first: // a TLS handshake begins with 22, HTTP/2 with "PRI"
			if isTLS := got == 22; isTLS != one.isTLS || (!isTLS && got != 'P') {
				t.Errorf("%s: TLS %v, want %v", one.target, isTLS, one.isTLS)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: nothing was sent", one.target)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCertificates proves that a certificate is checked, with one's own authorities where an option gives them.
func TestCertificates(t *testing.T) {
	now := time.Now()
	for _, one := range []struct {
		name    string
		expires time.Time
		isKnown bool
		want    string
	}{
		{"valid", now.Add(time.Hour), true, ""},
		{"expired", now.Add(-time.Hour), true, "certificate has expired"},
		{"of an unknown authority", now.Add(time.Hour), false, "certificate signed by unknown authority"},
	} {
		t.Run(one.name, func(t *testing.T) {
			certificate, authorities := selfSigned(t, one.expires)
			if !one.isKnown {
				authorities = x509.NewCertPool()
			}
			g := &gateway{}
			target := g.serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
			ours := credentials.NewTLS(&tls.Config{RootCAs: authorities})
			c := client(t, target, falrpc.WithToken("a"), grpc.WithTransportCredentials(ours))
			_, err := c.Run(within(t), &falrpcv1.RunRequest{})
			if one.want == "" && err != nil {
				t.Error(err)
			}
			if one.want != "" && (status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), one.want)) {
				t.Errorf("%v, want %s", err, one.want)
			}
			if falrpc.SafeToRepeat(err) {
				t.Error("promised by nobody")
			}
		})
	}
}

func selfSigned(t *testing.T, expires time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: expires.Add(-2 * time.Hour), NotAfter: expires,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authorities
}

// TestMessageSizes proves that 64 MiB come and go, more is refused here, and a later option replaces the limit.
func TestMessageSizes(t *testing.T) {
	const mebibyte = 1 << 20
	g := &gateway{run: func(request *falrpcv1.RunRequest) (*falrpcv1.RunResponse, error) {
		return &falrpcv1.RunResponse{Output: &falrpcv1.Output{
			Value: &falrpcv1.Output_Json{Json: request.GetInput().GetJson()},
		}}, nil
	}}
	target := g.serve(t)
	echo := func(c falrpcv1.FalServiceClient, bytes int) (int, error) {
		text := strings.Repeat("a", bytes)
		response, err := c.Run(within(t), &falrpcv1.RunRequest{
			Input: &falrpcv1.Input{Value: &falrpcv1.Input_Json{Json: text}},
		})
		return len(response.GetOutput().GetJson()), err
	}
	c := client(t, target)
	if got, err := echo(c, 63*mebibyte); err != nil || got != 63*mebibyte {
		t.Errorf("%d bytes, %v", got, err)
	}
	if _, err := echo(c, 64*mebibyte); status.Code(err) != codes.ResourceExhausted || g.calls.Load() != 1 {
		t.Errorf("%v after %d calls", err, g.calls.Load())
	}
	less := client(t, target, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mebibyte)))
	if _, err := echo(less, 2*mebibyte); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v, want RESOURCE_EXHAUSTED", err)
	}
}

// TestServiceConfigOfTheName proves that whoever answers for the target's name can't have paid calls repeated.
func TestServiceConfigOfTheName(t *testing.T) {
	g := &gateway{every: func(context.Context) error { return failure(t, codes.Unavailable, ours()) }}
	names := manual.NewBuilderWithScheme("published")
	names.BuildCallback = func(_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) {
		names.InitialState(resolver.State{
			Addresses: []resolver.Address{{Addr: g.serve(t)}},
			ServiceConfig: conn.ParseServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {
				"maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
				"retryableStatusCodes": ["UNAVAILABLE"]}}]}`),
		})
	}
	c := client(t, "published:///gateway", grpc.WithResolvers(names),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	_, err := c.Run(within(t), &falrpcv1.RunRequest{})
	if status.Code(err) != codes.Unavailable || g.calls.Load() != 1 {
		t.Errorf("%v after %d calls, want UNAVAILABLE after 1", err, g.calls.Load())
	}
	_, err = c.Status(within(t), &falrpcv1.StatusRequest{})
	if status.Code(err) != codes.Unavailable || g.calls.Load() != 1+3 {
		t.Errorf("%v after %d calls, want UNAVAILABLE after 4", err, g.calls.Load())
	}
}

// TestBalance proves that calls are spread over all addresses of a target.
func TestBalance(t *testing.T) {
	gateways := []*gateway{{}, {}, {}}
	var addresses []resolver.Address
	for _, g := range gateways {
		addresses = append(addresses, resolver.Address{Addr: g.serve(t)})
	}
	names := manual.NewBuilderWithScheme("replicas")
	names.InitialState(resolver.State{Addresses: addresses})
	c := client(t, "replicas:///gateway", grpc.WithResolvers(names),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err := c.Run(within(t), &falrpcv1.RunRequest{}); err != nil {
			t.Fatal(err)
		}
		if gateways[0].calls.Load() > 0 && gateways[1].calls.Load() > 0 && gateways[2].calls.Load() > 0 {
			return
		}
	}
	t.Error("a gateway got no call")
}
