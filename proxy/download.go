package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// isDownload tells whether r asks for an archive, which may be many gigabytes: docker
// save, export and cp.
func isDownload(r *http.Request) bool {
	if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 {
		return false
	}
	path := unversioned(r.URL.Path)
	return path == "/images/get" || between(path, "/images/", "/get") ||
		between(path, "/containers/", "/export") || between(path, "/containers/", "/archive")
}

// download carries an archive. It takes both connections for itself, so that the body
// needs no looking at: it goes over as it is framed, and ends with the connections.
func (f *forwarder) download(w http.ResponseWriter, r *http.Request) {
	t, err := f.openTunnel(w, r)
	if err != nil {
		w.Header().Set("Connection", "close")
		writeFault(w, err)
		return
	}
	defer f.forget(t)
	defer t.abort()
	stop := t.watchClient()
	defer stop()
	t.request.Close = true
	resp, err := t.ask()
	if err == nil {
		err = t.moveBody(resp)
	} else {
		err = t.answer(f.refusal(err))
	}
	if err != nil {
		f.log.Debug("download broke off", "path", r.URL.Path, "error", err)
		return
	}
	stop()
	t.leave()
}

// moveBody sends the head of resp and what follows it.
func (t *tunnel) moveBody(resp *http.Response) error {
	ahead, err := t.fromDaemon.Peek(t.fromDaemon.Buffered())
	if err != nil {
		return err
	}
	if _, err := t.client.Write(append(closingHead(resp), ahead...)); err != nil {
		return err
	}
	return move(t.client, t.daemon)
}

// closingHead is the head of an answer whose body follows as the daemon framed it, and
// after which the connection ends.
func closingHead(resp *http.Response) []byte {
	framing := resp.TransferEncoding
	dropHopByHop(resp.Header)
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %s\r\nConnection: close\r\n", resp.Status)
	if len(framing) > 0 {
		fmt.Fprintf(&head, "Transfer-Encoding: %s\r\n", strings.Join(framing, ", "))
	}
	resp.Header.Write(&head) // a bytes.Buffer takes everything
	head.WriteString("\r\n")
	return head.Bytes()
}
