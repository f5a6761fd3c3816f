package s3

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	connections    = 64
	connectTimeout = 10 * time.Second
	regionHeader   = "X-Amz-Bucket-Region"
	maxErrorBody   = 64 << 10
)

// httpClient goes on from base, which has the authorities of AWS_CA_BUNDLE.
func (c Config) httpClient(base *awshttp.BuildableClient) (*http.Client, error) {
	t := base.WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout }).GetTransport()
	t.TLSHandshakeTimeout = connectTimeout
	t.MaxIdleConns, t.MaxIdleConnsPerHost = connections, connections
	// A connection for each request in flight: HTTP/2 would put them all on one.
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	if c.dial != nil {
		t.DialContext = c.dial
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s has no PEM certificate", c.CAFile)
		}
	}
	return &http.Client{
		Transport: regionFinder{
			next: watcher{next: t, stall: c.Stall},
			in:   regexp.MustCompile(`<Region>([a-z0-9-]+)</Region>`),
		},
		// A request is signed for one host, so a redirect cannot be followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// regionFinder puts the region that the body of a redirect or a refusal names where
// AWS has it too, into a header: the SDK does not hand out that body.
type regionFinder struct {
	next http.RoundTripper
	in   *regexp.Regexp
}

func (f regionFinder) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(r)
	if err != nil || resp.Header.Get(regionHeader) != "" ||
		resp.StatusCode != http.StatusBadRequest && resp.StatusCode/100 != 3 {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if found := f.in.FindSubmatch(body); found != nil {
		resp.Header.Set(regionHeader, string(found[1]))
	}
	return resp, nil
}

func (f regionFinder) CloseIdleConnections() { closeIdle(f.next) }

// watcher ends an exchange in which no byte moves for too long.
type watcher struct {
	next  http.RoundTripper
	stall time.Duration
}

// stalled is the end of an exchange in which no byte moved for so long.
type stalled struct{ after time.Duration }

func (e *stalled) Error() string   { return fmt.Sprintf("nothing moved for %s", e.after) }
func (e *stalled) Timeout() bool   { return true }
func (e *stalled) Temporary() bool { return true }

func (w watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	// When the last byte of a body is handed over, megabytes of it may wait in the
	// kernel for a slow line, and the answer comes after them.
	patience := w.stall + time.Duration(max(r.ContentLength, 0)>>20)*time.Second
	ctx, cancel := context.WithCancelCause(r.Context())
	x := &exchange{ctx: ctx, cancel: cancel, patience: patience}
	x.timer = time.AfterFunc(patience, func() { cancel(&stalled{patience}) })

	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &moving{ReadCloser: r.Body, x: x}
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		err = x.cause(err)
		x.end()
		return nil, err
	}
	x.timer.Reset(patience)
	resp.Body = &moving{ReadCloser: resp.Body, x: x, last: true}
	return resp, nil
}

func (w watcher) CloseIdleConnections() { closeIdle(w.next) }

func closeIdle(t http.RoundTripper) {
	if c, ok := t.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// exchange is a request and its answer.
type exchange struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
}

func (x *exchange) end() {
	x.timer.Stop()
	x.cancel(nil)
}

// cause is the stall if that was behind err.
func (x *exchange) cause(err error) error {
	var s *stalled
	if errors.As(context.Cause(x.ctx), &s) {
		return s
	}
	return err
}

// moving is a body whose reads are progress; closing the last one ends the exchange.
type moving struct {
	io.ReadCloser
	x    *exchange
	last bool
}

func (m *moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.x.timer.Reset(m.x.patience)
	}
	if err != nil && err != io.EOF {
		err = m.x.cause(err)
	}
	return n, err
}

func (m *moving) Close() error {
	err := m.ReadCloser.Close()
	if m.last {
		m.x.end()
	}
	return err
}
