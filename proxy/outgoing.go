package proxy

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
)

// outgoing turns a received request into one to send. The *upload is its body, nil if
// it has none.
func outgoing(r *http.Request) (*http.Request, *upload) {
	out := r.WithContext(r.Context())
	out.URL = &url.URL{Scheme: "http", Host: "docker", Opaque: r.RequestURI}
	if strings.HasPrefix(r.RequestURI, "//") { // Opaque would gain a scheme
		out.URL = &url.URL{Scheme: "http", Host: "docker", Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	}
	out.RequestURI = ""
	out.Close = false
	out.TransferEncoding = nil
	out.Header = r.Header.Clone()
	dropHopByHop(out.Header)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or the transport names itself
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		out.Body = nil
		return out, nil
	}
	body := &upload{src: r.Body, left: r.ContentLength}
	out.Body = body
	return out, body
}

// replace returns r with another request line and body, a JSON document. It is what a
// rewritten request is sent as.
func replace(r *http.Request, uri string, body []byte) *http.Request {
	out := r.WithContext(r.Context())
	out.RequestURI = uri
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	out.Trailer = nil
	out.Header = r.Header.Clone()
	out.Header.Set("Content-Type", "application/json")
	out.Header.Del("Expect") // it asked about the body that is already here
	return out
}

// An upload is the client's body on its way to the daemon. The transport may still
// read it when the answer is complete. Closing it is left to the server, whose Close
// waits for the client.
type upload struct {
	src   io.Reader
	left  int64 // negative if the length is unknown
	state atomic.Int32
}

// The states of an upload.
const (
	uploading int32 = iota
	uploaded
	uploadFailed
)

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.src.Read(p)
	if u.left >= 0 {
		u.left -= int64(n)
	}
	switch {
	case err == io.EOF, u.left == 0:
		u.state.Store(uploaded)
	case err != nil:
		u.state.Store(uploadFailed)
	}
	return n, err
}

func (u *upload) Close() error { return nil }
func (u *upload) done() bool   { return u.state.Load() == uploaded }
func (u *upload) failed() bool { return u.state.Load() == uploadFailed }

// dropHopByHop removes the headers that speak about one connection only (RFC 9110,
// section 7.6.1), except the wish for trailers.
func dropHopByHop(h http.Header) {
	trailers := strings.EqualFold(h.Get("Te"), "trailers")
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range []string{
		"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate",
		"Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		h.Del(name)
	}
	if trailers {
		h.Set("Te", "trailers")
	}
}
