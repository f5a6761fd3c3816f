package proxy

import (
	"io"
	"net/http"
)

// relay answers with what the daemon answered, and closes it. What is there is sent on
// at once: followers of logs, events and builds wait for every line. An answer that
// breaks off in the middle breaks off for the client too.
func (f *forwarder) relay(w http.ResponseWriter, resp *http.Response) {
	defer resp.Body.Close()
	copyHead(w.Header(), resp)
	w.WriteHeader(resp.StatusCode)
	if err := f.copyBody(w, resp); err != nil {
		f.log.Debug("answer broke off", "path", resp.Request.URL.RequestURI(), "error", err)
		panic(http.ErrAbortHandler)
	}
	for name, values := range resp.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
}

// copyHead prepares the header of the answer, down to what net/http would add.
func copyHead(h http.Header, resp *http.Response) {
	dropHopByHop(resp.Header)
	h["Date"], h["Content-Type"] = nil, nil
	for name, values := range resp.Header {
		h[name] = values
	}
	for name := range resp.Trailer {
		h.Add("Trailer", name)
	}
	if body, ok := resp.Request.Body.(*upload); ok && !body.done() {
		// An early answer. The server can't take the next request from a connection
		// whose body the transport may still be reading.
		h.Set("Connection", "close")
	}
}

func (f *forwarder) copyBody(w http.ResponseWriter, resp *http.Response) error {
	out := http.NewResponseController(w)
	if resp.ContentLength < 0 {
		if err := out.Flush(); err != nil {
			return err
		}
	}
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}
