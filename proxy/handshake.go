package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// ask sends the request and waits for the daemon's answer.
func (t *tunnel) ask() (*http.Response, error) {
	// Written or not, the daemon may have answered: it refuses before it reads a body.
	writeErr := t.request.Write(t.daemon)
	for {
		resp, err := http.ReadResponse(t.fromDaemon, t.request)
		if err != nil {
			if writeErr != nil {
				err = writeErr
			}
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// watchClient aborts the tunnel when the client hangs up. Nothing may read the client
// until the function that it returns has been called; that one waits for the watcher.
func (t *tunnel) watchClient() (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if awaitHangup(t.client) {
			t.abort()
		}
	}()
	return func() {
		t.client.SetReadDeadline(time.Unix(1, 0))
		<-done
		t.client.SetReadDeadline(time.Time{})
	}
}

// switchHead is the head of an answer after which both sides speak freely.
func switchHead(resp *http.Response) []byte {
	upgrade := resp.Header["Upgrade"]
	dropHopByHop(resp.Header)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Header["Connection"] = []string{"Upgrade"}
		resp.Header["Upgrade"] = upgrade
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %s\r\n", resp.Status)
	resp.Header.Write(&head) // a bytes.Buffer takes everything
	head.WriteString("\r\n")
	return head.Bytes()
}

// answer relays an ordinary answer, after which the connection ends: what the client
// sent for the tunnel that did not come about must not be taken for a request. An answer
// that breaks off is cut off for the client too.
func (t *tunnel) answer(resp *http.Response) error {
	dropHopByHop(resp.Header)
	resp.Request = t.request
	resp.Close = true
	return resp.Write(t.client)
}

// leave ends the client's connection when everything has been sent. To close it with
// something unread would reset a TCP connection, and the answer with it.
func (t *tunnel) leave() {
	closeWrite(t.client)
	t.client.SetReadDeadline(time.Now().Add(linger))
	io.Copy(io.Discard, t.client)
}

// refusal answers a request that the daemon did not.
func (f *forwarder) refusal(err error) *http.Response {
	err = f.noAnswer(context.Background(), err)
	body := faultBody(err)
	return &http.Response{
		StatusCode: statusOf(err), ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(bytes.NewReader(body)),
	}
}
