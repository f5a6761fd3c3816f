package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// recorder passes requests on to the store and remembers them. Clients reach it through
// a link: it sees a request at once, and its answer reaches the client later.
type recorder struct {
	Address string

	mu       sync.Mutex // mu guards requests
	requests []request
}

// request is one that was answered.
type request struct {
	what       string // method and key
	start, end time.Time
	sent       int64 // bytes of its body
}

func startRecorder(endpoint string) (*recorder, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &recorder{Address: l.Addr().String()}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(u)
			p.Out.Host = p.In.Host // it is signed
		},
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		FlushInterval: -1,
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		done := request{what: about(req), start: time.Now(), sent: max(0, req.ContentLength)}
		proxy.ServeHTTP(w, req)
		done.end = time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests = append(r.requests, done)
	})
	go func() { _ = http.Serve(l, handler) }() // as long as the process
	return r, nil
}

// about is a request's method and the end of its key.
func about(req *http.Request) string {
	key := req.URL.Path
	if parts := strings.SplitN(key, "/", 3); len(parts) == 3 {
		key = parts[2]
	}
	if len(key) > 32 {
		key = key[:32] + "…"
	}
	if prefix := req.URL.Query().Get("prefix"); prefix != "" {
		return "LIST " + prefix
	}
	return req.Method + " " + key
}

// during returns the requests that were answered in that time, in order of their start.
func (r *recorder) during(from, until time.Time) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []request
	for _, q := range r.requests {
		if !q.start.Before(from) && !q.end.After(until) {
			out = append(out, q)
		}
	}
	return sorted(out)
}

func sorted(requests []request) []request {
	slices.SortFunc(requests, func(a, b request) int { return a.start.Compare(b.start) })
	return requests
}

// chain is the longest row of requests each of which began only after the answer to the
// one before it had reached the client: where delay lies between store and client, none
// of them can have been sent earlier for want of that answer.
func chain(requests []request, delay time.Duration) []request {
	best := make([][]request, len(requests))
	var longest []request
	for i, q := range requests {
		for j := range i {
			if !q.start.Before(requests[j].end.Add(delay)) && len(best[j]) > len(best[i]) {
				best[i] = best[j]
			}
		}
		best[i] = append(slices.Clip(best[i]), q)
		if len(best[i]) > len(longest) {
			longest = best[i]
		}
	}
	return longest
}

func names(requests []request) string {
	var out []string
	for _, q := range requests {
		out = append(out, q.what)
	}
	return strings.Join(out, ", ")
}

// timeline is for people who want to know where time goes.
func timeline(from time.Time, requests []request) string {
	var s strings.Builder
	for _, q := range requests {
		fmt.Fprintf(&s, "   %7.1f … %7.1f ms  %s\n", ms(q.start.Sub(from)), ms(q.end.Sub(from)), q.what)
	}
	return s.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
