package migrate
import ("testing";"context";"io";"strings";"time";"runtime";"sync/atomic")
type manyRead struct{ many }
func (m manyRead) Open(context.Context, string, string, int64) (io.ReadCloser, Meta, error) {
	return io.NopCloser(strings.NewReader("x")), Meta{Size: 1, User: map[string]string{"mtime":"5"}}, nil
}
func TestZZ(t *testing.T) {
	var peak atomic.Int64
	stop := make(chan struct{})
	go func(){ for { select{case <-stop: return; case <-time.After(200*time.Millisecond):}; var m runtime.MemStats; runtime.ReadMemStats(&m); peak.Store(max(peak.Load(), int64(m.HeapInuse))) } }()
	cfg := configFor(t, manyRead{many{200000}}, staging(t))
	for range 2 {
	b := time.Now()
	r := fetched(t, cfg)
	t.Log(time.Since(b), r.Files, r.Fetched, peak.Load()>>20, "MiB")
	}
	close(stop)
}
